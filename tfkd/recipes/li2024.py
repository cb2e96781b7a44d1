"""Li, Shao, Qiu and Song, "Multi-perspective analysis on data augmentation in knowledge
distillation", Neurocomputing 583:127516 (2024).

From the paper: augmentation helps distillation even where the teacher never saw augmented images;
several operations together (joint data augmentation, JDA) are better than one; a teacher that is
trained with them is a better teacher of itself but not of the student; and the share of augmented
images must be in a suitable range. From the authors' code: the operations, see `tfkd.data.jda`; the
loss (CCD), of a batch of B images x and their augmented views x~,

    w = 1 + cos(z_T(x), z_T(x~))
    L = 2 [alpha · CE(of all 2 B) + (1 - alpha) · T² · 1/2 {mean KL(x) + mean w KL(x~)}]

with T = 4 and alpha = 1/2: `label_weight` is 2 alpha, `distill_weight` 2 (1 - alpha).

As it is done here: each image that a student sees is augmented or plain, by chance
(`augmented_share`, half of them), and the loss is the mean over such images of w' · KL, w' = w for
an augmented view and 1 for a plain one. That is the same sum, but the two views of an image need
not stand in one batch, as the weight is the teacher's alone: its logits for the plain view, with a
crop of its own, are stored beside those for the view that is seen. At operation_probability 0 and
without another augmentation both views are one image, w is 2, and the "augmented" half counts
twice; at augmented_share 0 nothing is left but plain distillation.

Reconstruction: networks, budget and optimizer (theirs: SGD, 240 epochs, a WideResNet); every row
sees the same images, also the student alone. The share of augmented images that the paper tries is
not known to us, nor its tables.
"""

from typing import ClassVar

import tfkd
from tfkd.recipes.base import Recipe, System
from tfkd.settings.base import Above0, AtLeast0, SettingsError, Share
from tfkd.settings.recipe import RecipeSettings
from tfkd.settings.training import Augmentation

SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)


class Li2024(RecipeSettings):
    """Loss and operations of the authors' code, with its probability for CIFAR-10."""

    recipe: ClassVar = "li2024"

    augment: Augmentation = "crop_flip"
    """Augmentation of all images, after the operations."""
    temperature: Above0 = 4.0
    """Softens both models' logits."""
    label_weight: AtLeast0 = 1.0
    """Weight of the labels."""
    distill_weight: AtLeast0 = 1.0
    """Weight of the distilled logits."""
    augmented_share: Share = 0.5
    """Share of the images that students see after the fourteen operations."""
    operation_probability: Share = 0.5
    """Probability of each of the operations: 0.5 for CIFAR-10, 0.3 for CIFAR-100, 0.2 for
    ImageNet."""
    confident: bool = True
    """Weigh augmented images by the teacher's confidence."""
    augmented_teacher: bool = False
    """Train the teacher on images after the operations, too."""

    def check(self):
        super().check()
        if self.augment == "jda":
            raise SettingsError(
                'augment is "jda", but the recipe applies these operations by itself, to the share '
                'augmented_share of the images. Give what comes after them, such as "crop_flip".'
            )
        if not self.label_weight and not self.distill_weight:
            raise SettingsError("label_weight and distill_weight are 0: nothing would train.")
        if self.augmented_teacher and self.teacher_is_given:
            raise SettingsError(
                f'augmented_teacher says how a teacher is trained, but "{self.teacher}" is trained '
                "already. Leave it out, or name a model to train."
            )

    @property
    def _operations(self):
        return {"probability": self.operation_probability, "augment": self.augment}

    @property
    def separate_augmentation(self):
        return "two_views", {"share": self.augmented_share, **self._operations}

    @property
    def augmentation(self):
        name, options = self.separate_augmentation
        return name, {**options, "separate": False}

    @property
    def teacher_augmentation(self):
        return ("jda", self._operations) if self.augmented_teacher else (self.augment, {})


def build(settings, teacher, student):
    """Labels, and logits weighed by the teacher's confidence."""
    loss = tfkd.losses.LogitsDistillation(settings.temperature)
    system = System(student, [loss], [settings.distill_weight], settings.label_weight)
    if not settings.confident:
        return system
    return system._replace(
        losses=[tfkd.losses.ConfidenceDistillation(settings.temperature)],
        source=tfkd.teachers.TwoViews(teacher),
        source_name="two views",
        separate_inputs=True,
    )


def ablations(settings):
    """Plain weights, other shares of augmented images, a teacher that was trained on them."""
    shares = {
        f"{100 * share:g} % augmented": settings.replace(augmented_share=share)
        for share in SHARES
        if share != settings.augmented_share
    }
    rows = {"without confidence": settings.replace(confident=False), **shares}
    if not settings.teacher_is_given:
        rows["augmented teacher"] = settings.replace(augmented_teacher=True)
    return rows


RECIPE = Recipe(
    name="li2024",
    paper="Li et al., Neurocomputing 583:127516 (2024)",
    task="image classification with joint augmentation",
    reconstruction="Networks and budget, and that both views of an image need not stand in one "
    "batch; operations and loss are those of the authors' code.",
    settings=Li2024,
    build=build,
    ablations=ablations,
)
