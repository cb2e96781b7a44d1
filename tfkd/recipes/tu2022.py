"""Tu et al., "A General Dynamic Knowledge Distillation Method for Visual Analytics", IEEE
Transactions on Image Processing (2022), doi 10.1109/tip.2022.3212905.

From the paper (its abstract): the teacher keeps learning while it teaches, teacher and student
learn from each other, and a loss of its own answers the trouble that "the continuous change of the
teacher" makes; it is measured on ILSVRC2012, COCO2017, HMDB51 and UCF101.

Reconstruction, everything else: no formula, weight or learning rate is public, and no code was
found. The student learns from labels and from the teacher as it is before its own step,

    L_S = CE(y, s) + distill_weight · T² KL(t || s)

and the teacher (`tfkd.teachers.Learning`) from labels, from the student, and from its own answers
at the beginning, which hold it where it began:

    L_T = CE(y, t) + feedback_weight · T² KL(s || t) + anchor_weight · T² KL(t0 || t)

by an Adam of its own, whose learning rate stays as it is. With `teacher_learning_rate` 0 this is
plain distillation. The student alone is deployed. Every training starts from the teacher's own
weights: the teacher that rows and seeds share is not changed.
"""

from typing import ClassVar

import tfkd
from tfkd.recipes.base import Recipe, System
from tfkd.settings.base import Above0, AtLeast0, SettingsError
from tfkd.settings.recipe import RecipeSettings


class Tu2022(RecipeSettings):
    """The paper's numbers are not public; these are ours."""

    recipe: ClassVar = "tu2022"

    temperature: Above0 = 4.0
    """Softens the logits of both."""
    distill_weight: AtLeast0 = 1.0
    """Weight of what the teacher teaches; the labels' is 1."""
    teacher_learning_rate: AtLeast0 = 0.0001
    """The teacher's; 0 keeps it as it is."""
    feedback_weight: AtLeast0 = 0.1
    """Weight, for the teacher, of what the student answers; the labels' is 1."""
    anchor_weight: AtLeast0 = 1.0
    """Weight, for the teacher, of its own answers at the beginning."""

    def check(self):
        super().check()
        if self.several_teachers:
            raise SettingsError(
                f"tu2022 has one teacher, which learns, but teacher names {len(self.teacher)}. "
                "Give one of them."
            )


def build(settings, teacher, student):
    """Labels and softened logits of a teacher that learns as well."""
    loss = tfkd.losses.LogitsDistillation(settings.temperature)
    source = _learning(settings, teacher) if settings.teacher_learning_rate else None
    return System(student, [loss], [settings.distill_weight], 1.0, source)


def _learning(settings, teacher):
    import keras

    own = keras.models.clone_model(teacher)
    own.set_weights(teacher.get_weights())
    # Rows with a fixed teacher have frozen its layers; Keras skips a value that the model has.
    own.trainable = False
    own.trainable = True
    return tfkd.teachers.Learning(
        own,
        keras.optimizers.Adam(settings.teacher_learning_rate),
        feedback_weight=settings.feedback_weight,
        anchor_weight=settings.anchor_weight,
        temperature=settings.temperature,
    )


def ablations(settings):
    return {
        "fixed teacher": settings.replace(teacher_learning_rate=0.0),
        "without anchor": settings.replace(anchor_weight=0.0),
        "without feedback": settings.replace(feedback_weight=0.0),
    }


RECIPE = Recipe(
    name="tu2022",
    paper="Tu et al., IEEE Transactions on Image Processing (2022)",
    task="image classification by a teacher that keeps learning",
    reconstruction="Both losses, the weights and the teacher's learning rate; from the abstract: "
    "teacher and student learn from each other, and a loss holds the teacher.",
    settings=Tu2022,
    build=build,
    ablations=ablations,
)
