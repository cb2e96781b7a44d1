"""Umirzakova et al., Electronics 13(22):4530 (2024), doi 10.3390/electronics13224530: simplified
knowledge distillation on CIFAR-10.

From the paper (its abstract): a "streamlined" teacher; logits only, no intricate representation of
knowledge; compared with traditional distillation, ResNets and VGGs; the best hyper-parameters, by
highest validation accuracy and lowest validation loss, are T = 15.0 and a "smoothing factor" of
0.7.

Not the paper's own: the layer widths come from a third-party implementation that says it follows
the paper (see `tfkd.models.streamlined`); that the 0.7 belongs to the distillation term, not to the
labels, is that implementation's reading. The loss is

    L = (1 - distill_weight) · CE(y, s) + distill_weight · T² KL(t || s)

Without T² (225 here) the distillation would hardly move the student. `--ablate` is the paper's
sweep: one training a temperature and one a weight; the validation column is what to choose by.
"""

from typing import ClassVar

import tfkd
from tfkd.recipes.base import Recipe, System
from tfkd.settings.base import Above0, Numbers, SettingsError, Share
from tfkd.settings.recipe import RecipeSettings


class Umirzakova2024(RecipeSettings):
    """Temperature and weight as the paper found them; the sweep around them is ours."""

    recipe: ClassVar = "umirzakova2024"

    teacher: str = "streamlined_teacher"
    """Model to train as teacher, or a .keras file."""
    student: str = "streamlined_student"
    """Model to train as student."""
    learning_rate: Above0 = 0.001
    """Adam's first learning rate; it falls to 0 along a cosine."""
    temperature: Above0 = 15.0
    """Softens both models' logits."""
    distill_weight: Share = 0.7
    """Weight of the distilled logits; labels have the rest of 1."""
    sweep_temperatures: Numbers = (1.0, 5.0, 10.0, 20.0)
    """Temperatures that --ablate tries (repeatable)."""
    sweep_weights: Numbers = (0.1, 0.4, 0.9)
    """Values of distill_weight that --ablate tries (repeatable)."""

    def check(self):
        super().check()
        for name, most in (("sweep_temperatures", float("inf")), ("sweep_weights", 1.0)):
            values = getattr(self, name)
            if not all(0 < value <= most for value in values):
                at_most = f" and at most {most}" if most == 1 else ""
                raise SettingsError(f"{name} is {list(values)}; expected numbers above 0{at_most}.")


def build(settings, teacher, student):
    """Labels and softened logits, nothing else."""
    del teacher
    loss = tfkd.losses.LogitsDistillation(settings.temperature)
    return System(student, [loss], [settings.distill_weight], 1.0 - settings.distill_weight)


def ablations(settings):
    """The sweep: the temperatures at the chosen weight, the weights at the chosen temperature."""
    temperatures = {
        f"T = {value:g}": settings.replace(temperature=value)
        for value in settings.sweep_temperatures
    }
    weights = {
        f"weight {value:g}": settings.replace(distill_weight=value)
        for value in settings.sweep_weights
    }
    return temperatures | weights


RECIPE = Recipe(
    name="umirzakova2024",
    paper="Umirzakova et al., Electronics 13(22):4530 (2024)",
    task="image classification (CIFAR-10)",
    reconstruction="Layer widths (a third party's, said to follow the paper) and which term the "
    "0.7 weighs; T = 15 and 0.7 are the paper's.",
    settings=Umirzakova2024,
    build=build,
    ablations=ablations,
)
