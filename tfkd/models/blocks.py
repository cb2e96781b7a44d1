"""Pieces that the families share: image input, convolution + BatchNorm + ReLU, logits."""

import numbers

import keras
from keras import layers

# Keras's default, 0.99, needs hundreds of steps before the moving averages forget their start: a
# student trained for a few epochs on a small dataset then evaluates at chance level though it
# trained well. 0.9 is right after some 40 steps.
BATCH_NORM_MOMENTUM = 0.9

# A map is not halved below this many pixels a side: what is left of an 8x8 digit must still say
# where things are.
MIN_MAP = 4


def image_input(input_shape):
    """Returns (input, normalised): raw pixels 0..255 named "image", and the same scaled to -1..1.

    float32 under every policy: half precision would round the pixels.
    """
    image = keras.Input(input_shape, name="image", dtype="float32")
    return image, layers.Rescaling(1 / 127.5, offset=-1.0, dtype="float32", name="normalise")(image)


def scaled(filters, width):
    """Returns `filters` times the width multiplier, at least 1."""
    if not isinstance(width, numbers.Real) or not 0 < width < float("inf"):
        raise ValueError(
            f"width is {width!r}. Expected a positive number: 1.0 is the full network, "
            "0.5 half as many channels."
        )
    return max(1, round(filters * width))


def checked_momentum(momentum):
    """Returns BatchNorm's momentum, refused outside 0..1 (Keras takes anything)."""
    if not isinstance(momentum, numbers.Real) or not 0 <= momentum < 1:
        raise ValueError(
            f"batch_norm_momentum is {momentum!r}. Expected a number from 0 to below 1: 0.9 suits "
            "short runs, 0.99 is Keras's default."
        )
    return momentum


def convolution(x, filters, kernel, *, stride=1, momentum, relu=True, name):
    """Convolution without bias (BatchNorm's offset is one), BatchNorm and, if asked for, ReLU.

    A strided 1x1 convolution takes its pixels by a pooling layer first, to the same numbers: on
    processors with AVX-512 oneDNN 3 writes out of bounds in the backward pass of one with fewer
    than 16 channels (uxlfoundation/oneDNN issue 6035), and the process dies.
    """
    if kernel == 1 and stride > 1:
        x = layers.MaxPooling2D(1, stride, name=f"{name}_pixels")(x)
        stride = 1
    x = layers.Conv2D(
        filters,
        kernel,
        stride,
        "same",
        use_bias=False,
        kernel_initializer="he_normal",
        name=f"{name}_conv",
    )(x)
    x = layers.BatchNormalization(momentum=checked_momentum(momentum), name=f"{name}_bn")(x)
    return layers.ReLU(name=f"{name}_relu")(x) if relu else x


def separable_convolution(x, filters, kernel, *, momentum, name):
    """Depthwise, then 1x1 convolution, each with BatchNorm and ReLU (MobileNet, 2017)."""
    x = layers.DepthwiseConv2D(
        kernel, padding="same", use_bias=False, depthwise_initializer="he_normal", name=f"{name}_dw"
    )(x)
    x = layers.BatchNormalization(momentum=checked_momentum(momentum), name=f"{name}_dw_bn")(x)
    x = layers.ReLU(name=f"{name}_dw_relu")(x)
    return convolution(x, filters, 1, momentum=momentum, name=f"{name}_pw")


def halved_fits(x):
    """Whether halving the map's sides (rounding up) leaves at least MIN_MAP pixels each way."""
    return min((side + 1) // 2 for side in x.shape[1:3]) >= MIN_MAP


def logits(x, num_classes):
    """The last layer; float32 also under mixed precision, as losses compare these numbers."""
    return layers.Dense(num_classes, dtype="float32", name="logits")(x)
