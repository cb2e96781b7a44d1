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

from dataclasses import dataclass, replace

import tfkd
from tfkd.recipes.base import Recipe, RecipeSettings, System
from tfkd.runs import hinting
from tfkd.runs.settings import SettingsError, setting

COSINES = ("logits", "probabilities", "features")


@dataclass(frozen=True)
class Sur2026(RecipeSettings):
    """The paper's networks; temperature and weights are ours. The budget is that of a smoke run."""

    epochs: int = setting(3, "Epochs of each student.", minimum=1)
    teacher_epochs: int = setting(1, "Epochs of a teacher that is trained.", minimum=1)
    seeds: int = setting(1, "How many times the student is trained anew.", minimum=1)

    augment: str = setting("flip", "Augmentation: none, shift, crop, flip, crop_flip.")
    teacher: str = setting("VGG16", "Model to train as teacher, or a .keras file.")
    student: str = setting("MobileNetV2", "Model to train as student.")
    student_options: dict = setting(
        {"alpha": 0.35},
        "Of the student's model, such as image_size=64 (repeatable).",
        flag="--student-option",
    )
    temperature: float = setting(4.0, "Softens both models' logits.", above=0)
    label_weight: float = setting(
        0.5,
        "Weight of the loss on the labels; distillation has the rest of 1.",
        minimum=0,
        maximum=1,
    )
    kl_share: float = setting(
        0.5, "The KL divergence's share of distillation; cosine has the rest.", minimum=0, maximum=1
    )
    cosine_on: str = setting("logits", f"What the cosine compares: {', '.join(COSINES)}.")
    hints: str | tuple = setting("none", hinting.HELP)
    hint_weight: float = setting(0.05, "Weight of each hint.", minimum=0)

    def check(self):
        super().check()
        object.__setattr__(self, "hints", hinting.checked(self.hints))
        if self.cosine_on not in COSINES:
            raise SettingsError(
                f'cosine_on is "{self.cosine_on}"; expected one of {", ".join(COSINES)}.'
            )


def build(settings, teacher, student):
    """Labels, KL divergence and cosine of the logits; hints where they are asked for."""
    soft = 1.0 - settings.label_weight
    layers = (None, None)
    if settings.cosine_on == "features":
        layers = hinting.pairs("auto", teacher, student)[-1]
    cosine = tfkd.losses.CosineDistillation(settings.cosine_on, settings.temperature, *layers)
    terms = [
        (tfkd.losses.LogitsDistillation(settings.temperature), soft * settings.kl_share),
        (cosine, soft * (1.0 - settings.kl_share)),
    ]
    hints = hinting.losses(hinting.pairs(settings.hints, teacher, student))
    terms += [(hint, settings.hint_weight) for hint in hints]
    terms = [(loss, weight) for loss, weight in terms if weight]
    losses, weights = ([term[side] for term in terms] for side in (0, 1))
    return System(student, losses, weights, settings.label_weight)


def ablations(settings):
    """With "student alone" (none) and the recipe (both) the paper's own comparison, and hints."""
    return {
        "KL only": replace(settings, kl_share=1.0),
        "cosine only": replace(settings, kl_share=0.0),
        "KL, cosine and hints": replace(settings, hints="auto"),
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
