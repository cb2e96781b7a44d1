"""Reading pixels: decoding, resizing, sizes asked for."""

import tensorflow as tf


def parse_size(image_size):
    """`image_size` as (height, width), or None; an integer means a square.

    Raises:
        ValueError: for anything but positive whole numbers.
    """
    if image_size is None:
        return None
    size = (image_size, image_size) if isinstance(image_size, int) else tuple(image_size)
    if len(size) != 2 or not all(isinstance(side, int) and side > 0 for side in size):
        raise ValueError(
            f"image_size must be a positive whole number or a pair (height, width); given "
            f"{image_size!r}."
        )
    return size


def resize(images, size):
    """Bilinear resize without antialiasing, as `keras.layers.Resizing` does it, rounded to uint8.

    Args:
        images: uint8 tensor, shape (..., height, width, channels).
        size: (height, width).
    """
    resized = tf.image.resize(images, size, method="bilinear", antialias=False)
    return tf.cast(tf.round(resized), tf.uint8)


def decode(encoded, shape, resized):
    """One encoded image (JPEG, PNG, BMP, the first frame of a GIF) as uint8 tensor of shape
    `shape`.

    Args:
        encoded: scalar string tensor, a file's bytes.
        shape: (height, width, channels) of the result.
        resized: whether to resize to it; if not, another size is an error.
    """
    image = tf.io.decode_image(encoded, channels=shape[-1], expand_animations=False)
    if resized:
        image = resize(image, shape[:2])
    return tf.ensure_shape(image, shape)
