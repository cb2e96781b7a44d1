"""CIFAR-style residual network (He et al. 2016, section 4.2), projection shortcuts."""

import keras
from keras import layers

from tfkd.models import blocks

WIDTHS = (16, 32, 64)


def resnet(
    input_shape, num_classes, *, depth=20, width=1.0, batch_norm_momentum=blocks.BATCH_NORM_MOMENTUM
):
    """Three stages of (depth - 2) / 6 blocks with 16, 32, 64 channels times `width`, then pooling.

    The stem is 3x3 at full resolution, as in the paper, up to 64 px. Above it halves the image,
    above 128 px twice: the paper has no larger images, and the first stage of a 224 px image would
    cost 49 times that of a 32 px one. Stages 2 and 3 halve the map unless that left less than 4
    pixels a side (inputs under 13 px). Stage ends: `stage1_out`, `stage2_out`, `stage3_out`.

    Args:
        input_shape: (height, width, channels).
        num_classes: number of logits.
        depth: layers with weights: 8, 14, 20, 26, 32, ..., 6n + 2.
        width: multiplies every layer's channels.
        batch_norm_momentum: see `blocks.BATCH_NORM_MOMENTUM`.

    Returns:
        `keras.Model`, see `tfkd.models.build`.
    """
    blocks_per_stage = _blocks_per_stage(depth)
    filters = [blocks.scaled(channels, width) for channels in WIDTHS]
    side = min(input_shape[:2])

    image, x = blocks.image_input(input_shape)
    x = blocks.convolution(
        x, filters[0], 3, stride=1 if side <= 64 else 2, momentum=batch_norm_momentum, name="stem"
    )
    if side > 128:
        x = layers.MaxPooling2D(3, 2, "same", name="stem_pool")(x)
    for stage, channels in enumerate(filters, start=1):
        for block in range(1, blocks_per_stage + 1):
            stride = 2 if stage > 1 and block == 1 and blocks.halved_fits(x) else 1
            name = f"stage{stage}_block{block}"
            out = f"stage{stage}_out" if block == blocks_per_stage else f"{name}_out"
            x = residual(x, channels, stride, batch_norm_momentum, name, out)
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    return keras.Model(image, blocks.logits(x, num_classes), name="resnet")


def residual(x, channels, stride, momentum, name, out):
    """Two 3x3 convolutions beside a shortcut; the layer that ends it is called `out`."""
    shortcut = x
    x = blocks.convolution(x, channels, 3, stride=stride, momentum=momentum, name=f"{name}_1")
    x = blocks.convolution(x, channels, 3, momentum=momentum, relu=False, name=f"{name}_2")
    if shortcut.shape != x.shape:
        shortcut = blocks.convolution(
            shortcut,
            channels,
            1,
            stride=stride,
            momentum=momentum,
            relu=False,
            name=f"{name}_shortcut",
        )
    return layers.ReLU(name=out)(layers.Add(name=f"{name}_add")([x, shortcut]))


def _blocks_per_stage(depth):
    if isinstance(depth, int) and depth >= 8 and (depth - 2) % 6 == 0:
        return (depth - 2) // 6
    nearest = [8]
    if isinstance(depth, (int, float)) and depth > 8:
        lower = int((depth - 2) // 6) * 6 + 2
        nearest = [lower, lower + 6]
    raise ValueError(
        f"depth is {depth!r}. Expected 6n + 2 layers (8, 14, 20, ...): the nearest is "
        f"{' or '.join(map(str, nearest))}."
    )
