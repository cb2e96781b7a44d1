"""Transformed teacher matching (Zheng and Yang 2024)."""

import keras
from keras import ops

from tfkd.coefficient import Coefficient
from tfkd.losses.classes import ClassDistillation, divergence


def transformed_divergence(teacher_logits, student_logits, power):
    """KL from the teacher's probabilities raised to a power (and divided by their sum).

    Zheng and Yang 2024, "Knowledge Distillation Based on Transformed Teacher Matching",
    arXiv:2402.11148, eq. 9: the student has no temperature.

    Args:
        teacher_logits, student_logits: float tensors, shape (batch, classes).
        power: positive scalar, 1 / T.

    Returns:
        (KL in nats, sum of the teacher's probabilities to that power), shape (batch,) each. The
        second is large where the teacher is unsure.
    """
    powers = power * ops.log_softmax(teacher_logits)
    value = divergence(ops.log_softmax(powers), ops.log_softmax(student_logits))
    return value, ops.exp(ops.logsumexp(powers, axis=-1))


@keras.saving.register_keras_serializable(package="tfkd")
class TransformedTeacherMatching(ClassDistillation):
    """TTM, and WTTM: only the teacher is softened, and the student matches it as it will be used.

    Zheng and Yang 2024, arXiv:2402.11148. Nothing is scaled by T²; weights of 0.5 to 45 are used.

    Args:
        power: of the teacher's probabilities, 1 / T: between 0.1 and 1 softens.
        weighted: whether an example counts by the sum of those powers (WTTM): more where the
            teacher is unsure.
        standardize: see `tfkd.losses.LogitsDistillation`.
        teacher_layer_name: output of the teacher; None for its only one.
        student_layer_name: the same for the student.
        name: name of the loss's metric.

    Raises:
        ValueError: a power that is not positive.
    """

    settings = ("power", "weighted", "standardize")
    power = Coefficient(positive=True)

    def __init__(
        self,
        power: float = 0.25,
        weighted: bool = True,
        standardize: bool = False,
        teacher_layer_name: str | None = None,
        student_layer_name: str | None = None,
        name: str = "transformed_teacher_matching",
    ):
        super().__init__(standardize, teacher_layer_name, student_layer_name, name)
        self.power, self.weighted = power, bool(weighted)

    def formula(self, teacher, student):
        value, weight = transformed_divergence(teacher, student, self.coefficient("power"))
        return weight * value if self.weighted else value
