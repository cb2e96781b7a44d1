"""How often the student says what the teacher says."""

import keras
from keras import ops

from tfkd.losses.base import DistillationLoss


@keras.saving.register_keras_serializable(package="tfkd")
class TeacherAgreement(DistillationLoss):
    """The share of examples in which teacher and student name the same class: a figure, no loss.

    It has no gradient. Among the losses with a weight of 0 it makes the Distiller report
    `teacher_agreement` and, of the validation data, `val_teacher_agreement`; stored knowledge does
    as well as a teacher.

    Args:
        teacher_layer_name: output of the teacher; None for its only one.
        student_layer_name: the same for the student.
        name: name of the metric.
    """

    def __init__(self, teacher_layer_name=None, student_layer_name=None, name="teacher_agreement"):
        super().__init__(teacher_layer_name, student_layer_name, name=name)

    def call(self, teacher, student):
        same = ops.equal(ops.argmax(teacher, axis=-1), ops.argmax(student, axis=-1))
        return ops.cast(same, "float32")
