"""The two matrices of multi-level logit distillation (Jin et al. 2023)."""

import keras
from keras import ops

from tfkd.losses.base import Softened
from tfkd.losses.classes import ClassDistillation


def class_relation_error(teacher_logits, student_logits, temperature):
    """||P_t' P_t - P_s' P_s||² / classes of the softened probabilities P, a scalar.

    Jin et al. 2023, "Multi-Level Logit Distillation" (CVPR), eq. 6; no T², as in its code.

    Args:
        teacher_logits, student_logits: float tensors, shape (batch, classes).
        temperature: positive scalar T.
    """
    difference = _gram(teacher_logits, temperature, "bi,bj->ij") - _gram(
        student_logits, temperature, "bi,bj->ij"
    )
    return ops.sum(ops.square(difference)) / student_logits.shape[-1]


def batch_relation_error(teacher_logits, student_logits, temperature):
    """Each example's row of (P_t P_t' - P_s P_s')², summed: shape (batch,) (eq. 5; no T²)."""
    difference = _gram(teacher_logits, temperature, "ic,jc->ij") - _gram(
        student_logits, temperature, "ic,jc->ij"
    )
    return ops.sum(ops.square(difference), axis=-1)


def _gram(logits, temperature, product):
    probabilities = ops.softmax(logits / temperature)
    return ops.einsum(product, probabilities, probabilities)


class _Relation(Softened, ClassDistillation):
    settings = ("temperature", "standardize")

    def __init__(
        self,
        temperature: float = 4.0,
        standardize: bool = False,
        teacher_layer_name: str | None = None,
        student_layer_name: str | None = None,
        name: str | None = None,
    ):
        super().__init__(standardize, teacher_layer_name, student_layer_name, name)
        self.temperature = temperature


@keras.saving.register_keras_serializable(package="tfkd")
class ClassRelationDistillation(_Relation):
    """Which classes the batch's examples mix up: a matrix of classes times classes (MLKD).

    Jin et al. 2023, "Multi-Level Logit Distillation". The value is one of the whole batch, which
    stands for every example; with several replicas it is that of each replica's own. Several
    temperatures (the authors' code has 2 to 6) are as many losses.

    Args:
        temperature: T > 0; the value is not scaled by it.
        standardize: see `tfkd.losses.LogitsDistillation`; the authors of that standardise only the
            divergence beside this one.
        teacher_layer_name: output of the teacher; None for its only one.
        student_layer_name: the same for the student.
        name: name of the loss's metric.

    Raises:
        ValueError: a temperature that is not positive.
    """

    def formula(self, teacher, student):
        value = class_relation_error(teacher, student, self.temperature_tensor)
        return ops.broadcast_to(value, ops.shape(student)[:1])


@keras.saving.register_keras_serializable(package="tfkd")
class BatchRelationDistillation(_Relation):
    """Which of the batch's examples look alike: a matrix of examples times examples (MLKD).

    Jin et al. 2023, "Multi-Level Logit Distillation". An example's value is its row's; with several
    replicas the examples are those of the replica. Arguments as in `ClassRelationDistillation`.
    """

    def formula(self, teacher, student):
        return batch_relation_error(teacher, student, self.temperature_tensor)
