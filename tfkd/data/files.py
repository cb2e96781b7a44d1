"""Image files read into memory at once, all of one shape."""

import numpy as np
import tensorflow as tf
from PIL import ExifTags, Image

from tfkd.data.images import FORMATS, decode
from tfkd.data.pipeline import MEMORY_LIMIT

_ON_THEIR_SIDE = (5, 6, 7, 8)  # EXIF orientations
_GREY_MODES = ("1", "L", "I;16", "I;16B", "I;16L", "I;16N", "LA")


def common_shape(paths, size=None):
    """(height, width, channels) of image files, by their headers; grey only if all are.

    Args:
        paths: list of `pathlib.Path`.
        size: (height, width) to resize to; None for the files' own, which must be one.

    Raises:
        ValueError: a file that is no image, or images of different sizes without a `size`.
    """
    sizes, grey = {}, True
    for path in paths:
        try:
            with Image.open(path, formats=FORMATS) as file:
                grey &= file.mode in _GREY_MODES
                width, height = file.size if size is None else (0, 0)
                if file.getexif().get(ExifTags.Base.Orientation) in _ON_THEIR_SIDE:
                    width, height = height, width  # as a viewer turns it
        except OSError as error:
            raise ValueError(f'"{path}" cannot be read as an image: {error}.') from error
        sizes.setdefault((height, width), path)
    if size is None and len(sizes) > 1:
        (first, one), (second, other) = list(sizes.items())[:2]
        raise ValueError(
            f"The images differ in size: {one} is {first[0]}x{first[1]} (height x width), {other} "
            f"is {second[0]}x{second[1]}. Give image_size=(height, width) to resize them all."
        )
    return (*(size or next(iter(sizes))), 1 if grey else 3)


def read_images(paths, shape, rule=None):
    """Image files as uint8 (n, height, width, channels), decoded as `tfkd.data.images` does.

    Raises:
        ValueError: a file that cannot be decoded.
    """
    images = np.empty((len(paths), *shape), np.uint8)
    for number, path in enumerate(paths):
        try:
            images[number] = decode(tf.constant(path.read_bytes()), shape, rule)
        except (OSError, tf.errors.OpError, ValueError) as error:
            reason = str(error).splitlines()[0][:200]
            raise ValueError(f'"{path}" cannot be read as an image: {reason}.') from error
    return images


def require_room(name, count, shape):
    """Raises ValueError where so many images are more than is held in memory."""
    if count * int(np.prod(shape)) > MEMORY_LIMIT:
        raise ValueError(
            f'"{name}" has {count} images of {shape}, more than the {MEMORY_LIMIT >> 30} GiB that '
            "are held in memory. Give a smaller image_size."
        )
