"""Normalised knowledge distillation (Yang et al. 2023)."""

import keras
from keras import ops

from tfkd.coefficient import Coefficient
from tfkd.losses import classes
from tfkd.losses.base import Softened


def normalized_cross_entropies(teacher_logits, student_logits, label, temperature):
    """The cross-entropy of the label, by the teacher's probability of it, and of the other classes.

    Yang et al. 2023, "From Knowledge Distillation to Self-Knowledge Distillation: A Unified
    Approach with Normalized Loss and Customized Soft Labels", arXiv:2303.13005, eq. 7.

    Args:
        teacher_logits, student_logits: float tensors, shape (batch, classes).
        label: int tensor, shape (batch,).
        temperature: positive scalar T, of the second only.

    Returns:
        Two tensors of shape (batch,), in nats; the second, over the other classes renormalised, is
        scaled by T². Both are cross-entropies: they do not go to 0.
    """
    chosen = classes.one_hot(label, student_logits)

    def label_log_probability(logits):
        return ops.sum(ops.where(chosen, ops.log_softmax(logits), 0.0), axis=-1)

    target = -ops.exp(label_log_probability(teacher_logits)) * label_log_probability(student_logits)
    teacher, student = (
        classes.without(z / temperature, chosen) for z in (teacher_logits, student_logits)
    )
    products = ops.where(chosen, 0.0, ops.exp(teacher) * student)
    return target, -ops.square(temperature) * ops.sum(products, axis=-1)


@keras.saving.register_keras_serializable(package="tfkd")
class NormalizedDistillation(Softened, classes.ClassDistillation):
    """NKD: the label by the teacher's probability of it, and the other classes renormalised.

    Yang et al. 2023, arXiv:2303.13005; the loss on the labels stays beside it in full
    (`independent_weights=True`, `student_loss_weight=1`). ImageNet: T = 1 and 1.5, CIFAR-100: T = 3
    and 3.5.

    Args:
        temperature: T > 0 of the other classes; their part is scaled by T².
        other_weight: of the other classes.
        standardize: see `tfkd.losses.LogitsDistillation`.
        teacher_layer_name: output of the teacher; None for its only one.
        student_layer_name: the same for the student.
        name: name of the loss's metric.

    Raises:
        ValueError: a temperature that is not positive, or a negative weight.
    """

    reads_labels = True
    settings = ("temperature", "other_weight", "standardize")
    other_weight = Coefficient()

    def __init__(
        self,
        temperature: float = 1.0,
        other_weight: float = 1.5,
        standardize: bool = False,
        teacher_layer_name: str | None = None,
        student_layer_name: str | None = None,
        name: str = "normalized_distillation",
    ):
        super().__init__(standardize, teacher_layer_name, student_layer_name, name)
        self.temperature, self.other_weight = temperature, other_weight

    def formula(self, teacher, student, label):
        target, other = normalized_cross_entropies(teacher, student, label, self.temperature_tensor)
        return target + self.coefficient("other_weight") * other
