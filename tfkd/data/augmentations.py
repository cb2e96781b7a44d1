"""Augmentations that can be replayed: pure functions of (images, seeds), vectorised over the batch.

Example i of the result depends on `images[i]` and `seeds[i]` alone, so a stored teacher output
belongs to exactly the image that the student sees (Beyer et al. 2022, "Knowledge distillation: a
good teacher is patient and consistent").
"""

import difflib

import tensorflow as tf

from tfkd.data.seeds import plain, random_integers


@plain
def _moved(images, seeds, border=None, mirror=False):
    """Moves each image by up to an eighth of its size and mirrors every second one, as one gather
    of pixels.

    Args:
        images: tensor of any dtype, shape (batch, height, width, channels).
        seeds: int32 or int64 tensor, shape (batch, 2).
        border: what moves in from outside: "zero", "edge" (the nearest pixel), or None for no move.
        mirror: whether to mirror left-right with probability 1/2.

    Returns:
        tensor of the dtype and shape of `images`.
    """
    images = tf.convert_to_tensor(images)
    batch, (height, width, channels) = tf.shape(images)[0], images.shape[1:]
    rows = tf.range(height)[tf.newaxis]
    columns = tf.range(width)[tf.newaxis]
    if mirror:
        flipped = random_integers(seeds, 2, 2)[:, tf.newaxis] == 1
        columns = tf.where(flipped, width - 1 - columns, columns)
    if border is not None:
        margin_y, margin_x = margin(height), margin(width)
        rows += random_integers(seeds, 0, 2 * margin_y + 1)[:, tf.newaxis] - margin_y
        columns += random_integers(seeds, 1, 2 * margin_x + 1)[:, tf.newaxis] - margin_x
    if border == "edge":
        rows = tf.clip_by_value(rows, 0, height - 1)
        columns = tf.clip_by_value(columns, 0, width - 1)
    elif border == "zero":
        padding = [[0, 0], [margin_y, margin_y], [margin_x, margin_x], [0, 0]]
        images = tf.pad(images, padding)
        rows, columns = rows + margin_y, columns + margin_x
        height, width = height + 2 * margin_y, width + 2 * margin_x
    starts = tf.range(batch)[:, tf.newaxis] * height
    pixels = (starts + rows)[:, :, tf.newaxis] * width + columns[:, tf.newaxis, :]
    return tf.gather(tf.reshape(images, (-1, channels)), pixels)


def margin(size):
    """How far a side of `size` pixels may move: an eighth, rounded, at least 1 (4 for 32 px)."""
    return max(1, (size + 4) // 8)


def shift(images, seeds):
    """Moves by up to an eighth of the size in each direction; border pixels are repeated."""
    return _moved(images, seeds, border="edge")


def crop(images, seeds):
    """Pads by an eighth with zeros and crops at random: CIFAR's pad-4 crop at 32 px."""
    return _moved(images, seeds, border="zero")


def flip(images, seeds):
    """Mirrors left-right with probability 1/2."""
    return _moved(images, seeds, mirror=True)


def crop_flip(images, seeds):
    """`crop` and `flip`: the standard CIFAR augmentation (He et al. 2016, section 4.2)."""
    return _moved(images, seeds, border="zero", mirror=True)


_AUGMENTATIONS = {"none": None, "shift": shift, "crop": crop, "flip": flip, "crop_flip": crop_flip}


def augmentation_names():
    """The names that `augmentation` knows."""
    return list(_AUGMENTATIONS)


def augmentation(name):
    """The augmentation of that name, or None for "none".

    Returns:
        callable (images, seeds) -> images: images uint8 (batch, height, width, channels), seeds
        int64 (batch, 2).

    Raises:
        ValueError: for a name that is not in `augmentation_names()`.
    """
    if name not in _AUGMENTATIONS:
        near = difflib.get_close_matches(str(name), _AUGMENTATIONS, n=1)
        hint = f' Did you mean "{near[0]}"?' if near else ""
        raise ValueError(f'No augmentation "{name}".{hint} There are: {", ".join(_AUGMENTATIONS)}.')
    return _AUGMENTATIONS[name]
