"""Augmentations that can be replayed: pure functions of (images, seeds), vectorised over the batch.

Example i of the result depends on `images[i]` and `seeds[i]` alone, so a stored teacher output
belongs to exactly the image that the student sees (Beyer et al. 2022, "Knowledge distillation: a
good teacher is patient and consistent").
"""

import functools

import tensorflow as tf

from tfkd.data.contrastive_views import contrastive
from tfkd.data.operations import happens, in_sequence
from tfkd.data.seeds import plain, random_integers
from tfkd.near_names import meant

_AUGMENTED, _OTHER_SEEDS = 48, (49, 50)  # draws of a seed


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


def jda(images, seeds, probability=0.5, augment="crop_flip"):
    """Joint data augmentation: fourteen operations in sequence, each with a probability.

    Li et al. 2024, "Multi-perspective analysis on data augmentation in knowledge distillation",
    Neurocomputing 583; 1/2 for CIFAR-10, 0.3 for CIFAR-100, 0.2 for ImageNet. The list, its order
    and magnitudes are those of the authors' code for CIFAR-100, two of them too small to do
    anything: autocontrast, contrast, posterize, solarize, translation, shear, brightness, shear,
    translation, sharpness, invert, color, equalize, rotation. Ours: every second image gets the
    negative of a magnitude that has a direction, grey comes in from outside, and pixels that move
    are interpolated linearly.

    Args:
        images: uint8, 1 or 3 channels.
        seeds: as in all augmentations.
        probability: of each operation by itself, from 0 to 1.
        augment: name of the augmentation that comes after them.
    """
    return _by_name(augment, in_sequence(images, seeds, probability), seeds)


def two_views(images, seeds, share=0.5, probability=0.5, augment="crop_flip", separate=True):
    """What the student sees of each image, and for its teacher the plain view beside it.

    For a Distiller with separate inputs and `tfkd.teachers.TwoViews`. Plain are images by
    `augment` alone; the plain view's draws are not those of the view that the student sees.

    Args:
        images: uint8, 1 or 3 channels.
        seeds: as in all augmentations.
        share: of the images that the student sees after `jda`, from 0 to 1; the rest is plain.
        probability: of each operation of `jda`.
        augment: name of an augmentation.
        separate: whether to give both an input of their own, or what the student sees alone.

    Returns:
        {"teacher": {"seen", "plain": images, "augmented": whether it is after `jda`, bool
        (batch,)}, "student": the images seen}; or these images.
    """
    augmented = happens(seeds, _AUGMENTED, share)
    joint = in_sequence(images, seeds, probability)
    seen = tf.where(augmented[:, None, None, None], joint, images)
    seen = _by_name(augment, seen, seeds)
    if not separate:
        return seen
    others = [tf.cast(random_integers(seeds, n, 2**31), tf.int64) for n in _OTHER_SEEDS]
    plain_view = _by_name(augment, images, tf.stack(others, axis=1))
    teacher = {"seen": seen, "plain": plain_view, "augmented": augmented}
    return {"teacher": teacher, "student": seen}


def _by_name(name, images, seeds):
    augment = augmentation(name)
    return tf.convert_to_tensor(images) if augment is None else augment(images, seeds)


_AUGMENTATIONS = {
    "none": None,
    "shift": shift,
    "crop": crop,
    "flip": flip,
    "crop_flip": crop_flip,
    "jda": jda,
    "contrastive": contrastive,
}


def augmentation_names():
    """The names that `augmentation` knows."""
    return list(_AUGMENTATIONS)


def augmentation(name, **options):
    """The augmentation of that name, or None for "none".

    Args:
        name: one of `augmentation_names()`, or "two_views".
        **options: of `jda`, `contrastive` or `two_views`, see there.

    Returns:
        callable (images, seeds) -> images: images uint8 (batch, height, width, channels), seeds
        int64 (batch, 2).

    Raises:
        ValueError: for a name that it does not know.
    """
    known = {**_AUGMENTATIONS, "two_views": two_views}
    if name not in known:
        hint = meant(name, known, most=1)
        raise ValueError(f'No augmentation "{name}". {hint}There are: {", ".join(_AUGMENTATIONS)}.')
    return functools.partial(known[name], **options) if options else known[name]
