"""Avazov et al., Heliyon 10(14):e34376 (2024): a modified AlexNet and teacher-student collaborative
knowledge distillation.

From the paper (its abstract): an AlexNet "enhanced with depthwise-separable convolution layers" as
student; it learns from the teacher's final output and from its intermediate layers, for use where
compute is scarce.

Reconstruction, everything else: no code, layer widths, teacher, temperature or weights are public.
conv1 stays dense, conv2..conv5 become depthwise + 1x1 (see `tfkd.models.alexnet`). The loss is

    L = label_weight · CE(y, s) + logits_weight · T² KL(t || s) + hint_weight · sum over stages of
        mean (adapter(S_l) - T_l)² / var(T_l)

over the stage ends of both networks, the deepest paired first: after pool1, pool2, conv4 and pool5
of the student where the teacher has four stages. Hints are divided by the teacher's own deviation,
so that one weight serves every teacher; it makes them some 10 to 30 % of the total at the start.

The three fully connected layers of AlexNet hold 54.6 M of its 57.0 M parameters: separable
convolutions make it light only if that head goes too. The default head is global average pooling;
`--student-option head=fc` has 1024-512 units. A run reports the size of both.
"""

from typing import ClassVar

import tfkd
from tfkd.recipes import hints
from tfkd.recipes.base import Recipe, System
from tfkd.settings.base import Above0, AtLeast0, options
from tfkd.settings.distill import AUTO, Hints
from tfkd.settings.recipe import RecipeSettings


class Avazov2024(RecipeSettings):
    """The paper gives no numbers; these are ours."""

    recipe: ClassVar = "avazov2024"

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
    """auto, none, or TEACHER_LAYER:STUDENT_LAYER (repeatable)."""


def build(settings, teacher, student):
    """Labels, softened logits, and a hint at every stage."""
    losses, weights = [], []
    if settings.logits_weight:
        losses.append(tfkd.losses.LogitsDistillation(settings.temperature))
        weights.append(settings.logits_weight)
    if settings.hint_weight:
        compared = hints.losses(hints.pairs(settings.hints, teacher, student))
        losses += compared
        weights += [settings.hint_weight] * len(compared)
    return System(student, losses, weights, settings.label_weight)


def ablations(settings):
    return {
        "logits only": settings.replace(hint_weight=0.0),
        "hints only": settings.replace(logits_weight=0.0),
    }


def notes(settings, image_shape, num_classes):
    """The size of the student with either head, and of the AlexNet that it comes from."""
    if settings.student not in ("modified_alexnet", "alexnet"):
        return []
    options = {name: value for name, value in settings.student_options.items() if name != "head"}
    sizes = []
    for name in ("modified_alexnet", "alexnet"):
        for head in ("gap", "fc"):
            model = tfkd.models.build(name, image_shape, num_classes, head=head, **options)
            sizes.append(f"{name} with head {head} {model.count_params():,}")
    return [f"Parameters: {', '.join(sizes)}."]


RECIPE = Recipe(
    name="avazov2024",
    paper="Avazov et al., Heliyon 10(14):e34376 (2024)",
    task="image classification where compute is scarce",
    reconstruction="Layer widths, teacher, temperature and all weights; from the abstract: "
    "depthwise-separable AlexNet, logits and intermediate layers.",
    settings=Avazov2024,
    build=build,
    ablations=ablations,
    notes=notes,
)
