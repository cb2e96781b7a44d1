"""Operations on bytes of pixels as Pillow has them, for whole batches, and fourteen in sequence.

Each operation takes float32 images that hold whole numbers from 0 to 255, shape (batch, height,
width, channels) with 1 or 3 channels, and a number for each image, and gives such images. They are
those of AutoAugment (Cubuk et al. 2019, arXiv:1805.09501).
"""

import math

import tensorflow as tf

from tfkd.data.seeds import plain, random_integers

GREY = 128.0  # what moves in from outside
_APPLIED, _SIGNS = 16, 32  # draws of a seed, one for each operation of the sequence
_STEPS = 2**24  # floats below 1 that float32 tells apart


def _each(values):
    """A number for each image, in the images' rank."""
    return tf.reshape(tf.cast(values, tf.float32), (-1, 1, 1, 1))


def _blend(background, images, factor):
    """background + factor · (images - background), cut to bytes, fractions dropped."""
    mixed = background + _each(factor) * (images - background)
    return tf.floor(tf.clip_by_value(mixed, 0.0, 255.0))


def _luminance(images):
    """ITU-R 601, to the nearest: shape (batch, height, width, 1)."""
    if images.shape[-1] == 1:
        return images
    weighed = tf.cast(images, tf.int32) * tf.constant([19595, 38470, 7471])
    total = tf.reduce_sum(weighed, axis=-1, keepdims=True) + 0x8000
    return tf.cast(tf.bitwise.right_shift(total, 16), tf.float32)


def brightness(images, amount):
    """1 + amount times as bright."""
    return _blend(tf.zeros_like(images), images, 1.0 + amount)


def color(images, amount):
    """1 + amount times as far from grey."""
    return _blend(_luminance(images), images, 1.0 + amount)


def contrast(images, amount):
    """1 + amount times as far from the image's mean luminance."""
    mean = tf.reduce_mean(_luminance(images), axis=(1, 2, 3))
    return _blend(_each(tf.floor(mean + 0.5)), images, 1.0 + amount)


def sharpness(images, amount):
    """1 + amount times as far from the smoothed image; the border stays."""
    channels, (height, width) = images.shape[-1], images.shape[1:3]
    if min(height, width) < 3:
        return images
    kernel = tf.constant([[1.0, 1.0, 1.0], [1.0, 5.0, 1.0], [1.0, 1.0, 1.0]]) / 13.0
    kernel = tf.tile(kernel[:, :, None, None], (1, 1, channels, 1))
    smooth = tf.nn.depthwise_conv2d(images, kernel, (1, 1, 1, 1), "VALID")
    smooth = tf.pad(tf.floor(smooth + 0.5), ((0, 0), (1, 1), (1, 1), (0, 0)))
    inner = tf.pad(tf.ones((height - 2, width - 2, 1)), ((1, 1), (1, 1), (0, 0)))
    return _blend(inner * smooth + (1.0 - inner) * images, images, 1.0 + amount)


def autocontrast(images, _):
    """Each channel spread from its darkest and brightest value to 0 and 255."""
    low = tf.reduce_min(images, axis=(1, 2), keepdims=True)
    spread = tf.reduce_max(images, axis=(1, 2), keepdims=True) - low
    # In whole numbers: what comes out whole must not fall below by rounding.
    numbers = tf.cast(255.0 * (images - low), tf.int32)
    stretched = numbers // tf.cast(tf.maximum(spread, 1.0), tf.int32)
    return tf.where(spread > 0, tf.cast(stretched, tf.float32), images)


def equalize(images, _):
    """Each channel's histogram made even."""
    height, width, channels = images.shape[1:]
    values = tf.cast(images, tf.int32)
    rows = tf.range(tf.shape(images)[0] * channels)
    rows = tf.reshape(rows, (-1, 1, 1, channels)) * 256
    counts = tf.math.bincount(
        tf.reshape(rows + values, (-1,)), minlength=tf.size(rows) * 256, dtype=tf.int32
    )
    counts = tf.reshape(counts, (-1, 256))
    brightest = tf.reshape(tf.reduce_max(values, axis=(1, 2)), (-1, 1))
    step = (height * width - tf.gather(counts, brightest, batch_dims=1)) // 255
    before = tf.cumsum(counts, axis=1, exclusive=True)
    table = (step // 2 + before) // tf.maximum(step, 1)
    table = tf.where(step > 0, tf.minimum(table, 255), tf.range(256))
    return tf.cast(tf.gather(tf.reshape(table, (-1,)), rows + values), tf.float32)


def invert(images, _):
    return 255.0 - images


def solarize(images, threshold):
    """Inverts what is at or above a threshold."""
    return tf.where(images < _each(threshold), images, 255.0 - images)


def posterize(images, bits):
    """Keeps so many bits of each value, the highest."""
    size = tf.pow(2.0, 8.0 - _each(bits))
    return tf.floor(images / size) * size


def _moved(images, rows):
    """The image at (a x + b y + c, d x + e y + f) put at (x, y), bilinear, grey from outside.

    Args:
        images: shape (batch, height, width, channels).
        rows: (a, b, c, d, e, f), each shape (batch,) or a number.
    """
    batch = tf.shape(images)[:1]
    numbers = [tf.broadcast_to(tf.cast(n, tf.float32), batch) for n in (*rows, 0.0, 0.0)]
    moved = tf.raw_ops.ImageProjectiveTransformV3(
        images=images,
        transforms=tf.stack(numbers, axis=1),
        output_shape=images.shape[1:3],
        fill_value=GREY,
        interpolation="BILINEAR",
        fill_mode="CONSTANT",
    )
    return tf.round(moved)


def shear_x(images, amount):
    return _moved(images, (1, amount, 0, 0, 1, 0))


def shear_y(images, amount):
    return _moved(images, (1, 0, 0, amount, 1, 0))


def translate_x(images, share):
    """By a share of the width."""
    return _moved(images, (1, 0, share * images.shape[2], 0, 1, 0))


def translate_y(images, share):
    """By a share of the height."""
    return _moved(images, (1, 0, 0, 0, 1, share * images.shape[1]))


def rotate(images, degrees):
    """About the centre."""
    angle = degrees * (math.pi / 180.0)
    cos, sin = tf.cos(angle), tf.sin(angle)
    x, y = (images.shape[2] - 1) / 2, (images.shape[1] - 1) / 2
    return _moved(images, (cos, -sin, x - cos * x + sin * y, sin, cos, y - sin * x - cos * y))


# The order, the magnitudes (0 to 9 of each range) and the ranges of the authors' code for
# CIFAR-100. Where the third member says so, every second image gets the magnitude's negative.
_SHEAR, _SHIFT, _ENHANCE = 0.3, 150 / 331, 0.9
SEQUENCE = (
    (autocontrast, 0.0, False),
    (contrast, _ENHANCE * 3 / 9, True),
    (posterize, 8.0, False),  # magnitude 0: all eight bits
    (solarize, 256 - 256 * 4 / 9, False),
    (translate_y, _SHIFT * 8 / 9, True),
    (shear_x, _SHEAR * 5 / 9, True),
    (brightness, _ENHANCE * 3 / 9, True),
    (shear_y, 0.0, True),
    (translate_x, _SHIFT * 1 / 9, True),
    (sharpness, _ENHANCE * 5 / 9, True),
    (invert, 0.0, False),
    (color, _ENHANCE * 4 / 9, True),
    (equalize, 0.0, False),
    (rotate, 30 * 3 / 9, True),
)


def happens(seeds, draw, probability):
    """Whether something of that probability happens to each example: bool, shape (batch,)."""
    drawn = tf.cast(random_integers(seeds, draw, _STEPS), tf.float32) / _STEPS
    return drawn < probability


@plain
def in_sequence(images, seeds, probability):
    """The fourteen operations one after the other, each with a probability.

    Args:
        images: uint8 tensor, shape (batch, height, width, channels), 1 or 3 channels.
        seeds: int64 tensor, shape (batch, 2).
        probability: from 0 to 1, of each operation by itself.

    Returns:
        uint8 tensor of the same shape.

    Raises:
        ValueError: images that are no bytes or have another number of channels, or a probability
            that is none.
    """
    images = tf.convert_to_tensor(images)
    if images.dtype != tf.uint8 or images.shape[-1] not in (1, 3):
        raise ValueError(
            "Joint augmentation reads pixels as bytes, uint8 with 1 or 3 channels; given "
            f"{images.dtype.name} of shape {tuple(images.shape)}. Cast images from 0 to 255."
        )
    if not 0 <= probability <= 1:
        raise ValueError(f"probability is {probability}; expected a number from 0 to 1.")
    pixels = tf.cast(images, tf.float32)
    for number, (operation, magnitude, signed) in enumerate(SEQUENCE):
        applied = happens(seeds, _APPLIED + number, probability)
        amount = tf.fill(tf.shape(images)[:1], magnitude)
        if signed:
            amount *= tf.where(happens(seeds, _SIGNS + number, 0.5), 1.0, -1.0)
        pixels = tf.where(applied[:, None, None, None], operation(pixels, amount), pixels)
    return tf.cast(pixels, tf.uint8)
