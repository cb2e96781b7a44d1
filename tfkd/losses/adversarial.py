"""Adversarial alignment: features that a discriminator cannot tell from the teacher's."""

import keras
import numpy as np
import tensorflow as tf
from keras import layers, ops

from tfkd.losses.base import DistillationLoss
from tfkd.losses.maps import check_features, flat


@tf.custom_gradient
def gradient_reversed(x):
    """`x` itself; its gradient is turned around (Ganin and Lempitsky 2015, arXiv:1409.7495)."""
    return tf.identity(x), lambda upstream: -upstream


@keras.saving.register_keras_serializable(package="tfkd")
class AdversarialAlignment(DistillationLoss):
    """A trained discriminator tells the teacher's features from the student's, who learns to hide.

    The value is the discriminator's cross-entropy, -log D(t) - log(1 - D(s)): about 1.39 where it
    can tell nothing. The discriminator makes it small; into the student goes the gradient turned
    around (Ganin and Lempitsky 2015, "Unsupervised Domain Adaptation by Backpropagation",
    arXiv:1409.7495), so that one step trains both. Features of another shape than the teacher's go
    through a trained adapter, which is on the student's side.

    Args:
        units: width of the discriminator's hidden layer.
        teacher_layer_name: layer of the teacher, by name or path: best pooled features.
        student_layer_name: the same for the student.
        name: name of the loss's metric.

    Raises:
        ValueError: units that are no whole number of 1 or more.
    """

    adapts = True
    settings = ("units",)

    def __init__(
        self,
        units: int = 256,
        teacher_layer_name: str | None = None,
        student_layer_name: str | None = None,
        name: str | None = None,
    ):
        super().__init__(teacher_layer_name, student_layer_name, name=name)
        if isinstance(units, bool) or not isinstance(units, int) or units < 1:
            raise ValueError(f"units must be a whole number of 1 or more, got {units!r}.")
        self.units = units

    def build(self, teacher_shape, student_shape):
        check_features(self, teacher_shape, student_shape)
        width = int(np.prod(teacher_shape[1:]))
        self.discriminator = [
            layers.Dense(self.units, "leaky_relu", dtype="float32"),
            layers.Dense(1, dtype="float32"),
        ]
        for layer, given in zip(self.discriminator, (width, self.units), strict=True):
            layer.build((None, given))

    def call(self, teacher, student):
        found = []
        for x in (flat(teacher), gradient_reversed(flat(student))):
            for layer in self.discriminator:
                x = layer(x)
            found.append(x[:, 0])
        return ops.softplus(-found[0]) + ops.softplus(found[1])
