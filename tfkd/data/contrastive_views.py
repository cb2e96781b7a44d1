"""Views for contrastive learning: what of an image may change while it stays the same image."""

import math

import tensorflow as tf

from tfkd.data.operations import brightness, color, contrast, happens
from tfkd.data.seeds import plain, random_integers

# Draws of a seed.
_AREA, _ASPECT, _TOP, _LEFT, _MIRRORED, _JITTERED, _GREY = range(64, 71)
_FACTORS = (71, 72, 73)
_STEPS = 2**24
_WIDEST = math.log(4 / 3)  # of the log of a crop's aspect
_JITTER, _JITTER_SHARE, _GREY_SHARE = 0.4, 0.7, 0.2


@plain
def contrastive(images, seeds, smallest=0.5, mirror=True):
    """A view of contrastive learning: a part of the image at its size, in changed colours.

    After the code of CIBHash (Qiu et al. 2021, arXiv:2105.06138), without its hue and blur: a crop
    of 50 to 100 % of the area and an aspect of 3/4 to 4/3, resized to the image's size; every
    second one mirrored; of 70 % brightness, contrast and saturation times 0.6 to 1.4 each; 20 %
    grey.

    Args:
        images: uint8, 1 or 3 channels.
        seeds: as in all augmentations; two views are two seeds.
        smallest: share of the area that a crop keeps at least, above 0 to 1.
        mirror: whether to mirror left-right; not for digits or text.

    Returns:
        uint8 tensor of the images' shape.

    Raises:
        ValueError: a share out of range, or images of other channels.
    """
    images = tf.convert_to_tensor(images)
    if images.dtype != tf.uint8 or images.shape[-1] not in (1, 3):
        raise ValueError(
            "Contrastive views are made of bytes, uint8 with 1 or 3 channels; given "
            f"{images.dtype.name} of shape {tuple(images.shape)}. Cast images from 0 to 255."
        )
    if not 0 < smallest <= 1:
        raise ValueError(f"smallest is {smallest}; expected a share above 0, up to 1.")
    pixels = tf.cast(images, tf.float32)
    pixels = tf.image.crop_and_resize(
        pixels, _boxes(seeds, smallest, mirror), tf.range(tf.shape(images)[0]), images.shape[1:3]
    )
    pixels = tf.round(pixels)
    jittered = pixels
    for operation, draw in zip((brightness, contrast, color), _FACTORS, strict=True):
        jittered = operation(jittered, _uniform(seeds, draw, -_JITTER, _JITTER))
    pixels = _where(happens(seeds, _JITTERED, _JITTER_SHARE), jittered, pixels)
    grey = color(pixels, -tf.ones(tf.shape(images)[:1]))
    return tf.cast(_where(happens(seeds, _GREY, _GREY_SHARE), grey, pixels), tf.uint8)


def _boxes(seeds, smallest, mirror):
    """(top, left, bottom, right) of each crop, 0 to 1; of mirrored ones left and right change."""
    area = _uniform(seeds, _AREA, smallest, 1.0)
    aspect = tf.exp(_uniform(seeds, _ASPECT, -_WIDEST, _WIDEST))
    height, width = tf.sqrt(area / aspect), tf.sqrt(area * aspect)
    # One that is too long for the image is cut, and loses some of its area.
    height, width = tf.minimum(height, 1.0), tf.minimum(width, 1.0)
    top = (1.0 - height) * _uniform(seeds, _TOP, 0.0, 1.0)
    left = (1.0 - width) * _uniform(seeds, _LEFT, 0.0, 1.0)
    right = left + width
    if mirror:
        mirrored = happens(seeds, _MIRRORED, 0.5)
        left, right = tf.where(mirrored, right, left), tf.where(mirrored, left, right)
    return tf.stack([top, left, top + height, right], axis=1)


def _uniform(seeds, draw, low, high):
    """A number for each example, uniform in low .. high: float32 (batch,)."""
    drawn = tf.cast(random_integers(seeds, draw, _STEPS), tf.float32) / _STEPS
    return low + (high - low) * drawn


def _where(chosen, images, others):
    return tf.where(chosen[:, None, None, None], images, others)
