"""Sur, Chatterjee, Ghosh et al., "Improved Knowledge Distillation for Land-Use Image
Classification", arXiv:2606.14886 (2026).

From the paper (its abstract): a VGG16 teaches a MobileNetV2 by labels, KL divergence and cosine
similarity; on three land-use data sets that beats the student alone and either loss alone.

Reconstruction: the data sets, the temperature, the weights and what the cosine compares are not
named. The loss is

    L = label_weight · CE(y, s)
      + (1 - label_weight) · [kl_share · T² KL(t || s) + (1 - kl_share) · (1 - cos(t, s))]

with the cosine of centred logits (`cosine_on`: softened probabilities, or the features of both
networks' last stage). A teacher's inner layers can be added as hints, which the abstract does not
speak of: `--hints`.

The defaults, VGG16 and MobileNetV2 from random weights on `digits`, are a smoke run: so short that
the teacher learns nothing. For land use give any folder of images or TFDS set (eurosat, uc_merced,
resisc45, rsscn7), `--epochs` and `--seeds`. `--teacher-option weights=imagenet --student-option
weights=imagenet` starts both from ImageNet (a download, or the path of a weights file instead of
"imagenet"); a teacher may be any `.keras` file. `--student-option image_size=64` lets the student
shrink the images that the teacher sees at full size.
"""

from typing import ClassVar, Literal

import tfkd
from tfkd.recipes import hints
from tfkd.recipes.base import Recipe, System
from tfkd.settings.base import Above0, AtLeast0, Count, Share, options
from tfkd.settings.distill import AUTO, NONE, Hints
from tfkd.settings.recipe import RecipeSettings
from tfkd.settings.training import Augmentation


class Sur2026(RecipeSettings):
    """The paper's networks; temperature and weights are ours. The budget is that of a smoke run."""

    recipe: ClassVar = "sur2026"

    epochs: Count = 3
    """Epochs of each student."""
    teacher_epochs: Count = 1
    """Epochs of a teacher that is trained."""
    seeds: Count = 1
    """How many times the student is trained anew."""
    augment: Augmentation = "flip"
    """Augmentation."""
    teacher: str = "VGG16"
    """Model to train as teacher, or a trained one: a .keras file, or package.module:function."""
    student: str = "MobileNetV2"
    """Model to train as student: a name, package.module:function, or a .keras file."""
    student_options: options("--student-option", alpha=0.35)
    """Of the student's model, such as image_size=64 (repeatable)."""
    temperature: Above0 = 4.0
    """Softens both models' logits."""
    label_weight: Share = 0.5
    """Weight of the loss on the labels; distillation has the rest of 1."""
    kl_share: Share = 0.5
    """The KL divergence's share of distillation; cosine has the rest."""
    cosine_on: Literal["logits", "probabilities", "features"] = "logits"
    """What the cosine compares."""
    hints: Hints = NONE
    """auto, none, or TEACHER_LAYER:STUDENT_LAYER (repeatable)."""
    hint_weight: AtLeast0 = 0.05
    """Weight of each hint."""


def build(settings, teacher, student):
    """Labels, KL divergence and cosine of the logits; hints where they are asked for."""
    soft = 1.0 - settings.label_weight
    layers = (None, None)
    if settings.cosine_on == "features":
        layers = hints.pairs(AUTO, teacher, student)[-1]
    cosine = tfkd.losses.CosineDistillation(settings.cosine_on, settings.temperature, *layers)
    terms = [
        (tfkd.losses.LogitsDistillation(settings.temperature), soft * settings.kl_share),
        (cosine, soft * (1.0 - settings.kl_share)),
    ]
    pairs = hints.pairs(settings.hints, teacher, student)
    terms += [(hint, settings.hint_weight) for hint in hints.losses(pairs)]
    terms = [(loss, weight) for loss, weight in terms if weight]
    losses, weights = ([term[side] for term in terms] for side in (0, 1))
    return System(student, losses, weights, settings.label_weight)


def ablations(settings):
    """With "student alone" (none) and the recipe (both) the paper's own comparison, and hints."""
    return {
        "KL only": settings.replace(kl_share=1.0),
        "cosine only": settings.replace(kl_share=0.0),
        "KL, cosine and hints": settings.replace(hints=AUTO),
    }


RECIPE = Recipe(
    name="sur2026",
    paper="Sur et al., arXiv:2606.14886 (2026)",
    task="land-use classification",
    reconstruction="Temperature, weights and what the cosine compares; the networks and the three "
    "parts of the loss are the paper's.",
    settings=Sur2026,
    build=build,
    ablations=ablations,
)
