"""Figures that compare a student with its teacher while it trains."""

import keras
from keras import ops

from tfkd.matching import answer_of_all, of_output, resolved_name


class TeacherMetric(keras.metrics.Mean):
    """A mean over examples of something between a tensor of the teacher and one of the student.

    For `Distiller.compile(teacher_metrics=[...])`. A subclass writes `compare`.

    Args:
        teacher_layer_name: output or layer of the teacher; None for its only output. Only what a
            loss reads too, or the outputs, can be named.
        student_layer_name: the same for the student.
        name: name of the metric.
    """

    def __init__(self, teacher_layer_name=None, student_layer_name=None, name=None, dtype=None):
        super().__init__(name=name, dtype=dtype)
        self.teacher_layer_name, self.student_layer_name = teacher_layer_name, student_layer_name

    @property
    def teacher_name(self):
        """The teacher's tensor that is read."""
        return self.teacher_layer_name or "output"

    def compare(self, teacher, student):
        """One number for each example, shape (batch,), or for each position."""
        raise NotImplementedError

    def update(self, knowledge, tensors, sample_weight=None):
        """Adds a batch.

        Args:
            knowledge: {name: tensor} of the teacher.
            tensors: {name: tensor} of the student.
            sample_weight: optional weights, or for several outputs a list or dict of them.
        """
        taught = resolved_name(self.teacher_layer_name, knowledge, "teacher", self)
        own = resolved_name(self.student_layer_name, tensors, "student", self)
        weight = of_output(sample_weight, own, tensors)
        teacher = answer_of_all(knowledge, taught)
        self.update_state(self.compare(teacher, tensors[own]), weight)

    def get_config(self):
        return {
            **super().get_config(),
            "teacher_layer_name": self.teacher_layer_name,
            "student_layer_name": self.student_layer_name,
        }


@keras.saving.register_keras_serializable(package="tfkd")
class TeacherAgreement(TeacherMetric):
    """The share of examples in which teacher and student name the same class.

    Of a single number and of independent labels, the share of labels on the same side of 0.

    ```python
    distiller.compile("adam", loss, teacher_metrics=[tfkd.metrics.TeacherAgreement()])
    ```
    """

    def __init__(
        self, teacher_layer_name=None, student_layer_name=None, name="teacher_agreement", **kwargs
    ):
        super().__init__(teacher_layer_name, student_layer_name, name=name, **kwargs)

    def compare(self, teacher, student):
        if student.shape[-1] == 1:
            return ops.cast(ops.equal(teacher > 0, student > 0), "float32")[..., 0]
        same = ops.equal(ops.argmax(teacher, axis=-1), ops.argmax(student, axis=-1))
        return ops.cast(same, "float32")
