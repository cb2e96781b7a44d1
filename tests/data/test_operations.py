"""Operations on pixels against Pillow's, byte by byte; and their sequence from the seed alone."""

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageEnhance, ImageOps

from tfkd.data import augmentation, operations
from tfkd.data.seeds import view_seed

SIZE = (12, 10)


@pytest.fixture(scope="module")
def images():
    """Noise of every range, a flat image, and one of two values."""
    random = np.random.default_rng(0)
    noise = [random.integers(low, high, (*SIZE, 3)) for low, high in ((0, 256), (40, 90), (7, 9))]
    return np.stack([*noise, np.full((*SIZE, 3), 77)]).astype("uint8")


def enhanced(kind):
    return lambda image, amount: getattr(ImageEnhance, kind)(image).enhance(1 + amount)


PILLOW = {
    "brightness": (enhanced("Brightness"), (0.3, -0.5)),
    "color": (enhanced("Color"), (0.4, -0.4)),
    "contrast": (enhanced("Contrast"), (0.3, -0.3)),
    "sharpness": (enhanced("Sharpness"), (0.5, -0.5)),
    "autocontrast": (lambda image, _: ImageOps.autocontrast(image), (0,)),
    "equalize": (lambda image, _: ImageOps.equalize(image), (0,)),
    "invert": (lambda image, _: ImageOps.invert(image), (0,)),
    "solarize": (lambda image, amount: ImageOps.solarize(image, amount), (142.25, 256)),
    "posterize": (lambda image, amount: ImageOps.posterize(image, amount), (4, 8)),
}


@pytest.mark.parametrize("name", PILLOW)
@pytest.mark.parametrize("channels", [1, 3])
def test_equals_pillow(name, channels, images):
    pillow, amounts = PILLOW[name]
    images = images[..., :channels]
    for amount in amounts:
        ours = getattr(operations, name)(images.astype("float32"), tf.fill(len(images), amount))
        theirs = [pillow(Image.fromarray(np.squeeze(own)), amount) for own in images]
        theirs = np.stack([np.asarray(own).reshape(images.shape[1:]) for own in theirs])
        # A fraction may fall on either side of a whole number in float32.
        difference = np.abs(np.asarray(ours) - theirs)
        assert difference.max() <= 1 and (difference > 0).mean() < 0.01


def test_moves_by_hand(images):
    pixels, ones = images.astype("float32"), tf.ones(len(images))
    moved = operations.translate_x(pixels, 0.2 * ones).numpy()  # two of ten pixels
    np.testing.assert_array_equal(moved[:, :, :-2], pixels[:, :, 2:])
    np.testing.assert_array_equal(moved[:, :, -2:], 128)
    moved = operations.translate_y(pixels, -0.25 * ones).numpy()  # three of twelve
    np.testing.assert_array_equal(moved[:, 3:], pixels[:, :-3])
    sheared = operations.shear_x(pixels, ones).numpy()  # row y by y pixels
    for y in (0, 1, 5):
        np.testing.assert_array_equal(sheared[:, y, : 10 - y], pixels[:, y, y:])
    np.testing.assert_array_equal(operations.shear_y(pixels, 0 * ones), pixels)
    square = pixels[:, 1:11]
    turned = operations.rotate(square, 90 * ones)
    np.testing.assert_array_equal(turned, np.rot90(square, axes=(1, 2)))


def test_the_sequence_is_of_the_seed_alone(images):
    many, seeds = np.tile(images, (10, 1, 1, 1)), view_seed(np.arange(40), 3)
    jda = augmentation("jda", probability=0.4)
    whole = tf.function(jda)(many, seeds).numpy()
    assert whole.dtype == np.uint8
    order = np.random.default_rng(1).permutation(40)[:7]
    np.testing.assert_array_equal(jda(many[order], tf.gather(seeds, order)), whole[order])
    plain = augmentation("crop_flip")(many, seeds).numpy()
    np.testing.assert_array_equal(augmentation("jda", probability=0)(many, seeds), plain)
    assert (whole[0::4] != plain[0::4]).any((1, 2, 3)).mean() > 0.9  # 1 - 0.6^12 of noise
    everything = many.astype("float32")
    for operation, magnitude, signed in operations.SEQUENCE:
        number = [own for own, _, _ in operations.SEQUENCE].index(operation)
        signs = np.where(operations.happens(seeds, 32 + number, 0.5), 1.0, -1.0)
        amount = magnitude * signs if signed else np.full(40, magnitude)
        everything = operation(everything, tf.constant(amount, tf.float32))
    np.testing.assert_array_equal(operations.in_sequence(many, seeds, 1.0), everything)


def test_probabilities_are_kept():
    seeds = view_seed(np.arange(4000), 0)
    counts = [float(np.mean(operations.happens(seeds, 16 + n, 0.3))) for n in range(14)]
    assert counts == pytest.approx([0.3] * 14, abs=4 * (0.21 / 4000) ** 0.5)


def test_two_views_are_a_seen_and_a_plain_one(images):
    many, seeds = np.tile(images[:1], (40, 1, 1, 1)), view_seed(np.arange(40), 1)
    given = augmentation("two_views", share=0.25)(many, seeds)
    teacher, seen = given["teacher"], given["student"].numpy()
    augmented = teacher["augmented"].numpy()
    plain, joint = (augmentation(name)(many, seeds).numpy() for name in ("crop_flip", "jda"))
    assert 0 < augmented.sum() < 20
    np.testing.assert_array_equal(seen, np.where(augmented[:, None, None, None], joint, plain))
    np.testing.assert_array_equal(teacher["seen"], seen)
    other = teacher["plain"].numpy()
    assert (other != plain).any()
    assert {own.tobytes() for own in other} <= {own.tobytes() for own in crops(images[0])}
    for share, expected in ((0, plain), (1, joint)):
        given = augmentation("two_views", share=share)(many, seeds)["student"]
        np.testing.assert_array_equal(given, expected)
    unmoved = augmentation("two_views", augment="none")(many, seeds)["teacher"]
    np.testing.assert_array_equal(unmoved["plain"], many)


def crops(image):
    """All that crop_flip can make of an image of 12 x 10: by up to two and one pixels."""
    padded = np.pad(image, ((2, 2), (1, 1), (0, 0)))
    cut = [padded[y : y + 12, x : x + 10] for y in range(5) for x in range(3)]
    return [*cut, *(own[:, ::-1] for own in cut)]


def test_what_it_cannot_read_is_refused(images):
    seeds = view_seed(np.arange(4), 0)
    with pytest.raises(ValueError, match="uint8 with 1 or 3 channels; given float32"):
        augmentation("jda")(images.astype("float32"), seeds)
    with pytest.raises(ValueError, match="probability is 1.5"):
        augmentation("jda", probability=1.5)(images, seeds)
