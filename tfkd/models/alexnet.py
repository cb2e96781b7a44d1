"""AlexNet (Krizhevsky et al. 2012, torchvision's widths), dense and depthwise-separable.

`modified_alexnet` follows the idea of Avazov et al., Heliyon 10(14):e34376 (2024): AlexNet
"enhanced with depthwise-separable convolution layers". The paper's layer widths are not public;
this plan is a reconstruction: conv1 stays dense (with three input channels there is nothing to
gain), conv2..conv5 become depthwise + 1x1. Both networks have BatchNorm after every convolution,
which the AlexNet of 2012 had not, so that the two differ in their convolutions only.

Separable convolutions cut the convolutional part 8.5 times (32 px: 2.25 M -> 0.26 M parameters),
but the fully connected head of the original holds 54.6 M: hence global average pooling by default,
or a smaller head of 1024-512 units.

Stage ends: `stage1_out` after pool1, `stage2_out` after pool2, `stage3_out` after conv4,
`stage4_out` after pool5.
"""

import keras
from keras import layers

from tfkd.models import blocks

WIDTHS = (64, 192, 384, 256, 256)
HEADS = ("gap", "fc")


def modified_alexnet(
    input_shape,
    num_classes,
    *,
    width=1.0,
    head="gap",
    dropout=0.5,
    batch_norm_momentum=blocks.BATCH_NORM_MOMENTUM,
):
    """AlexNet with depthwise-separable conv2..conv5.

    Args:
        input_shape: (height, width, channels), 8 to 224 px and beyond; the plan follows the smaller
            side (see `plan`).
        num_classes: number of logits.
        width: multiplies every layer's channels (and units of the fc head).
        head: "gap" (global average pooling + logits) or "fc" (1024-512 units + logits).
        dropout: rate after each hidden layer of the "fc" head, 0 <= rate < 1; "gap" has none.
        batch_norm_momentum: see `blocks.BATCH_NORM_MOMENTUM`.

    Returns:
        `keras.Model`, see `tfkd.models.build`.
    """
    return _alexnet(
        "modified_alexnet",
        blocks.separable_convolution,
        input_shape,
        num_classes,
        width,
        head,
        dropout,
        batch_norm_momentum,
    )


def alexnet(
    input_shape,
    num_classes,
    *,
    width=1.0,
    head="gap",
    dropout=0.5,
    batch_norm_momentum=blocks.BATCH_NORM_MOMENTUM,
):
    """AlexNet with dense convolutions and, unlike the original, BatchNorm.

    Arguments and plan as `modified_alexnet`.
    """
    return _alexnet(
        "alexnet",
        blocks.convolution,
        input_shape,
        num_classes,
        width,
        head,
        dropout,
        batch_norm_momentum,
    )


def plan(side):
    """Returns (conv1 kernel, conv1 stride, conv2 kernel, pool size).

    `side` is the smaller side of the images, in pixels.

    224 px gets the original's 11x11 stride 4, 5x5 and overlapping pools; 32 px and its like keep
    their resolution in conv1. Sizes between get stride 2, so that conv3..conv5 always see maps of
    some 4 to 16 pixels.
    """
    if side <= 48:
        return 3, 1, 3, 2
    if side < 112:
        return 5, 2, 3, 2
    return 11, 4, 5, 3


def _alexnet(name, convolution, input_shape, num_classes, width, head, dropout, momentum):
    if head not in HEADS:
        raise ValueError(
            f'head is {head!r}. Expected "gap" (global average pooling) or "fc" (1024-512 units).'
        )
    kernel1, stride1, kernel2, pool_size = plan(min(input_shape[:2]))
    filters = [blocks.scaled(channels, width) for channels in WIDTHS]

    image, x = blocks.image_input(input_shape)
    x = blocks.convolution(x, filters[0], kernel1, stride=stride1, momentum=momentum, name="conv1")
    x = _stage_end(x, 1, pool_size)
    x = convolution(x, filters[1], kernel2, momentum=momentum, name="conv2")
    x = _stage_end(x, 2, pool_size)
    x = convolution(x, filters[2], 3, momentum=momentum, name="conv3")
    x = convolution(x, filters[3], 3, momentum=momentum, name="conv4")
    x = _stage_end(x, 3)
    x = convolution(x, filters[4], 3, momentum=momentum, name="conv5")
    x = _stage_end(x, 4, pool_size)

    if head == "gap":
        x = layers.GlobalAveragePooling2D(name="pool")(x)
    else:
        x = layers.Flatten(name="flatten")(x)
        for number, units in enumerate((1024, 512), start=1):
            x = layers.Dense(
                blocks.scaled(units, width),
                activation="relu",
                kernel_initializer="he_normal",
                name=f"fc{number}",
            )(x)
            x = layers.Dropout(dropout, name=f"fc{number}_dropout")(x)
    return keras.Model(image, blocks.logits(x, num_classes), name=name)


def _stage_end(x, number, pool_size=None):
    """Max-pools by 2 where the plan has a pool and the map is large enough.

    The result is named stage<number>_out either way.
    """
    name = f"stage{number}_out"
    if pool_size and blocks.halved_fits(x):
        return layers.MaxPooling2D(pool_size, 2, "same", name=name)(x)
    return layers.Identity(name=name)(x)
