"""From an image's own size to the one a model takes: by one rule, wherever an image comes from."""

import operator
from collections.abc import Iterable

import tensorflow as tf

STRETCH = "stretch"
# tfkd.settings names them too; a test compares the two.
RULES = (STRETCH, "stretch_antialiased", "crop", "pad")
# What each does, for people who have to do the same.
MEANINGS = {
    STRETCH: "stretched to this size, bilinearly without antialiasing",
    "stretch_antialiased": "stretched to this size, bilinearly with antialiasing",
    "crop": "cut to the middle part of this aspect, then resized bilinearly with antialiasing",
    "pad": "resized bilinearly with antialiasing until they fit, and laid in the middle of black",
}


def parse_size(image_size):
    """`image_size` as (height, width), or None; one number means a square.

    Raises:
        ValueError: for anything but positive whole numbers, Python's or NumPy's.
    """
    if image_size is None:
        return None
    try:
        operator.index(image_size)
        sides = (image_size, image_size)
    except TypeError:
        sides = tuple(image_size) if isinstance(image_size, Iterable) else ()
    try:
        size = tuple(operator.index(side) for side in sides if not isinstance(side, bool))
    except TypeError:
        size = ()
    if len(size) != 2 or min(size) < 1:
        raise ValueError(
            f"image_size must be a positive whole number or a pair (height, width); given "
            f"{image_size!r}."
        )
    return size


def check_rule(rule):
    """Raises ValueError for what is none of `RULES`."""
    if rule not in RULES:
        raise ValueError(f"resize must be one of {', '.join(RULES)}; given {rule!r}.")


def resize(images, size, rule=STRETCH):
    """Resizes by a rule, rounded to uint8. Images of the size that is asked for stay as they are.

    Args:
        images: uint8 tensor, shape (..., height, width, channels); one image, or a batch of them.
        size: (height, width).
        rule: "stretch": bilinear without antialiasing, as `keras.layers.Resizing` does it;
            "stretch_antialiased": with it; "crop": the largest middle part of the aspect of `size`,
            antialiased; "pad": the whole image, antialiased, in the middle of black.
    """
    check_rule(rule)
    if rule == STRETCH:
        return _rounded(tf.image.resize(images, size, method="bilinear", antialias=False))
    if rule == "crop":
        images = _middle(images, size)
    inner = _inner(images, size) if rule == "pad" else size
    resized = _rounded(tf.image.resize(images, inner, method="bilinear", antialias=True))
    if rule == "pad":
        top, left = (size[0] - inner[0]) // 2, (size[1] - inner[1]) // 2
        resized = tf.image.pad_to_bounding_box(resized, top, left, *size)
    return resized


def _rounded(images):
    return tf.cast(tf.round(images), tf.uint8)


def _height_and_width(images):
    # Whole numbers throughout, so that the same pixels are cut in any graph; products need 64 bits.
    sides = tf.cast(tf.shape(images)[-3:-1], tf.int64)
    return sides[0], sides[1]


def _middle(images, size):
    """The largest part, in the middle, of the aspect of `size`."""
    (height, width), (rows, columns) = _height_and_width(images), size
    product = tf.minimum(height * columns, width * rows)
    kept_rows, kept_columns = tf.maximum(product // columns, 1), tf.maximum(product // rows, 1)
    top, left = (height - kept_rows) // 2, (width - kept_columns) // 2
    return images[..., top : top + kept_rows, left : left + kept_columns, :]


def _inner(images, size):
    """(height, width) int32 tensor: the largest of the images' aspect that fits in `size`."""
    (height, width), (rows, columns) = _height_and_width(images), size
    tall = height * columns >= width * rows

    def rounded(number, divisor):
        return tf.maximum((2 * number + divisor) // (2 * divisor), 1)

    inner_rows = tf.where(tall, tf.cast(rows, tf.int64), rounded(height * columns, width))
    inner_columns = tf.where(tall, rounded(width * rows, height), tf.cast(columns, tf.int64))
    return tf.cast(tf.stack([inner_rows, inner_columns]), tf.int32)
