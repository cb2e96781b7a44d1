"""Distillation from a stronger teacher by correlations (Huang et al. 2022)."""

import keras
from keras import ops

from tfkd.coefficient import Coefficient
from tfkd.losses.base import Softened
from tfkd.losses.classes import ClassDistillation

# Below this length a centred vector has no direction: its correlation is 0, without a gradient.
_NO_SPREAD = 1e-6


def uncorrelatedness(teacher, student, axis):
    """1 - Pearson's correlation along an axis, between 0 and 2; 1 where one side is constant.

    As in the code of Huang et al. 2022, 1e-8 is added to the product of the two lengths.
    """
    teacher, student = (
        side - ops.mean(side, axis=axis, keepdims=True) for side in (teacher, student)
    )
    lengths, known = 1.0, True
    for side in (teacher, student):
        squares = ops.sum(ops.square(side), axis=axis)
        spread = squares > _NO_SPREAD**2
        lengths *= ops.sqrt(ops.where(spread, squares, 1.0))
        known = ops.logical_and(known, spread)
    correlation = ops.sum(teacher * student, axis=axis) / (lengths + 1e-8)
    return 1.0 - ops.where(known, correlation, 0.0)


def correlation_distances(teacher_logits, student_logits, temperature):
    """T² (1 - correlation) of softened probabilities: over the classes, and over the batch.

    Huang et al. 2022, "Knowledge Distillation from A Stronger Teacher", arXiv:2205.10536, eq. 9 and
    10, with the T² of its code.

    Args:
        teacher_logits, student_logits: float tensors, shape (batch, classes).
        temperature: positive scalar T.

    Returns:
        (tensor of shape (batch,), the mean over the classes as a scalar). The second is 0 for a
        batch of one, over which nothing correlates.
    """
    teacher, student = (ops.softmax(z / temperature) for z in (teacher_logits, student_logits))
    several = ops.cast(ops.shape(student)[0] > 1, student.dtype)
    over_batch = several * ops.mean(uncorrelatedness(teacher, student, axis=0))
    scale = ops.square(temperature)
    return scale * uncorrelatedness(teacher, student, axis=-1), scale * over_batch


@keras.saving.register_keras_serializable(package="tfkd")
class CorrelationDistillation(Softened, ClassDistillation):
    """DIST: the student's probabilities need only correlate with the teacher's.

    Correlated are an example's classes, and each class's examples in the batch (Huang et al. 2022,
    arXiv:2205.10536). The authors give the loss a weight of 2, with temperature 1 on ImageNet and 4
    on CIFAR. The part over the batch is one number that stands for every example; with several
    replicas it is over each replica's own.

    Args:
        temperature: T > 0; the value is scaled by T², as in the authors' code.
        class_weight: of the correlation over the classes of an example.
        batch_weight: of the correlation over the examples of a class.
        standardize: see `tfkd.losses.LogitsDistillation`.
        teacher_layer_name: output of the teacher; None for its only one.
        student_layer_name: the same for the student.
        name: name of the loss's metric.

    Raises:
        ValueError: a temperature that is not positive, or a negative weight.
    """

    settings = ("temperature", "class_weight", "batch_weight", "standardize")
    class_weight = Coefficient()
    batch_weight = Coefficient()

    def __init__(
        self,
        temperature: float = 1.0,
        class_weight: float = 1.0,
        batch_weight: float = 1.0,
        standardize: bool = False,
        teacher_layer_name: str | None = None,
        student_layer_name: str | None = None,
        name: str = "correlation_distillation",
    ):
        super().__init__(standardize, teacher_layer_name, student_layer_name, name)
        self.temperature = temperature
        self.class_weight, self.batch_weight = class_weight, batch_weight

    def formula(self, teacher, student):
        over_classes, over_batch = correlation_distances(teacher, student, self.temperature_tensor)
        weights = self.coefficient("class_weight"), self.coefficient("batch_weight")
        return weights[0] * over_classes + weights[1] * over_batch
