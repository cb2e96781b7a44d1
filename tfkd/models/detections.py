"""From a detector's candidates to its answer: the boxes that are left when overlaps are gone."""

import keras
import tensorflow as tf
from keras import ops

from tfkd import boxes
from tfkd.models.candidates import Candidates

MOST, OVERLAP, LEAST = 100, 0.5, 0.05


def detector_layout(model):
    """(number of classes, bins of the angle) of a detector of `tfkd.models.detectors`.

    Raises:
        ValueError: the model is none.
    """
    for layer in model.layers:
        if isinstance(layer, Candidates):
            return layer.classes, layer.angle_bins
    raise ValueError(
        f'"{model.name}" is no detector: it has no layer that makes candidates. Build one with '
        "tfkd.models.detectors."
    )


def with_detections(detector, most=MOST, overlap=OVERLAP, least=LEAST):
    """A detector with non-maximum suppression inside, as one deploys it.

    Args:
        detector: of `tfkd.models.detectors`, of upright boxes.
        most: detections an image.
        overlap: IoU above which the lower of two boxes of one class goes.
        least: smallest score that counts.

    Returns:
        `keras.Model`: images -> {"boxes": x1, y1, x2, y2 in pixels, float32 (batch, most, 4);
        "scores": float32 (batch, most), from the highest down; "classes": int32 (batch, most);
        "count": int32 (batch,)}. Behind `count` boxes and scores are 0, classes -1.

    Raises:
        ValueError: no detector, or one of turned boxes.
    """
    classes, angle_bins = detector_layout(detector)
    if angle_bins:
        raise ValueError(
            f'"{detector.name}" finds turned boxes, for which TensorFlow has no suppression. '
            "Take its candidates, tfkd.models.best_candidates, and suppress them in Python with "
            "tfkd.evaluation.suppressed."
        )
    answer = Suppression(classes, most, overlap, least, name="detections")(detector.output)
    return keras.Model(detector.input, answer, name=detector.name)


@keras.saving.register_keras_serializable(package="tfkd")
class Suppression(keras.layers.Layer):
    """Candidates -> detections, see `with_detections`.

    Args:
        classes: number of classes.
        most, overlap, least: see `with_detections`.
    """

    def __init__(self, classes, most=MOST, overlap=OVERLAP, least=LEAST, **kwargs):
        super().__init__(**kwargs)
        self.classes, self.most, self.overlap, self.least = classes, most, overlap, least

    def call(self, candidates):
        kind, reference, logits, regression = boxes.columns(candidates, self.classes)
        left, top, right, bottom = (
            boxes.corners(boxes.decode(reference, regression))[..., side] for side in range(4)
        )
        # TensorFlow's own, by class and for a batch of any size; KerasHub's is for all classes
        # together and asks for a fixed batch.
        found, scores, classes, count = tf.image.combined_non_max_suppression(
            ops.stack([top, left, bottom, right], axis=-1)[:, :, None],
            boxes.scores(kind, logits),
            max_output_size_per_class=self.most,
            max_total_size=self.most,
            iou_threshold=self.overlap,
            score_threshold=self.least,
            clip_boxes=False,
        )
        there = ops.arange(self.most)[None] < count[:, None]
        return {
            "boxes": ops.take(found, [1, 0, 3, 2], axis=-1),
            "scores": scores,
            "classes": ops.where(there, ops.cast(classes, "int32"), -1),
            "count": count,
        }

    def get_config(self):
        own = {name: getattr(self, name) for name in ("classes", "most", "overlap", "least")}
        return {**super().get_config(), **own}


def best_candidates(candidates, classes, angle_bins=0, most=MOST):
    """The candidates of the highest scores, before any suppression.

    Args:
        candidates: shape (batch, rows, columns), see `tfkd.boxes`.
        classes: number of classes.
        angle_bins: of the angle; 0 for upright boxes.
        most: how many an image; all of them where there are fewer.

    Returns:
        (boxes (batch, most, 5), scores (batch, most), classes int32 (batch, most)).
    """
    kind, reference, logits, regression = boxes.columns(candidates, classes)
    every = boxes.scores(kind, logits)
    flat = ops.reshape(every, (-1, every.shape[1] * classes))
    scores, places = ops.top_k(flat, min(most, flat.shape[1]))
    rows = places // classes
    found = boxes.decode(reference, regression, angle_bins)
    found = ops.take_along_axis(found, rows[..., None], axis=1)
    return found, scores, ops.cast(places % classes, "int32")
