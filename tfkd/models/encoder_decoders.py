"""A small encoder-decoder for a class at each pixel (after U-Net, Ronneberger et al. 2015,
arXiv:1505.04597)."""

import keras
from keras import layers

from tfkd.models import blocks


def encoder_decoder(
    input_shape,
    num_classes,
    *,
    width=1.0,
    depth=2,
    batch_norm_momentum=blocks.BATCH_NORM_MOMENTUM,
):
    """Halves the map `depth` times and doubles it again, each time beside what it was before.

    Every level has two 3x3 convolutions with BatchNorm, of 16, 32, 64, ... channels times `width`.
    Stage ends: `stage1_out`, ... of the encoder, the last one at the bottom.

    Args:
        input_shape: (height, width, channels), each side a multiple of 2**depth.
        num_classes: logits at each pixel.
        width: multiplies all channels.
        depth: how many times the map is halved, 1 or more.
        batch_norm_momentum: see `blocks.BATCH_NORM_MOMENTUM`.

    Returns:
        Functional `keras.Model`: images (batch, height, width, channels), raw pixels 0..255 ->
        float32 logits (batch, height, width, num_classes).

    Raises:
        ValueError: a depth below 1, or sides that cannot be halved so often.
    """
    if isinstance(depth, bool) or not isinstance(depth, int) or depth < 1:
        raise ValueError(f"depth is {depth!r}; expected a whole number of at least 1.")
    multiple = 2**depth
    if any(side is None or side % multiple for side in input_shape[:2]):
        raise ValueError(
            f"An encoder_decoder of depth {depth} takes sides that are multiples of {multiple}; "
            f"the images are {tuple(input_shape[:2])}. Give another image_size, or a smaller depth."
        )

    def level(x, number, name):
        filters = blocks.scaled(16 * 2**number, width)
        for part in (1, 2):
            own = f"{name}{number + 1}_{part}"
            x = blocks.convolution(x, filters, 3, momentum=batch_norm_momentum, name=own)
        return x

    image, x = blocks.image_input(input_shape)
    before = []
    for number in range(depth):
        x = layers.Identity(name=f"stage{number + 1}_out")(level(x, number, "encode"))
        before.append(x)
        x = layers.MaxPooling2D(2, name=f"pool{number + 1}")(x)
    x = layers.Identity(name=f"stage{depth + 1}_out")(level(x, depth, "encode"))
    for number in reversed(range(depth)):
        x = layers.UpSampling2D(2, name=f"double{number + 1}")(x)
        x = layers.Concatenate(name=f"beside{number + 1}")([x, before[number]])
        x = level(x, number, "decode")
    logits = layers.Conv2D(num_classes, 1, dtype="float32", name="logits")(x)
    return keras.Model(image, logits, name="encoder_decoder")
