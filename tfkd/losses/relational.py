"""Distances and angles between the examples of a batch (Park et al. 2019)."""

import keras
import tensorflow as tf
from keras import ops

from tfkd.coefficient import Coefficient
from tfkd.losses.base import DistillationLoss
from tfkd.losses.maps import check_features, flat

# Squared distance up to which two examples count as one point.
_ONE_POINT = 1e-12


def squared_distances(x):
    """Squared distances between the rows, computed in float64 and given back in float32.

    The square of a difference is expanded, which in float32 would cancel for close points.

    Args:
        x: float tensor, shape (batch, features).

    Returns:
        (batch, batch) float32 tensor, 1e-12 at least and 0 on the diagonal.
    """
    x, one_point = tf.cast(x, tf.float64), tf.constant(_ONE_POINT, tf.float64)
    squares = tf.reduce_sum(tf.square(x), axis=-1)
    expanded = squares[:, None] + squares[None] - 2.0 * tf.matmul(x, x, transpose_b=True)
    own = tf.eye(tf.shape(x)[0], dtype=tf.bool)
    # Rounding of the expansion itself, where two rows are equal.
    apart = expanded > tf.maximum(1e-14 * (squares[:, None] + squares[None]), one_point)
    distances = tf.where(apart, expanded, one_point)
    return tf.cast(tf.where(own, tf.zeros_like(expanded), distances), tf.float32)


def distance_error(teacher, student):
    """Mean over a row of Huber's error of distances, each model's divided by their mean.

    Park et al. 2019, "Relational Knowledge Distillation", arXiv:1904.05068, eq. 6 to 8.

    Args:
        teacher, student: squared distances, as `squared_distances` gives them.

    Returns:
        Tensor of shape (batch,); 0 for a batch of one.
    """

    def scaled(squared):
        count = tf.shape(squared)[0]
        pairs = tf.cast(tf.maximum(count * (count - 1), 1), tf.float32)
        distances = tf.where(squared > 0, tf.sqrt(tf.where(squared > 0, squared, 1.0)), 0.0)
        mean = tf.reduce_sum(distances) / pairs
        return distances / tf.where(mean > 0, mean, 1.0)

    return ops.mean(_huber(scaled(teacher) - scaled(student)), axis=-1)


def angle_error(teacher, student):
    """Mean over the angles at an example of Huber's error of their cosines (eq. 9).

    The cosine of the angle at i between j and k follows from the three squared distances. One
    example's angles are computed at a time, and the gradient with them: the batch³ numbers of all
    would leave the processor's caches, at several times the cost. The teacher gets no gradient.

    Args:
        teacher, student: squared distances, as `squared_distances` gives them.

    Returns:
        Tensor of shape (batch,); 0 for a batch of one.
    """
    teacher = tf.stop_gradient(teacher)

    @tf.custom_gradient
    def errors(student):
        values, unweighted = _angles(teacher, student, tf.ones_like(student[0]))

        def gradient(upstream):
            # Without sample weights all examples count alike.
            return tf.cond(
                tf.reduce_all(upstream == upstream[:1]),
                lambda: upstream[0] * unweighted,
                lambda: _angles(teacher, student, upstream)[1],
            )

        return values, gradient

    return errors(student)


def _angles(teacher, student, weights):
    """The errors at each example, and the gradient of their weighted sum by the student.

    With distances d, their inverses v and squared distances D, the cosine of the angle at i is
    (d_ij v_ik + v_ij d_ik - v_ij v_ik D_jk) / 2. The first two terms of both models are one product
    of matrices of rank 4.
    """
    (far, near), (own_far, own_near) = _lengths(teacher), _lengths(student)
    left = 0.5 * tf.stack([own_far, own_near, -far, -near], axis=-1)
    right = tf.stack([own_near, own_far, near, far], axis=1)
    half, own_half = 0.5 * teacher, 0.5 * student
    count = tf.shape(student)[0]
    scale = 1.0 / tf.cast(count * count, tf.float32)

    def step(i, values, of_pairs, of_rows):
        d, v = own_far[i], own_near[i]
        outer = v[:, None] * v[None]
        error = tf.matmul(left[i], right[i]) - own_half * outer
        error += half * (near[i][:, None] * near[i][None])
        slope = tf.clip_by_value(error, -1.0, 1.0)
        value = scale * tf.reduce_sum(slope * (error - 0.5 * slope))  # Huber's
        by_outer = slope * outer
        along = tf.linalg.matvec(slope, v)
        product = 0.5 * (d * along + v * tf.linalg.matvec(slope, d))
        product -= tf.reduce_sum(by_outer * own_half, axis=-1)
        weight = scale * weights[i]
        of_row = weight * (v * along - tf.square(v) * product)
        of_pairs -= (0.5 * weight) * by_outer
        return i + 1, values.write(i, value), of_pairs, of_rows.write(i, of_row)

    values = tf.TensorArray(tf.float32, count, element_shape=())
    of_rows = tf.TensorArray(tf.float32, count, element_shape=student.shape[:1])
    _, values, of_pairs, of_rows = tf.while_loop(
        lambda i, *_: i < count, step, (0, values, tf.zeros_like(student), of_rows)
    )
    return values.stack(), of_pairs + of_rows.stack()


def _lengths(squared):
    """Distances and their inverses; 0 between points that are one, where there is no direction."""
    apart = squared > 2.0 * _ONE_POINT
    inverse = tf.where(apart, tf.math.rsqrt(tf.where(apart, squared, 1.0)), 0.0)
    return squared * inverse, inverse


def _huber(error):
    size = tf.abs(error)
    quadratic = tf.minimum(size, 1.0)
    return quadratic * (size - 0.5 * quadratic)


@keras.saving.register_keras_serializable(package="tfkd")
class RelationalDistillation(DistillationLoss):
    """RKD: distances and angles between the examples of a batch, whatever the features' width.

    Park et al. 2019, arXiv:1904.05068, on the pooled features before the logits. An example's value
    is the mean over the pairs and triplets that begin with it: relations to examples of a small
    weight count in full, and with several replicas they are those within each replica's batch. It
    is 0 for a batch of one. The angles take batch³ operations.

    Args:
        distance_weight: of the distances.
        angle_weight: of the angles.
        teacher_layer_name: layer of the teacher, by name or path.
        student_layer_name: the same for the student.
        name: name of the loss's metric.

    Raises:
        ValueError: a negative weight.
    """

    adapts = "itself"
    settings = ("distance_weight", "angle_weight")
    distance_weight = Coefficient()
    angle_weight = Coefficient()

    def __init__(
        self,
        distance_weight: float = 25.0,
        angle_weight: float = 50.0,
        teacher_layer_name: str | None = None,
        student_layer_name: str | None = None,
        name: str = "relational_distillation",
    ):
        super().__init__(teacher_layer_name, student_layer_name, name=name)
        self.distance_weight, self.angle_weight = distance_weight, angle_weight

    def check_shapes(self, teacher_shape, student_shape):
        check_features(self, teacher_shape, student_shape)

    def call(self, teacher, student):
        squared = squared_distances(flat(teacher)), squared_distances(flat(student))
        weights = self.coefficient("distance_weight"), self.coefficient("angle_weight")
        return weights[0] * distance_error(*squared) + weights[1] * angle_error(*squared)
