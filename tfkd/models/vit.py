"""A small Vision Transformer (Dosovitskiy et al. 2021, arXiv:2010.11929), of stock Keras layers."""

import math
import numbers

import keras
from keras import layers

from tfkd.models import blocks

STAGES = 3
TOKENS = 64  # how many an image is cut into, as nearly as its sides allow
_SPREAD = keras.initializers.RandomNormal(stddev=0.02)


def vit(input_shape, num_classes, *, width=1.0, depth=6, heads=4, patch=None, dropout=0.0):
    """Patches with a learned position, pre-norm blocks, the mean of the tokens: 0.3 M parameters.

    As many tokens as the original has at 128 pixels, 64 channels, and the mean in the place of a
    class token (Beyer et al. 2022, arXiv:2205.01580). Stage ends, as maps: `stage1_out`,
    `stage2_out`, `stage3_out`, after each third of the blocks.

    Args:
        input_shape: (height, width, channels).
        num_classes: number of logits.
        width: multiplies the 64 channels.
        depth: number of blocks, a multiple of 3.
        heads: of attention; they divide the channels.
        patch: pixels a side of a patch, which divide the image's sides; by default what cuts the
            image into about 64.
        dropout: rate within the blocks, 0 <= rate < 1.

    Returns:
        `keras.Model`, see `tfkd.models.build`.

    Raises:
        ValueError: a depth, heads or patch that do not divide what they must.
    """
    channels = blocks.scaled(64, width)
    _check_whole("depth", depth, STAGES, depth, f"a multiple of {STAGES}, a third a stage")
    _check_whole("heads", heads, heads, channels, f"a divisor of the {channels} channels")
    patch = _default_patch(input_shape) if patch is None else patch
    for side in input_shape[:2]:
        expected = f"a divisor of the image's sides, {input_shape[0]} and {input_shape[1]}"
        _check_whole("patch", patch, patch, side, expected)
    image, x = blocks.image_input(input_shape)
    x = layers.Conv2D(channels, patch, patch, use_bias=False, name="patches")(x)
    rows, columns = x.shape[1:3]
    # The bias of every token and channel is the learned position.
    x = layers.EinsumDense(
        "bhwc,cd->bhwd",
        (rows, columns, channels),
        bias_axes="hwd",
        bias_initializer=_SPREAD,
        name="positions",
    )(x)
    for stage in range(STAGES):
        x = layers.Reshape((rows * columns, channels), name=f"tokens{stage + 1}")(x)
        for number in range(stage * depth // STAGES, (stage + 1) * depth // STAGES):
            x = _block(x, channels, heads, dropout, f"block{number + 1}")
        x = layers.Reshape((rows, columns, channels), name=f"stage{stage + 1}_out")(x)
    x = layers.LayerNormalization(name="norm")(x)
    x = layers.GlobalAveragePooling2D(name="features")(x)
    return keras.Model(image, blocks.logits(x, num_classes), name="vit")


def _block(x, channels, heads, dropout, name):
    y = layers.LayerNormalization(name=f"{name}_attention_norm")(x)
    y = layers.MultiHeadAttention(
        heads, channels // heads, dropout=dropout, name=f"{name}_attention"
    )(y, y)
    x = layers.Add(name=f"{name}_attention_add")([x, y])
    y = layers.LayerNormalization(name=f"{name}_mlp_norm")(x)
    y = layers.Dense(4 * channels, "gelu", name=f"{name}_mlp1")(y)
    y = layers.Dense(channels, name=f"{name}_mlp2")(y)
    y = layers.Dropout(dropout, name=f"{name}_dropout")(y)
    return layers.Add(name=f"{name}_mlp_add")([x, y])


def _default_patch(input_shape):
    """The divisor of the image's sides that cuts it into about `TOKENS`."""
    height, width = input_shape[:2]
    both = math.gcd(height, width)
    sizes = [size for size in range(1, both + 1) if both % size == 0]
    return min(sizes, key=lambda size: abs(math.log(height * width / size**2 / TOKENS)))


def _check_whole(name, value, divisor, number, expected):
    """ValueError unless a value is a whole number above 0 and a divisor divides a number."""
    whole = isinstance(value, numbers.Integral) and not isinstance(value, bool) and value > 0
    if not whole or number % divisor:
        raise ValueError(f"{name} is {value!r}. Expected {expected}.")
