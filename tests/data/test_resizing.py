"""Resizing: by which rule, to which size."""

import keras
import numpy as np
import pytest

from tfkd.data import load
from tfkd.data.resizing import MEANINGS, RULES, parse_size, resize


def photo(height, width):
    return np.random.default_rng(0).integers(0, 256, (height, width, 3)).astype(np.uint8)


def halved(image, axis):
    """Every second of an axis, of even length, by a triangle of twice its width: float64."""
    length = image.shape[axis]
    centres = 2 * np.arange(length // 2) + 1.0
    weights = np.maximum(0, 1 - np.abs(centres[:, None] - np.arange(length) - 0.5) / 2)
    weights /= weights.sum(axis=1, keepdims=True)
    return np.moveaxis(np.tensordot(weights, image.astype(np.float64), (1, axis)), 0, axis)


@pytest.mark.parametrize("size", [(5, 7), (40, 33)])
def test_resize_is_keras_resizing_rounded(size):
    images = np.random.RandomState(0).randint(0, 256, (3, 16, 20, 3)).astype(np.uint8)
    expected = np.rint(keras.layers.Resizing(*size)(images.astype("float32")))
    np.testing.assert_array_equal(resize(images, size), expected)


def test_sizes():
    assert parse_size(None) is None
    for same in (32, np.int64(32), np.uint8(32), np.array(32), np.array([32, 32])):
        found = parse_size(same)
        assert found == (32, 32) and all(type(side) is int for side in found)
    assert parse_size([20, np.int32(30)]) == (20, 30)
    for wrong in (
        0,
        (3,),
        (3, -1),
        (2.5, 2),
        "12",
        True,
        (True, 3),
        np.float64(3),
        np.zeros(2),
        {},
    ):
        with pytest.raises(ValueError, match="positive whole number or a pair"):
            parse_size(wrong)


def test_crop_takes_the_middle_and_averages_it():
    image = photo(8, 20)
    expected = halved(halved(image[:, 6:14], 0), 1)
    assert np.abs(resize(image, (4, 4), "crop").numpy() - expected).max() <= 0.5 + 1e-3


def test_pad_keeps_the_whole_in_the_middle_of_black():
    image = photo(8, 20)
    found = resize(image, (10, 10), "pad").numpy()
    expected = halved(halved(image, 0), 1)  # 4x10
    assert np.abs(found[3:7] - expected).max() <= 0.5 + 1e-3
    assert not found[:3].any() and not found[7:].any()
    turned = resize(image.transpose(1, 0, 2), (10, 10), "pad").numpy()
    np.testing.assert_array_equal(turned.transpose(1, 0, 2), found)


def test_of_the_same_aspect_every_antialiased_rule_is_the_same():
    image = photo(12, 18)
    stretched = resize(image, (4, 6), "stretch_antialiased")
    for rule in ("crop", "pad"):
        np.testing.assert_array_equal(resize(image, (4, 6), rule), stretched)
    assert (resize(image, (4, 6)).numpy() != stretched.numpy()).any()


@pytest.mark.parametrize("rule", RULES)
def test_the_size_that_is_asked_for_stays_and_the_oddest_becomes_it(rule):
    image = photo(7, 5)
    np.testing.assert_array_equal(resize(image, (7, 5), rule), image)
    for height, width in ((1, 1000), (1000, 1), (1, 1), (3, 2)):
        white = np.full((2, height, width, 1), 255, np.uint8)
        found = resize(white, (6, 4), rule).numpy()
        assert found.shape == (2, 6, 4, 1) and found.max() == 255
        assert (found == 255).all() == (rule != "pad" or (height, width) == (3, 2))
    assert rule in MEANINGS


def test_a_data_set_is_resized_by_the_rule():
    small, wide = load("digits"), load("digits", image_size=(8, 16), resize="pad")
    assert wide.info.resize == "pad" and small.info.resize == "stretch"
    image, label = next(iter(wide.train))
    own, own_label = next(iter(small.train))
    np.testing.assert_array_equal(image[:, 4:12], own)
    assert label == own_label and not image[:, :4].numpy().any()
    with pytest.raises(ValueError, match="resize must be one of stretch, .*; given 'fit'"):
        load("digits", resize="fit")
