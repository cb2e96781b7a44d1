"""What teaches a detector its labels: classes by the focal loss, boxes by their sides."""

import keras
from keras import ops

from tfkd import boxes
from tfkd.losses.assignment import FOUND, IGNORED, assign

_SMOOTH = 1 / 9  # errors below it count by their square, as in RetinaNet and Faster R-CNN


@keras.saving.register_keras_serializable(package="tfkd")
class DetectionLoss(keras.losses.Loss):
    """The loss of a detector on labels, for `compile`; of proposals and detections alike.

    Classes: the focal loss (Lin et al. 2017, arXiv:1708.02002) over all candidates, divided by the
    number of candidates that are to find an object (at least 1). Of a second stage, whose proposals
    are chosen already, it is the cross-entropy with each class, divided by the number of candidates
    (Ren et al. 2015, arXiv:1506.01497). Boxes, over the candidates that are to find an object: the
    smooth L1 distance of the four numbers that move a reference; or, of distributions, the
    cross-entropy with the shares of the two bins beside each true distance ("distribution focal
    loss", Li et al. 2020, arXiv:2006.04388), the smooth L1 distance of the distributions' means,
    and the cross-entropy with a periodic Gaussian around the true angle.

    `tfkd.boxes` says what labels and candidates are. An image without a box teaches that there is
    none. One value an image, in nats.

    ```python
    detector.compile("adam", tfkd.losses.DetectionLoss(3))
    ```

    Args:
        classes: number of classes.
        angle_bins: of detectors of turned boxes, how many bins half a turn has.
        box_weight: weight of the boxes beside the classes. With 1 they would be nearly all of it: a
            class that is mostly right costs some hundredths, a box that is mostly right one or two.
        angle_deviation: of the Gaussian around the true angle, in bins.
        name: name of the loss.
    """

    def __init__(
        self, classes, angle_bins=0, box_weight=0.25, angle_deviation=1.0, name="detection_loss"
    ):
        super().__init__(name=name)
        self.classes, self.angle_bins, self.box_weight = classes, angle_bins, box_weight
        self.angle_deviation = angle_deviation

    def call(self, labels, candidates):
        labels = ops.cast(labels, "float32")
        kind, reference, logits, regression = boxes.columns(
            ops.cast(candidates, "float32"), self.classes
        )
        reference = ops.stop_gradient(reference)
        distributions = boxes.are_distributions(regression)
        own, match = assign(kind, reference, labels, distributions)
        found, counted = ops.equal(match, FOUND), ops.not_equal(match, IGNORED)
        wrong_class = self._class_values(kind, logits, own[..., boxes.CLASS], found)
        wrong_box = self._box_values(reference, regression, own, distributions)
        # Rows without an object have no box; whatever stands there is left out, NaN included.
        wrong_box = ops.where(found, wrong_box, 0.0)
        values = ops.where(counted, wrong_class, 0.0) + self.box_weight * wrong_box
        total = 0.0
        for stage in (boxes.PROPOSAL, boxes.DETECTION, boxes.SECOND_LOOK):
            rows = ops.equal(kind, stage)
            share = rows if stage == boxes.SECOND_LOOK else rows & found
            share = ops.maximum(ops.sum(ops.cast(share, "float32"), axis=-1), 1.0)
            total += ops.sum(ops.where(rows, values, 0.0), axis=-1) / share
        return total

    def _class_values(self, kind, logits, label, found):
        """The focal loss of each row, or its cross-entropy, (batch, rows)."""
        proposal = ops.equal(kind, boxes.PROPOSAL)
        column = ops.where(proposal, 0.0, label)
        truth = ops.one_hot(ops.cast(ops.where(found, column, -1.0), "int32"), self.classes)
        truth, logits = truth[..., None], logits[..., None]  # each class by itself
        plain = keras.losses.binary_crossentropy(truth, logits, from_logits=True)
        focal = keras.losses.binary_focal_crossentropy(
            truth, logits, apply_class_balancing=True, from_logits=True
        )
        second = ops.equal(kind, boxes.SECOND_LOOK)
        values = ops.where(second[..., None], plain, focal)
        # Of a proposal only the first logit says something.
        first = ops.one_hot(0, self.classes)
        return ops.sum(ops.where(proposal[..., None], values * first, values), axis=-1)

    def _box_values(self, reference, regression, own, distributions):
        """What is wrong with each row's box, (batch, rows)."""
        if not distributions:
            return 4 * smooth_l1(boxes.deltas(reference, own), regression)
        sides, angle = boxes.of_angle(regression, self.angle_bins)
        bins = sides.shape[-1]
        truth = ops.clip(boxes.distances_to_sides(reference, own), 0.0, bins - 1.0)
        shares = ops.sum(boxes.two_bins(truth, bins) * ops.log_softmax(sides), axis=-1)
        values = ops.mean(-shares, axis=-1) + smooth_l1(truth, boxes.mean_of_bins(sides))
        if self.angle_bins:
            around = boxes.periodic_gaussian(own[..., 4], self.angle_bins, self.angle_deviation)
            values -= ops.sum(around * ops.log_softmax(angle), axis=-1)
        return values

    def get_config(self):
        return {
            "classes": self.classes,
            "angle_bins": self.angle_bins,
            "box_weight": self.box_weight,
            "angle_deviation": self.angle_deviation,
            "name": self.name,
        }


def smooth_l1(truth, given):
    """The mean over the last axis of |error|, less half of 1/9; error² · 4.5 below 1/9."""
    return keras.losses.huber(truth, given, delta=_SMOOTH) / _SMOOTH
