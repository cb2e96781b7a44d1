"""Si et al., gradient-aware knowledge distillation by teacher-guided gradient scaling, Neural
Networks (March 2026), doi 10.1016/j.neunet.2025.108229.

Inspired by the title only: neither text, formula nor code was at hand. Nothing here is the paper's
but the idea in its name, and no figure of it can be repeated. Experimental.

Reconstruction, everything: the gradient of distilled logits, T (s - t) of softened probabilities,
is scaled in each class by what the teacher says of it, and brought back to its length,

    g_c ← g_c · (1 + strength · (t_c / max t) ** sharpness),    g ← g · (length before / after)

in L = CE(y, s) + distill_weight · T² KL(t || s). The value of the loss is that of plain
distillation, which `strength` 0 is (`tfkd.losses.GradientScaledDistillation`).
"""

from typing import ClassVar

import tfkd
from tfkd.recipes.base import Recipe, System
from tfkd.settings.base import Above0, AtLeast0
from tfkd.settings.recipe import RecipeSettings


class Si2026(RecipeSettings):
    """The paper's numbers were not at hand; these are ours."""

    recipe: ClassVar = "si2026"

    temperature: Above0 = 4.0
    """Softens both models' logits."""
    distill_weight: AtLeast0 = 1.0
    """Weight of the distilled logits; the labels' is 1."""
    strength: AtLeast0 = 1.0
    """How much the gradient of the teacher's likeliest class is scaled; 0 is plain distillation."""
    sharpness: AtLeast0 = 0.5
    """How fast the scaling falls with the teacher's probability of a class."""


def build(settings, teacher, student):
    """Labels, and softened logits whose gradient is scaled."""
    del teacher
    loss = tfkd.losses.GradientScaledDistillation(
        settings.temperature, settings.strength, settings.sharpness
    )
    return System(student, [loss], [settings.distill_weight], 1.0)


def ablations(settings):
    return {
        "strength 0": settings.replace(strength=0.0),
        "strength 4": settings.replace(strength=4.0),
        "sharpness 2": settings.replace(sharpness=2.0),
    }


RECIPE = Recipe(
    name="si2026",
    paper="Si et al., Neural Networks (2026), the title only",
    task="image classification",
    reconstruction="Everything: inspired by the title only.",
    settings=Si2026,
    build=build,
    ablations=ablations,
)
