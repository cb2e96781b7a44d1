"""BRCD: hash codes distilled by contrast that clusters of the teacher's codes make robust."""

from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from tfkd import validation
from tfkd.coefficient import Coefficient
from tfkd.losses.base import DistillationLoss, Softened
from tfkd.losses.features import unit
from tfkd.losses.hashing import NEVER, hard_codes, pairs_of_views


def robust_contrast(student, teacher, partner, masks, anchor_share, removed, temperature):
    """Contrast of a student's codes with its teacher's, as the code of He et al. 2024 has it.

    The rows are the student's codes of all images, then the teacher's of their other views, both
    masked. A row's positive is anchor_share · cos(student, teacher) of the same view, unmasked, and
    (1 - anchor_share) · the cosine of the two masked rows of the image; its negatives are all rows
    of the other images.

    Args:
        student, teacher, partner: float tensors, shape (images, bits): the student's codes, the
            teacher's of the same views, and the teacher's of the other views.
        masks: 0 or 1 for each bit that counts in an image's masked rows, shape (images, bits).
        anchor_share: shape (images,), from 0 to 1.
        removed: bool, shape (2 images, 2 images): negatives that do not count for a row.
        temperature: positive scalar; cosines are divided by it.

    Returns:
        Tensor of shape (images, 2): of each image's student's and teacher's row, in nats.
    """
    student_rows, teacher_rows = unit(student * masks), unit(partner * masks)
    rows = ops.concatenate([student_rows, teacher_rows])
    masked = ops.sum(student_rows * teacher_rows, axis=-1)
    anchor = ops.sum(unit(student) * unit(teacher), axis=-1)
    positive = (anchor_share * anchor + (1.0 - anchor_share) * masked) / temperature
    images = ops.tile(ops.arange(ops.shape(student)[0]), [2])
    of_one_image = images[:, None] == images[None]
    cosines = ops.matmul(rows, ops.transpose(rows)) / temperature
    negatives = ops.where(ops.logical_or(of_one_image, removed), NEVER, cosines)
    positive = ops.tile(positive, [2])
    every = ops.concatenate([positive[:, None], negatives], axis=1)
    values = ops.logsumexp(every, axis=-1) - positive
    return ops.transpose(ops.reshape(values, (2, -1)))


def images_with_clusters(index, images, reader):
    """An operation that fails where an image's number is none of those that have a cluster."""
    within = tf.reduce_all((index >= 0) & (index < images))
    found = tf.strings.format(
        f"{reader} knows the clusters of {images} images, numbered from 0, but the data has "
        "numbers up to {}. Make the clusters of all training images.",
        tf.reduce_max(index),
    )
    return validation.required(within, found)


@keras.saving.register_keras_serializable(package="tfkd")
class RobustCodeDistillation(Softened, DistillationLoss):
    """BRCD: the student's codes are told from those of other images by the teacher's codes.

    He et al. 2024, "Bit-mask Robust Contrastive Knowledge Distillation for Unsupervised Semantic
    Hashing", arXiv:2403.06071; see `robust_contrast` for the sum. Clusters of the teacher's codes,
    made before training, make it robust: other images of an image's own cluster are no negatives;
    where a second view falls into another cluster than its image, it is no positive (only the same
    view counts); and bits that a cluster leaves undecided are masked.

    Batches are pairs of views as for `ContrastiveHashing`, labelled by the images' numbers, which
    are their positions in `clusters`:

    ```python
    found = tfkd.losses.code_clusters(teacher.predict(images), 10)
    loss = RobustCodeDistillation(found.numbers, found.centers, found.masks(0.5))
    ```

    Args:
        clusters: the number of each training image's cluster, int, shape (images,).
        centers: the mean code of each cluster, shape (clusters, bits).
        masks: 1 for each bit that counts, 0 for one that does not, shape (clusters, bits); None for
            no mask.
        anchor_share: weight of the same view's cosine in the positive, from 0 to 1; the rest is
            that of the masked codes of two views. The paper's is 0.8.
        temperature: T > 0 that cosines are divided by.
        false_negatives: whether images of the same cluster stay negatives.
        offset_positives: whether a view that falls into another cluster stays a positive.
        teacher_layer_name, student_layer_name: as for `CodeDistillation`.
        name: name of the loss's metric.

    Raises:
        ValueError: arrays that do not fit each other or the models, or a number out of range. In a
            step: rows that are no pairs, or images that have no cluster.
    """

    adapts = "itself"
    needs = ("labels",)
    anchor_share = Coefficient(maximum=1.0)

    def __init__(
        self,
        clusters: Sequence[int],
        centers: Sequence[Sequence[float]],
        masks: Sequence[Sequence[float]] | None = None,
        anchor_share: float = 0.8,
        temperature: float = 0.3,
        false_negatives: bool = False,
        offset_positives: bool = False,
        teacher_layer_name: str | None = None,
        student_layer_name: str | None = None,
        name: str = "robust_code_distillation",
    ):
        super().__init__(teacher_layer_name, student_layer_name, name=name)
        self.clusters, self.centers = _checked_clusters(clusters, centers)
        self.masks = None if masks is None else np.asarray(masks, "float32")
        if masks is not None and self.masks.shape != self.centers.shape:
            raise ValueError(
                f"masks must have a row for each cluster and a column for each bit, "
                f"{self.centers.shape}; got the shape {self.masks.shape}."
            )
        self.anchor_share, self.temperature = anchor_share, temperature
        self.false_negatives = bool(false_negatives)
        self.offset_positives = bool(offset_positives)

    def check_shapes(self, teacher_shape, student_shape):
        wanted = self.centers.shape[1]
        for side, shape in (("teacher", teacher_shape), ("student", student_shape)):
            if len(shape) != 2 or shape[-1] != wanted:
                raise ValueError(
                    f"{self.name} compares codes of {wanted} bits, as the clusters have them, but "
                    f"reads {tuple(shape)} of the {side}. Give teacher and student {wanted} bits, "
                    "and clusters of this teacher's codes."
                )

    def call(self, teacher, student, labels):
        index = ops.cast(ops.reshape(labels, (-1,)), "int64")[::2]
        checks = [
            pairs_of_views(labels, self.name),
            images_with_clusters(index, len(self.clusters), self.name),
        ]
        with tf.control_dependencies(checks):
            index, teacher, student = map(tf.identity, (index, teacher, student))
        codes = ops.reshape(hard_codes(teacher), (-1, 2, teacher.shape[-1]))
        own = ops.take(ops.convert_to_tensor(self.clusters), index, axis=0)
        landed = nearest(codes[:, 1], ops.convert_to_tensor(self.centers))
        masks = ops.ones_like(codes[:, 0])
        if self.masks is not None:
            masks = ops.take(ops.convert_to_tensor(self.masks), own, axis=0)
        share = self.coefficient("anchor_share") * ops.ones_like(masks[:, 0])
        if not self.offset_positives:
            share = ops.where(landed == own, share, 1.0)
        removed = ops.zeros((), "bool")
        if not self.false_negatives:
            # A second view stands where it fell, unless nobody asks where it did.
            others = own if self.offset_positives else landed
            removed = ops.tile(own, [2])[:, None] == ops.concatenate([own, others])[None]
        student = ops.reshape(hard_codes(student), (-1, 2, student.shape[-1]))[:, 0]
        arguments = (masks, share, removed, self.temperature_tensor)
        return ops.reshape(robust_contrast(student, codes[:, 0], codes[:, 1], *arguments), (-1,))

    def get_config(self):
        return {
            **super().get_config(),
            "clusters": self.clusters.tolist(),
            "centers": self.centers.tolist(),
            "masks": None if self.masks is None else self.masks.tolist(),
            **{name: getattr(self, name) for name in ("anchor_share", "temperature")},
            **{name: getattr(self, name) for name in ("false_negatives", "offset_positives")},
        }


def nearest(codes, centers):
    """The number of the center that is nearest to each code; the first of several.

    Args:
        codes: float tensor, shape (batch, bits).
        centers: float tensor, shape (clusters, bits).

    Returns:
        int32 tensor, shape (batch,).
    """
    # The code's own length is the same for all centers.
    distances = ops.sum(ops.square(centers), axis=-1) - 2.0 * ops.matmul(
        codes, ops.transpose(centers)
    )
    return ops.argmin(distances, axis=-1)


def _checked_clusters(clusters, centers):
    clusters, centers = np.asarray(clusters), np.asarray(centers, "float32")
    if clusters.ndim != 1 or not len(clusters) or clusters.dtype.kind not in "iu":
        raise ValueError(
            "clusters must be the number of each training image's cluster, integers of shape "
            f"(images,); got {clusters.dtype} of shape {clusters.shape}."
        )
    if centers.ndim != 2 or not len(centers):
        raise ValueError(
            f"centers must have a row for each cluster and a column for each bit; got the shape "
            f"{centers.shape}."
        )
    if clusters.min() < 0 or clusters.max() >= len(centers):
        raise ValueError(
            f"clusters must be numbers from 0 to {len(centers) - 1}, as there are {len(centers)} "
            f"centers; got {clusters.min()} to {clusters.max()}."
        )
    return clusters.astype("int32"), centers
