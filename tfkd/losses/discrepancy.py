"""Maximum mean discrepancy: whether two sets of features could be of one distribution."""

import keras
import tensorflow as tf
from keras import ops

from tfkd.losses.base import DistillationLoss
from tfkd.losses.maps import check_features, flat
from tfkd.losses.similarity import products

SCALES = (0.25, 0.5, 1.0, 2.0, 4.0)
# Points within a thousandth of each other are one point.
_SMALLEST_SQUARE = 1e-6


def squared_discrepancy(teacher, student):
    """MMD² of two sets of points (Gretton et al. 2012, eq. 5), example by example.

    The kernel is k(a, b) = sum over f of exp(-||a - b||² / (f m)), with m the median of the squared
    distances between all pairs of the points of both sets, through which no gradient goes, and f
    each of `SCALES`.

    Args:
        teacher, student: float tensors, shape (batch, features), of one width.

    Returns:
        Tensor of shape (batch,), whose mean is E k(t, t') + E k(s, s') - 2 E k(t, s) over all
        pairs, a point with itself included: 0 for equal sets, below 10.
    """
    points = ops.concatenate([teacher, student], axis=0)
    # Nothing but differences counts, and about the centre they lose fewer digits.
    points -= tf.stop_gradient(ops.mean(points, axis=0, keepdims=True))
    gram = products(points)
    squares = tf.linalg.diag_part(gram)
    distances = ops.maximum(squares[:, None] + squares[None] - 2.0 * gram, 0.0)
    scale = tf.stop_gradient(ops.maximum(_median(distances), _SMALLEST_SQUARE))
    kernel = sum(ops.exp(-distances / (scale * f)) for f in SCALES)
    count = ops.shape(teacher)[0]
    own = ops.mean(kernel[:count, :count], axis=1) + ops.mean(kernel[count:, count:], axis=1)
    other = ops.mean(kernel[:count, count:], axis=1) + ops.mean(kernel[:count, count:], axis=0)
    return own - other


def _median(distances):
    """The median over all pairs of different points, of a symmetric matrix with zeros in the
    diagonal: each pair stands in it twice."""
    count = ops.shape(distances)[0]
    ordered = ops.sort(ops.reshape(distances, (-1,)))[count:]
    middle = count * (count - 1) // 2
    return 0.5 * (ordered[middle - 1] + ordered[middle])


@keras.saving.register_keras_serializable(package="tfkd")
class MaximumMeanDiscrepancy(DistillationLoss):
    """MMD: the student's features of a batch are to be distributed as the teacher's.

    Gretton et al. 2012, "A Kernel Two-Sample Test", with the sum of Gaussians of Long et al. 2015,
    "Learning Transferable Features with Deep Adaptation Networks", arXiv:1502.02791. Which example
    is which does not count. Features of another shape than the teacher's go through a trained
    adapter. An example's value is its row's, whose mean is MMD²; with several replicas the examples
    are those of the replica.

    Args:
        teacher_layer_name: layer of the teacher, by name or path: best pooled features.
        student_layer_name: the same for the student.
        name: name of the loss's metric.
    """

    adapts = True

    def build(self, teacher_shape, student_shape):
        check_features(self, teacher_shape, student_shape)

    def call(self, teacher, student):
        return squared_discrepancy(flat(teacher), flat(student))
