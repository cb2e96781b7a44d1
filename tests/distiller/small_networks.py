"""What the Distiller's tests train."""

import keras
import numpy as np
from keras import layers

import tfkd
from tfkd.losses import FeatureDistillation, LogitsDistillation

CLASSES = 4


def cross_entropy():
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def network(width, name, size=8, stages=2, dropout=0.0, regularizer=None):
    """A small convolutional classifier on raw pixels, tapped at stage1_out, stage2_out, ..."""
    image = keras.Input((size, size, 3), name="image")
    x = layers.Rescaling(1 / 255)(image)
    for stage in range(1, stages + 1):
        # Without bias: before BatchNormalization its gradient is rounding error and nothing else.
        x = layers.Conv2D(
            width * stage,
            3,
            strides=stage,
            padding="same",
            use_bias=False,
            kernel_regularizer=regularizer,
        )(x)
        x = layers.BatchNormalization()(x)
        x = layers.ReLU(name=f"stage{stage}_out")(x)
    x = layers.GlobalAveragePooling2D()(x)
    x = layers.Dropout(dropout)(x)
    return keras.Model(image, layers.Dense(CLASSES, name="logits")(x), name=name)


def images(count=16, size=8, seed=0):
    random = np.random.default_rng(seed)
    x = random.integers(0, 256, (count, size, size, 3)).astype("float32")
    return x, random.integers(0, CLASSES, count)


def hint(**options):
    return FeatureDistillation("mse", "stage2_out", "stage2_out", **options)


def distiller(
    teacher=None, student=None, losses=None, optimizer="sgd", run_eagerly=False, **options
):
    made = tfkd.Distiller(
        teacher or network(6, "teacher"),
        student or network(3, "student"),
        losses or [LogitsDistillation(2.0), hint()],
        **options,
    )
    made.compile(optimizer, cross_entropy(), metrics=["accuracy"], run_eagerly=run_eagerly)
    return made


def weights_of(model):
    return [weight.numpy() for weight in model.weights]


def assert_equal_weights(first, second, tolerance=0.0):
    # Threads add up in no fixed order: two equal runs may differ in the last digit.
    for a, b in zip(first, second, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance)


class Counted(layers.Layer):
    """Counts how often a model that contains it is run, and how often it is traced."""

    def build(self, input_shape):
        self.runs = self.add_weight(shape=(), initializer="zeros", trainable=False)
        self.traces = 0

    def call(self, inputs):
        self.traces += 1
        self.runs.assign_add(1.0)
        return inputs


def counted(width, name):
    image = keras.Input((8, 8, 3))
    x = layers.Conv2D(width, 3, name="stage2_out")(Counted(name="counted")(image))
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(image, layers.Dense(CLASSES)(x), name=name)
