"""Which examples of a batch are alike: similarity-preserving and probabilistic transfer."""

import keras
import tensorflow as tf
from keras import ops

from tfkd.losses.base import DistillationLoss
from tfkd.losses.features import unit
from tfkd.losses.maps import check_features, flat

# Products of features are brought to length 1: this is the square of a length of no features.
_NO_FEATURES = 1e-12


@tf.custom_gradient
def products(rows):
    """Each row times each, (batch, batch), with a gradient in one product instead of two.

    Args:
        rows: float tensor, shape (batch, features).
    """

    def gradient(upstream):
        return tf.matmul(upstream + tf.transpose(upstream), rows)

    return tf.matmul(rows, rows, transpose_b=True), gradient


def similarity_error(teacher, student):
    """Mean over a row of the squared difference of similarities, each row brought to length 1.

    Tung and Mori 2019, "Similarity-Preserving Knowledge Distillation", arXiv:1907.09682, eq. 4.

    Args:
        teacher, student: float tensors, shape (batch, features), of any two widths.

    Returns:
        Tensor of shape (batch,), whose mean is the method's value.
    """
    rows = [unit(products(side), smallest=_NO_FEATURES) for side in (teacher, student)]
    return ops.mean(ops.square(rows[0] - rows[1]), axis=-1)


def similarity_divergence(teacher, student, epsilon=1e-7):
    """Mean over a row of P log(P / Q), P and Q the shares of each example in a row's similarity.

    Passalis and Tefas 2018, "Learning Deep Representations with Probabilistic Knowledge Transfer",
    arXiv:1803.10837, as their code has it: cosines between 0 and 1, and the diagonal takes part.

    Args:
        teacher, student: float tensors, shape (batch, features), of any two widths.
        epsilon: added to the shares within the logarithm.

    Returns:
        Tensor of shape (batch,), in nats over the batch size: its mean is the method's value.
    """
    shares = []
    for side in (teacher, student):
        # The reference adds 1e-7 to the length.
        vectors = unit(side)
        squares = ops.sum(ops.square(side), axis=-1, keepdims=True)
        lengths = ops.sqrt(ops.maximum(squares, _NO_FEATURES))
        vectors *= lengths / (lengths + 1e-7)
        similarity = (products(vectors) + 1.0) / 2.0
        shares.append(similarity / ops.sum(similarity, axis=-1, keepdims=True))
    ratios = ops.log(shares[0] + epsilon) - ops.log(shares[1] + epsilon)
    return ops.mean(shares[0] * ratios, axis=-1)


class _OfBatch(DistillationLoss):
    """A loss on the relations within a batch, of features of any shape."""

    adapts = "itself"

    def check_shapes(self, teacher_shape, student_shape):
        check_features(self, teacher_shape, student_shape)


@keras.saving.register_keras_serializable(package="tfkd")
class SimilarityPreserving(_OfBatch):
    """SP: examples that are alike to the teacher are to be alike to the student.

    Tung and Mori 2019, arXiv:1907.09682; weight about 3000. Features of any two shapes. An
    example's value is that of its row: relations to examples of a small weight count in full, and
    with several replicas they are those within each replica's batch.

    Args:
        teacher_layer_name: layer of the teacher, by name or path; the authors take the last map.
        student_layer_name: the same for the student.
        name: name of the loss's metric.
    """

    def call(self, teacher, student):
        return similarity_error(flat(teacher), flat(student))


@keras.saving.register_keras_serializable(package="tfkd")
class ProbabilisticTransfer(_OfBatch):
    """PKT: each example's neighbourhood in the batch, as a distribution.

    Passalis and Tefas 2018, arXiv:1803.10837; on pooled features, weight about 30000 (the mean is
    over all pairs). As in `SimilarityPreserving`, an example's value is that of its row; it is 0
    for a batch of one.

    Args:
        teacher_layer_name: layer of the teacher, by name or path.
        student_layer_name: the same for the student.
        name: name of the loss's metric.
    """

    def call(self, teacher, student):
        return similarity_divergence(flat(teacher), flat(student))
