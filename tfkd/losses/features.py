"""Hints: the student imitates the teacher's inner features."""

import math
from collections.abc import Callable

import keras
import tensorflow as tf
from keras import ops

from tfkd import _keras
from tfkd.losses.logits import keras_formula, keras_loss, kind_of
from tfkd.losses.maps import blurred, check_maps
from tfkd.losses.structured import StructuredLoss

# Below this the standard deviation of a feature counts as no scale at all.
_EPSILON = 1e-6


def squared_error(teacher, student):
    """Squared error, averaged over channels (FitNets, Romero et al. 2015, eq. 3, up to a factor).

    Args:
        teacher: float tensor, shape (..., channels).
        student: float tensor of the same shape.

    Returns:
        Tensor of shape (...).
    """
    return _squared_error(teacher, student)


@tf.custom_gradient
def _squared_error(teacher, student):
    """The same, with a gradient in two passes over the features instead of five."""

    def gradients(upstream):
        scale = upstream * (2.0 / student.shape[-1])
        gradient = (student - teacher) * scale[..., tf.newaxis]
        return -gradient, gradient

    return ops.mean(tf.math.squared_difference(student, teacher), axis=-1), gradients


def absolute_error(teacher, student):
    """Absolute error, averaged over channels; shapes as in `squared_error`."""
    return ops.mean(ops.abs(student - teacher), axis=-1)


def huber_error(teacher, student, delta=1.0):
    """Huber's error, quadratic up to `delta` and linear beyond, averaged over channels."""
    error = ops.abs(student - teacher)
    linear = ops.maximum(error - delta, 0.0)
    quadratic = error - linear
    return ops.mean(0.5 * ops.square(quadratic) + delta * linear, axis=-1)


def cosine_distance(teacher, student):
    """1 - cosine of the angle between channel vectors: 0 for one direction, 2 for opposite ones.

    A zero vector has cosine 0 with everything, and a finite gradient.
    """
    product = ops.sum(unit(teacher) * unit(student), axis=-1)
    return 1.0 - product


def unit(vectors, axis=-1, smallest=_EPSILON):
    """Vectors of length 1 of the same direction; zero, without a gradient, below a length.

    Args:
        vectors: float tensor.
        axis: along which each vector lies.
        smallest: length up to which a vector has no direction.
    """
    squares = ops.sum(ops.square(vectors), axis=axis, keepdims=True)
    scales = ops.rsqrt(ops.maximum(squares, smallest**2))
    # No direction, no gradient: 1 / length would make it a million times too large.
    return ops.where(squares > smallest**2, vectors * scales, 0.0)


_FORMULAS = {
    keras.losses.mean_squared_error: squared_error,
    keras.losses.MeanSquaredError: squared_error,
    keras.losses.mean_absolute_error: absolute_error,
    keras.losses.MeanAbsoluteError: absolute_error,
    keras.losses.huber: huber_error,
    keras.losses.cosine_similarity: cosine_distance,
    keras.losses.CosineSimilarity: cosine_distance,
}


@keras.saving.register_keras_serializable(package="tfkd")
class FeatureDistillation(StructuredLoss):
    """Distils one feature of the teacher into one of the student: a hint (Romero et al. 2015).

    Where the shapes differ, the Distiller brings the student's feature to the teacher's with a
    small trained adapter. Nothing is broadcast.

    Args:
        loss: "mse", "mae", "huber" or "cosine_similarity" (here the distance 1 - cosine), another
            Keras loss, or a function of (teacher, student); a list or dict holds one for each
            output.
        teacher_layer_name: layer (or output) of the teacher, by name or path; None for its only
            output.
        student_layer_name: the same for the student.
        normalize: whether both features are divided by the standard deviation of the teacher's,
            taken over each example, so that one loss weight carries over between layers and
            teachers.
        name: name of the loss's metric.
        blur: standard deviation, in positions of the map, of a Gaussian over the teacher's map
            before it is compared (and before `normalize`): the student imitates what is smooth.

    Raises:
        ValueError: an unknown loss, a layer name for one side only, a blur below 0, or of what is
            no map.
    """

    adapts = True

    def __init__(
        self,
        loss: str | keras.losses.Loss | Callable | list | dict = "mse",
        teacher_layer_name: str | None = None,
        student_layer_name: str | None = None,
        normalize: bool = False,
        name: str = "feature_distillation",
        blur: float = 0.0,
    ):
        if student_layer_name is not None and teacher_layer_name is None:
            raise ValueError(
                f'FeatureDistillation got student_layer_name="{student_layer_name}" but no '
                'teacher_layer_name. Name the teacher\'s layer too, or "output" for its output.'
            )
        if not 0 <= blur < math.inf:
            raise ValueError(f"blur must be a number of at least 0, got {blur!r}.")
        self.normalize, self.blur = bool(normalize), float(blur)
        super().__init__(
            loss,
            teacher_layer_name=teacher_layer_name,
            student_layer_name=student_layer_name,
            name=name,
        )

    def formula(self, loss):
        loss = keras_loss(loss)
        named = _FORMULAS.get(kind_of(loss))
        return keras_formula(loss) if named is None or _has_settings(loss) else named

    def build(self, teacher_shape, student_shape):
        if self.blur:
            check_maps(self, teacher_shape, teacher_shape)

    def call(self, teacher, student):
        if self.blur:
            teacher = blurred(teacher, self.blur)
        if self.normalize:
            scale = _standard_deviation(teacher)
            teacher, student = teacher / scale, student / scale
        value = super().call(teacher, student)
        # Sequences keep their positions, which masks and weights may address; maps are averaged.
        inner = tuple(range(1, len(value.shape))) if len(teacher.shape) != 3 else ()
        return ops.mean(value, axis=inner) if inner else value

    def get_config(self):
        return {**super().get_config(), "normalize": self.normalize, "blur": self.blur}


def _standard_deviation(feature):
    axes = tuple(range(1, len(feature.shape)))
    deviation = ops.std(feature, axis=axes, keepdims=True)
    return ops.where(deviation > _EPSILON, deviation, 1.0)  # a dead feature has no scale


def _has_settings(loss):
    """Whether a Keras loss object was given another axis than the last."""
    # Not from get_config, where Keras leaves these settings out.
    return _keras.settings_of(loss).get("axis", -1) != -1
