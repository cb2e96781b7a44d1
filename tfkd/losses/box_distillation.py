"""What one dense detector teaches another, box by box: DPKD and, without its parts, plain."""

import keras
from keras import ops

from tfkd import boxes
from tfkd.coefficient import Coefficient
from tfkd.losses.assignment import FOUND, assign
from tfkd.losses.base import DistillationLoss, Softened
from tfkd.losses.distribution import decoupled_mean, distribution_divergence, weighted_mean
from tfkd.losses.logits import softened_bernoulli_kl


@keras.saving.register_keras_serializable(package="tfkd")
class BoxDistillation(Softened, DistillationLoss):
    """Classes and distributions of boxes of a dense detector, position by position.

    For detectors whose boxes are distributions (`tfkd.models.detectors.distribution_detector`).
    After Chen et al. 2024, "Discretization and decoupled knowledge distillation for
    arbitrary-oriented object detection" (DPKD), a reconstruction from its abstract:

    * target and other positions, those that are to find an object and the ground, are two means
      with a weight each, so that the many positions of the ground teach as well and do not drown
      the few others;
    * in the means of the boxes a position counts by how good the teacher's box is there: its EIoU
      with the label that it is to find, on the ground with the label that it fits best; 0 where
      that is negative, and with turned boxes times the squared cosine of the angle between the two.
      In the mean of the classes the targets count by the same, the ground evenly.

    Without `decoupled` both are one mean over all positions, under the same weights; without
    `weighted`, too, it is plain distillation.

    Args:
        classes: number of classes.
        angle_bins: of half a turn; 0 for upright boxes.
        temperature: T > 0, softens classes and distributions; the value is scaled by T².
        target_weight, other_weight: of the two means; without `decoupled` the first alone counts.
        class_weight, box_weight: of the classes (Bernoulli divergences, summed) and the boxes (the
            mean divergence of the distributions).
        decoupled, weighted: see above.
        name: name of the loss's metric.

    Raises:
        ValueError: a temperature that is not positive, or a negative weight.
    """

    needs = ("labels",)
    settings = (
        *("classes", "angle_bins", "temperature", "target_weight", "other_weight"),
        *("class_weight", "box_weight", "decoupled", "weighted"),
    )
    target_weight = Coefficient()
    other_weight = Coefficient()

    def __init__(
        self,
        classes: int,
        angle_bins: int = 0,
        temperature: float = 1.0,
        target_weight: float = 1.0,
        other_weight: float = 1.0,
        class_weight: float = 1.0,
        box_weight: float = 1.0,
        decoupled: bool = True,
        weighted: bool = True,
        teacher_layer_name: str | None = None,
        student_layer_name: str | None = None,
        name: str | None = None,
    ):
        super().__init__(teacher_layer_name, student_layer_name, name)
        self.classes, self.angle_bins, self.temperature = classes, angle_bins, temperature
        self.target_weight, self.other_weight = target_weight, other_weight
        self.class_weight, self.box_weight = class_weight, box_weight
        self.decoupled, self.weighted = decoupled, weighted

    def check_shapes(self, teacher_shape, student_shape):
        super().check_shapes(teacher_shape, student_shape)
        width = teacher_shape[-1] - 5 - self.classes - self.angle_bins
        if width < 8 or width % 4:
            raise ValueError(
                f"{self.name} compares distributions of the four sides of a box, but candidates "
                f"of the shape {tuple(teacher_shape)} with {self.classes} classes and "
                f"{self.angle_bins} bins of the angle leave {width} numbers for them. Build both "
                "models with tfkd.models.detectors.distribution_detector."
            )

    def call(self, teacher, student, labels):
        labels = ops.cast(labels, "float32")
        kind, reference, taught_logits, taught = boxes.columns(teacher, self.classes)
        _, _, logits, regression = boxes.columns(student, self.classes)
        temperature = self.temperature_tensor
        classes = softened_bernoulli_kl(taught_logits, logits, temperature)
        sides = (taught.shape[-1] - self.angle_bins) // 4
        bins = (*[sides] * 4, *([self.angle_bins] if self.angle_bins else []))
        shapes = distribution_divergence(taught, regression, bins, temperature)
        own, match = assign(kind, reference, labels, distributions=True)
        target = ops.equal(match, FOUND)
        class_weights = box_weights = ops.ones_like(classes)
        if self.weighted:
            found = boxes.decode(reference, taught, self.angle_bins)
            good = _quality(found, own)
            class_weights = ops.where(target, good, 1.0)
            box_weights = ops.where(target, good, _best(found, labels))
        return self.class_weight * self._mean(classes, class_weights, target) + (
            self.box_weight * self._mean(shapes, box_weights, target)
        )

    def _mean(self, values, weights, target):
        """The one mean over all positions, or the two of targets and others, shape (batch,)."""
        target_weight = self.coefficient("target_weight")
        if not self.decoupled:
            return target_weight * weighted_mean(values, weights)
        other_weight = self.coefficient("other_weight")
        return decoupled_mean(values, weights, target, target_weight, other_weight)


def _quality(found, label):
    """EIoU from 0 to 1 of boxes and labels, times the squared cosine of the angle between them."""
    turned = ops.square(ops.cos(found[..., 4] - label[..., 4]))
    return ops.stop_gradient(ops.clip(boxes.efficient_iou(found, label), 0.0, 1.0) * turned)


def _best(found, labels):
    """The highest quality of each box among an image's labels, (batch, rows); 0 without any."""
    known = ops.greater_equal(labels[..., boxes.CLASS], 0)[:, None]
    quality = _quality(found[:, :, None], labels[:, None])
    return ops.max(ops.where(known, quality, 0.0), axis=-1)
