"""Soft targets with the label enhanced, for unlike architectures (Hao et al. 2023)."""

import keras
from keras import ops

from tfkd.coefficient import Coefficient
from tfkd.losses import classes
from tfkd.losses.base import Softened


def enhanced_cross_entropy(teacher_logits, student_logits, label, power, temperature):
    """-sum over the classes of ((q + [label])^power - [label]) log p.

    Hao et al. 2023, "One-for-All: Bridge the Gap Between Heterogeneous Architectures in Knowledge
    Distillation", arXiv:2310.19444, eq. 6; no T², as in its code.

    Args:
        teacher_logits, student_logits: float tensors, shape (batch, classes).
        label: int tensor, shape (batch,).
        power: positive scalar; 1 gives the plain cross-entropy from the teacher.
        temperature: positive scalar T.

    Returns:
        Tensor of shape (batch,), in nats.
    """
    own = ops.cast(classes.one_hot(label, student_logits), student_logits.dtype)
    targets = ops.power(ops.softmax(teacher_logits / temperature) + own, power) - own
    return -ops.sum(targets * ops.log_softmax(student_logits / temperature), axis=-1)


@keras.saving.register_keras_serializable(package="tfkd")
class EnhancedTargetDistillation(Softened, classes.ClassDistillation):
    """OFA-KD's loss: the teacher's logits, more so where it is sure of the label.

    Hao et al. 2023, arXiv:2310.19444. For unlike architectures: one on the student's logits and one
    on each head that `tfkd.models.with_stage_heads` gives it, all from the teacher's logits, each
    with weight 1 beside the loss on the labels in full.

    Args:
        power: above 1 for more weight on the label; 1 to 1.5 are used.
        temperature: T > 0; the value is not scaled by it.
        standardize: see `tfkd.losses.LogitsDistillation`.
        teacher_layer_name: output of the teacher; None for its only one.
        student_layer_name: the same for the student, or the name of a head.
        name: name of the loss's metric.

    Raises:
        ValueError: a power or temperature that is not positive.
    """

    reads_labels = True
    settings = ("power", "temperature", "standardize")
    power = Coefficient(positive=True)

    def __init__(
        self,
        power: float = 1.0,
        temperature: float = 1.0,
        standardize: bool = False,
        teacher_layer_name: str | None = None,
        student_layer_name: str | None = None,
        name: str = "enhanced_target_distillation",
    ):
        super().__init__(standardize, teacher_layer_name, student_layer_name, name)
        self.power, self.temperature = power, temperature

    def formula(self, teacher, student, label):
        power, temperature = self.coefficient("power"), self.temperature_tensor
        return enhanced_cross_entropy(teacher, student, label, power, temperature)
