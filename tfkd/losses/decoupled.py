"""Decoupled knowledge distillation (Zhao et al. 2022)."""

import keras
from keras import ops

from tfkd.coefficient import Coefficient
from tfkd.losses import classes
from tfkd.losses.base import Softened


def decoupled_divergence(
    teacher_logits, student_logits, label, temperature, target_weight, other_weight
):
    """T² (target_weight KL(label or not) + other_weight KL(the other classes among themselves)).

    Zhao et al. 2022, "Decoupled Knowledge Distillation", arXiv:2203.08679, eq. 7.

    Args:
        teacher_logits, student_logits: float tensors, shape (batch, classes).
        label: int tensor, shape (batch,).
        temperature: positive scalar T.
        target_weight, other_weight: scalars.

    Returns:
        Tensor of shape (batch,), in nats.
    """
    chosen = classes.one_hot(label, student_logits)
    teacher, student = teacher_logits / temperature, student_logits / temperature
    target = classes.binary_divergence(
        *(classes.event(ops.log_softmax(side), chosen) for side in (teacher, student))
    )
    other = classes.divergence(classes.without(teacher, chosen), classes.without(student, chosen))
    return ops.square(temperature) * (target_weight * target + other_weight * other)


@keras.saving.register_keras_serializable(package="tfkd")
class DecoupledDistillation(Softened, classes.ClassDistillation):
    """DKD: what the teacher says of the label, and of the other classes, each with its own weight.

    With both weights as in plain distillation the second would shrink where the teacher is sure of
    the label (Zhao et al. 2022, arXiv:2203.08679). The authors' code raises the loss's weight over
    the first 20 epochs, `tfkd.schedules.warm_up(1.0, 20)`.

    Args:
        temperature: T > 0; the value is scaled by T².
        target_weight: of the divergence between label and not label.
        other_weight: of the divergence among the other classes; 8 for CIFAR-100, 0.5 to 2 for
            ImageNet.
        standardize: see `tfkd.losses.LogitsDistillation`.
        teacher_layer_name: output of the teacher; None for its only one.
        student_layer_name: the same for the student.
        name: name of the loss's metric.

    Raises:
        ValueError: a temperature that is not positive, or a negative weight.
    """

    reads_labels = True
    settings = ("temperature", "target_weight", "other_weight", "standardize")
    target_weight = Coefficient()
    other_weight = Coefficient()

    def __init__(
        self,
        temperature: float = 4.0,
        target_weight: float = 1.0,
        other_weight: float = 8.0,
        standardize: bool = False,
        teacher_layer_name: str | None = None,
        student_layer_name: str | None = None,
        name: str = "decoupled_distillation",
    ):
        super().__init__(standardize, teacher_layer_name, student_layer_name, name)
        self.temperature = temperature
        self.target_weight, self.other_weight = target_weight, other_weight

    def formula(self, teacher, student, label):
        return decoupled_divergence(
            teacher,
            student,
            label,
            self.temperature_tensor,
            self.coefficient("target_weight"),
            self.coefficient("other_weight"),
        )
