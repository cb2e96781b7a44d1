"""Cosine confidence distillation (Li et al. 2024)."""

import keras
from keras import ops

from tfkd.losses.base import Softened
from tfkd.losses.classes import ClassDistillation
from tfkd.losses.features import unit
from tfkd.losses.logits import known_logits, softened_kl


def confidence(logits, partner):
    """1 + cosine of a teacher's logits for two views of an image, from 0 to 2: shape (batch,).

    Li et al. 2024, Neurocomputing 583, as their code has it. 1 where `partner` is 0.
    """
    return 1.0 + ops.sum(unit(logits) * unit(partner), axis=-1)


@keras.saving.register_keras_serializable(package="tfkd")
class ConfidenceDistillation(Softened, ClassDistillation):
    """CCD: an augmented view counts as much as the teacher says the same of it as of the plain one.

    Li et al. 2024, "Multi-perspective analysis on data augmentation in knowledge distillation",
    Neurocomputing 583:127516, as its code has it: T² KL(teacher || student) of an augmented view
    times 1 + cos(z, z'), with z the teacher's logits for that view and z' those for the plain view
    of the same image, and times 1 for a plain view. The weight depends on the teacher alone, so z'
    comes with what the teacher says and no two views need stand in one batch;
    `tfkd.teachers.TwoViews` gives both, z' = 0 for a plain view.

    Args:
        temperature: T > 0.
        teacher_layer_name: names of the teacher's logits for the view and of those for the plain
            view.
        student_layer_name: output of the student; None for its only one.
        name: name of the loss's metric.

    Raises:
        ValueError: one name for both, a temperature that is not positive, logits of unlike shapes.
    """

    settings = ("temperature",)

    def __init__(
        self,
        temperature: float = 4.0,
        teacher_layer_name: tuple = ("output", "partner"),
        student_layer_name: str | None = None,
        name: str | None = None,
    ):
        super().__init__(False, teacher_layer_name, student_layer_name, name)
        if not isinstance(self.teacher_layer_name, tuple) or len(self.teacher_layer_name) != 2:
            raise ValueError(
                f"{self.name} reads two tensors of the teacher, its logits for the view and those "
                f'for the plain view, such as ("output", "partner"); got {teacher_layer_name!r}.'
            )
        self.temperature = temperature

    def check_shapes(self, teacher_shape, student_shape):
        for shape in teacher_shape:
            super().check_shapes(shape, student_shape)

    def check_tensors(self, teacher, student):
        self.check_shapes([tensor.shape for tensor in teacher], student.shape)

    def call(self, teacher, student, heads=None):
        (logits, partner), own = teacher, None
        if heads is not None:
            (logits, partner), _ = known_logits(self, (teacher, student), heads)
            own = (heads[0][0].as_logits(), heads[1])
        return confidence(logits, partner) * super().call(logits, student, own)

    def formula(self, teacher, student):
        return softened_kl(teacher, student, self.temperature_tensor)
