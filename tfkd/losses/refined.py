"""Refined logit distillation (Sun et al. 2024)."""

import keras
from keras import ops

from tfkd.coefficient import Coefficient
from tfkd.losses import classes
from tfkd.losses.base import Softened


def confidence_divergence(teacher_logits, student_logits, label, temperature):
    """T² KL from the teacher's probability of its likeliest class to the student's of the label.

    Sun et al. 2024, "Knowledge Distillation with Refined Logits", arXiv:2408.07703, eq. 5: where
    the teacher is wrong, its confidence goes to the right class.

    Args:
        teacher_logits, student_logits: float tensors, shape (batch, classes).
        label: int tensor, shape (batch,).
        temperature: positive scalar T.

    Returns:
        Tensor of shape (batch,), in nats.
    """
    teacher, student = (ops.log_softmax(z / temperature) for z in (teacher_logits, student_logits))
    top = classes.one_hot(ops.cast(ops.argmax(teacher_logits, axis=-1), "int32"), teacher)
    own = classes.one_hot(label, student)
    value = classes.binary_divergence(classes.event(teacher, top), classes.event(student, own))
    return ops.square(temperature) * value


def masked_divergence(teacher_logits, student_logits, label, temperature):
    """T² KL among those classes that the teacher holds for less likely than the label (eq. 7).

    Arguments and result as in `confidence_divergence`; 0 where there is no such class.
    """
    own = ops.take_along_axis(teacher_logits, label[:, None], axis=-1)
    left_out = teacher_logits >= own
    value = classes.divergence(
        *(classes.without(z / temperature, left_out) for z in (teacher_logits, student_logits))
    )
    return ops.square(temperature) * value


@keras.saving.register_keras_serializable(package="tfkd")
class RefinedDistillation(Softened, classes.ClassDistillation):
    """RLD: what a teacher that may be wrong says is put right by the label.

    Its confidence goes to the label, and of the classes only those are compared that it holds for
    less likely than the label (Sun et al. 2024, arXiv:2408.07703).

    Args:
        temperature: T > 0 of the classes; their part is scaled by T².
        confidence_temperature: T > 0 of the confidence, whose part is scaled by its square.
        confidence_weight: of the confidence.
        other_weight: of the classes.
        standardize: see `tfkd.losses.LogitsDistillation`.
        teacher_layer_name: output of the teacher; None for its only one.
        student_layer_name: the same for the student.
        name: name of the loss's metric.

    Raises:
        ValueError: a temperature that is not positive, or a negative weight.
    """

    reads_labels = True
    settings = (
        *("temperature", "confidence_temperature", "confidence_weight", "other_weight"),
        "standardize",
    )
    confidence_temperature = Coefficient(positive=True)
    confidence_weight = Coefficient()
    other_weight = Coefficient()

    def __init__(
        self,
        temperature: float = 4.0,
        confidence_temperature: float = 1.0,
        confidence_weight: float = 1.0,
        other_weight: float = 8.0,
        standardize: bool = False,
        teacher_layer_name: str | None = None,
        student_layer_name: str | None = None,
        name: str = "refined_distillation",
    ):
        super().__init__(standardize, teacher_layer_name, student_layer_name, name)
        self.temperature, self.confidence_temperature = temperature, confidence_temperature
        self.confidence_weight, self.other_weight = confidence_weight, other_weight

    def formula(self, teacher, student, label):
        confidence = confidence_divergence(
            teacher, student, label, self.coefficient("confidence_temperature")
        )
        other = masked_divergence(teacher, student, label, self.temperature_tensor)
        return (
            self.coefficient("confidence_weight") * confidence
            + self.coefficient("other_weight") * other
        )
