"""Numbers that are predicted as distributions over bins: what the teacher says of each."""

import keras
from keras import ops

from tfkd.coefficient import Coefficient
from tfkd.losses.base import DistillationLoss, Softened
from tfkd.losses.logits import softened_kl


def distribution_divergence(teacher, student, bins, temperature):
    """The mean over several distributions of T² KL(teacher || student).

    Zheng et al. 2022, "Localization Distillation for Dense Object Detection", arXiv:2102.12252:
    one divergence for each side of a box.

    Args:
        teacher, student: logits, shape (..., sum of the bins).
        bins: how many bins each of the distributions has that stand there one after the other.
        temperature: positive scalar T.

    Returns:
        Tensor of shape (...), in nats.
    """
    total, start = 0.0, 0
    for count in bins:
        part = (..., slice(start, start + count))
        total += softened_kl(teacher[part], student[part], temperature)
        start += count
    return total / len(bins)


def weighted_mean(values, weights):
    """The mean over an image's positions; what stands where the weight is 0 counts for nothing.

    Args:
        values: shape (batch, positions).
        weights: at least 0, shape (batch, positions).

    Returns:
        Tensor of shape (batch,); 0 where all positions weigh 0.
    """
    total = ops.sum(weights, axis=-1)
    summed = ops.sum(ops.where(weights > 0, values, 0.0) * weights, axis=-1)
    return summed / ops.where(total > 0, total, 1.0)


def decoupled_mean(values, weights, target, target_weight, other_weight):
    """Two weighted means of the same values, over targets and others, each with its weight, added.

    Args:
        values: shape (batch, positions).
        weights: at least 0, shape (batch, positions).
        target: whether a position is a target, boolean (batch, positions).
        target_weight, other_weight: scalars.

    Returns:
        Tensor of shape (batch,).
    """
    return target_weight * weighted_mean(
        values, ops.where(target, weights, 0.0)
    ) + other_weight * weighted_mean(values, ops.where(target, 0.0, weights))


@keras.saving.register_keras_serializable(package="tfkd")
class DistributionDistillation(Softened, DistillationLoss):
    """The teacher's distribution over bins for each number that both models predict so.

    Regression as classification (Li et al. 2020, arXiv:2006.04388): a number is the mean of a
    distribution over bins, which also says how sure the model is. The value of a position is the
    mean of T² KL(teacher || student) over its distributions; masks and sample weights of shape
    (batch, positions) choose among the positions.

    ```python
    # 4 sides in 8 bins each, then an angle in 18: logits (batch, positions, 50)
    DistributionDistillation((8, 8, 8, 8, 18), temperature=2.0)
    ```

    Args:
        bins: of each of the distributions that stand one after the other in the last axis; a number
            for a single one.
        temperature: T > 0, softens the distributions; the value is scaled by T².
        decoupled: whether the labels, (batch, positions), divide the positions: the mean over those
            above 0 and the mean over the others count each by itself, however many they are.
        target_weight, other_weight: their weights, where they are decoupled.
        teacher_layer_name: output or layer of the teacher; None for its only output.
        student_layer_name: the same for the student.
        name: name of the loss's metric.

    Raises:
        ValueError: a temperature that is not positive, a negative weight, logits that are not as
            many as the bins.
    """

    settings = ("bins", "temperature", "decoupled", "target_weight", "other_weight")
    target_weight = Coefficient()
    other_weight = Coefficient()

    def __init__(
        self,
        bins: int | tuple,
        temperature: float = 1.0,
        decoupled: bool = False,
        target_weight: float = 1.0,
        other_weight: float = 1.0,
        teacher_layer_name: str | None = None,
        student_layer_name: str | None = None,
        name: str | None = None,
    ):
        super().__init__(teacher_layer_name, student_layer_name, name)
        self.bins = (bins,) if isinstance(bins, int) else tuple(bins)
        self.temperature, self.decoupled = temperature, decoupled
        self.target_weight, self.other_weight = target_weight, other_weight
        if not self.bins or min(self.bins) < 2:
            raise ValueError(f"bins must each be at least 2; got {bins!r}.")

    @property
    def needs(self):
        return ("labels",) if self.decoupled else ()

    def check_shapes(self, teacher_shape, student_shape):
        super().check_shapes(teacher_shape, student_shape)
        if teacher_shape[-1] != sum(self.bins):
            raise ValueError(
                f"{self.name} reads {len(self.bins)} distributions of {self.bins} bins, "
                f"{sum(self.bins)} logits, but the tensors have the shape {tuple(teacher_shape)}. "
                "Give the bins of each distribution in the last axis."
            )

    def call(self, teacher, student, labels=None):
        values = distribution_divergence(teacher, student, self.bins, self.temperature_tensor)
        if not self.decoupled:
            return values
        target = ops.cast(labels, "float32") > 0
        weights = (self.coefficient(name) for name in ("target_weight", "other_weight"))
        return decoupled_mean(values, ops.ones_like(values), target, *weights)
