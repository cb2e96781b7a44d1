"""Variational information distillation (Ahn et al. 2019)."""

import math

import keras
import numpy as np
from keras import layers, ops

from tfkd.losses.base import DistillationLoss
from tfkd.losses.maps import at_one_size, check_maps

SMALLEST_VARIANCE = 1e-5
FIRST_VARIANCE = 5.0


def gaussian_surprise(target, mean, variance):
    """-log density of a Gaussian with a variance a channel, without log(2 π) / 2.

    Args:
        target, mean: float tensors, shape (batch, ..., channels).
        variance: shape (channels,).

    Returns:
        Tensor of shape (batch,): the mean over positions and channels. It may be negative.
    """
    values = 0.5 * (ops.square(mean - target) / variance + ops.log(variance))
    return ops.mean(values, axis=tuple(range(1, len(target.shape))))


@keras.saving.register_keras_serializable(package="tfkd")
class VariationalDistillation(DistillationLoss):
    """VID: how well the teacher's map can be told from the student's.

    A small trained network gives the mean of a Gaussian, whose variance for each channel is trained
    too (Ahn et al. 2019, "Variational Information Distillation for Knowledge Transfer",
    arXiv:1904.05835); weight about 1. The value may be negative. Maps of unlike sizes are compared
    at the smaller size; vectors are taken as well.

    Args:
        teacher_layer_name: layer of the teacher that gives a map or a vector, by name or path.
        student_layer_name: the same for the student, of any width.
        name: name of the loss's metric.
    """

    adapts = "itself"

    def check_shapes(self, teacher_shape, student_shape):
        ranks = (len(teacher_shape), len(student_shape))
        if ranks != (2, 2) or None in (teacher_shape[-1], student_shape[-1]):
            check_maps(self, teacher_shape, student_shape)

    def build(self, teacher_shape, student_shape):
        # 1x1 convolutions, over any positions.
        width, given = teacher_shape[-1], student_shape[-1]
        self.mean_layers = []
        for number in range(3):
            activation = "relu" if number < 2 else None
            layer = layers.Dense(width, activation, use_bias=False, dtype="float32")
            layer.build((None, given if number == 0 else width))
            self.mean_layers.append(layer)
        start = math.log(math.expm1(FIRST_VARIANCE - SMALLEST_VARIANCE))
        self.spread = keras.Variable(np.full(width, start, "float32"), name="spread")

    def call(self, teacher, student):
        if len(teacher.shape) == 4:
            teacher, student = at_one_size(teacher, student)
        for layer in self.mean_layers:
            student = layer(student)
        variance = ops.softplus(self.spread) + SMALLEST_VARIANCE
        return gaussian_surprise(teacher, student, variance)
