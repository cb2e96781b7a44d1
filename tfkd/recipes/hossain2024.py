"""Hossain et al., PURF, Applied Soft Computing (2024), article 111579: inspired by its title.

Nothing but the title was read, and all that is taken from it is the idea: the teacher's
representations are made smooth before they are taught. Formula, networks and numbers are ours.

The teacher's maps T_l go through a Gaussian of standard deviation `blur`, in positions of the map,
before they are hints:

    L = label_weight · CE(y, s) + logits_weight · T² KL(t || s) + hint_weight · sum over stages of
        mean (adapter(S_l) - G T_l)² / var(G T_l)

Of a fixed teacher this is what a penalty on its maps' differences between neighbours comes to: the
map that is nearest to T_l under such a penalty is T_l through a low-pass filter. The teacher itself
is not trained further, and its logits stay as they are. With `blur` 0 the hints are plain, those of
`avazov2024`.
"""

from typing import ClassVar

import tfkd
from tfkd.recipes import hints
from tfkd.recipes.base import Recipe, System
from tfkd.settings.base import Above0, AtLeast0, Numbers, SettingsError, options
from tfkd.settings.distill import AUTO, NONE, Hints
from tfkd.settings.recipe import RecipeSettings


class Hossain2024(RecipeSettings):
    """All numbers are ours."""

    recipe: ClassVar = "hossain2024"

    student_options: options("--student-option", width=0.25)
    """Of the student, such as head=fc (repeatable)."""
    temperature: Above0 = 4.0
    """Softens both models' logits."""
    label_weight: AtLeast0 = 0.5
    """Weight of the loss on the labels."""
    logits_weight: AtLeast0 = 0.5
    """Weight of the distilled logits."""
    hint_weight: AtLeast0 = 0.05
    """Weight of each hint."""
    hints: Hints = AUTO
    """auto, or TEACHER_LAYER:STUDENT_LAYER (repeatable)."""
    blur: AtLeast0 = 1.0
    """Standard deviation of the Gaussian over the teacher's maps, in positions; 0 for plain
    hints."""
    sweep_blurs: Numbers = (0.0, 0.5, 2.0)
    """Values of blur that --ablate tries (repeatable)."""

    def check(self):
        super().check()
        if not self.hint_weight or self.hints == NONE:
            raise SettingsError(
                "The recipe is about hints: give hint_weight above 0, and hints that are not none."
            )
        if not all(0 <= value < float("inf") for value in self.sweep_blurs):
            raise SettingsError(
                f"sweep_blurs is {list(self.sweep_blurs)}; expected numbers of at least 0."
            )


def build(settings, teacher, student):
    """Labels, softened logits, and a hint at every stage from the teacher's smoothed map."""
    compared = hints.losses(hints.pairs(settings.hints, teacher, student), settings.blur)
    losses, weights = compared, [settings.hint_weight] * len(compared)
    if settings.logits_weight:
        losses = [tfkd.losses.LogitsDistillation(settings.temperature), *losses]
        weights = [settings.logits_weight, *weights]
    return System(student, losses, weights, settings.label_weight)


def ablations(settings):
    """Other blurs, 0 for plain hints; and hints alone, smooth and plain."""
    alone = settings.replace(logits_weight=0.0)
    blurs = {f"blur {value:g}": settings.replace(blur=value) for value in settings.sweep_blurs}
    return blurs | {"hints only": alone, "plain hints only": alone.replace(blur=0.0)}


RECIPE = Recipe(
    name="hossain2024",
    paper="Hossain et al. (PURF), Applied Soft Computing (2024), 111579",
    task="image classification by hints from smooth maps",
    reconstruction="Everything: inspired by the title, a teacher whose representations are made "
    "smooth before they are taught.",
    settings=Hossain2024,
    build=build,
    ablations=ablations,
)
