"""The "streamlined" teacher and the small student of Umirzakova et al., Electronics 13(22):4530
(2024), doi 10.3390/electronics13224530.

The paper's own tables were not to be had. The widths are those of a third-party implementation that
says it follows them. Its first "fully connected layer of 3136" is read as the flattened 7x7 map of
64 channels; the pooling to 7x7 that makes it so is a guess of that implementation.
"""

import keras
from keras import layers

from tfkd.models import blocks

MAP = 7  # pixels a side before the teacher's fully connected layers


def streamlined_teacher(
    input_shape, num_classes, *, width=1.0, batch_norm_momentum=blocks.BATCH_NORM_MOMENTUM
):
    """Five 3x3 convolutions (64-128-256-128-64), then 1200 and 800 units: 5.5 M parameters.

    BatchNorm after the second and the fifth convolution only, as in the source. Stage ends:
    `stage1_out` after the pool, `stage2_out` after the third, `stage3_out` after the fifth
    convolution.

    Args:
        input_shape: (height, width, channels).
        num_classes: number of logits.
        width: multiplies every layer's channels and units.
        batch_norm_momentum: see `blocks.BATCH_NORM_MOMENTUM`.

    Returns:
        `keras.Model`, see `tfkd.models.build`.
    """
    momentum = batch_norm_momentum
    filters = [blocks.scaled(channels, width) for channels in (64, 128, 256, 128, 64)]
    image, x = blocks.image_input(input_shape)
    x = _plain(x, filters[0], "conv1")
    x = _halved(x, "stage1_out")
    x = blocks.convolution(x, filters[1], 3, momentum=momentum, name="conv2")
    x = layers.Identity(name="stage2_out")(_plain(x, filters[2], "conv3"))
    x = _plain(x, filters[3], "conv4")
    x = blocks.convolution(x, filters[4], 3, momentum=momentum, name="conv5")
    x = layers.Identity(name="stage3_out")(x)
    x = _averaged(x)
    x = layers.Flatten(name="flatten")(x)
    for number, units in enumerate((1200, 800), start=1):
        x = _dense(x, blocks.scaled(units, width), f"fc{number}")
    return keras.Model(image, blocks.logits(x, num_classes), name="streamlined_teacher")


def streamlined_student(
    input_shape,
    num_classes,
    *,
    width=1.0,
    dropout=0.1,
    batch_norm_momentum=blocks.BATCH_NORM_MOMENTUM,
):
    """Three convolutions (32-64-128) with BatchNorm and pooling, then 256 units: 0.62 M parameters.

    A map is not halved below 4 pixels. Stage ends: `stage1_out`, `stage2_out`, `stage3_out`.

    Args:
        input_shape: (height, width, channels).
        num_classes: number of logits.
        width: multiplies every layer's channels and units.
        dropout: rate after the hidden layer, 0 <= rate < 1.
        batch_norm_momentum: see `blocks.BATCH_NORM_MOMENTUM`.

    Returns:
        `keras.Model`, see `tfkd.models.build`.
    """
    image, x = blocks.image_input(input_shape)
    for number, channels in enumerate((32, 64, 128), start=1):
        filters = blocks.scaled(channels, width)
        x = blocks.convolution(x, filters, 3, momentum=batch_norm_momentum, name=f"conv{number}")
        x = _halved(x, f"stage{number}_out")
    x = layers.Flatten(name="flatten")(x)
    x = _dense(x, blocks.scaled(256, width), "fc1")
    x = layers.Dropout(dropout, name="fc1_dropout")(x)
    return keras.Model(image, blocks.logits(x, num_classes), name="streamlined_student")


def _plain(x, filters, name):
    return layers.Conv2D(
        filters, 3, padding="same", activation="relu", kernel_initializer="he_normal", name=name
    )(x)


def _halved(x, name):
    if blocks.halved_fits(x):
        return layers.MaxPooling2D(2, padding="same", name=name)(x)
    return layers.Identity(name=name)(x)


def _averaged(x):
    """Averages a map to 7x7, with equal windows that may overlap; a smaller one stays as it is."""
    sides = x.shape[1:3]
    if min(sides) <= MAP:
        return x
    strides = [side // MAP for side in sides]
    windows = [side - (MAP - 1) * stride for side, stride in zip(sides, strides, strict=True)]
    return layers.AveragePooling2D(windows, strides, name="pool")(x)


def _dense(x, units, name):
    return layers.Dense(units, activation="relu", kernel_initializer="he_normal", name=name)(x)
