"""Augmentations: exact pixels by an independent NumPy crop, purity, replay."""

import numpy as np
import pytest
import tensorflow as tf

from tfkd.data.augmentations import augmentation, augmentation_names, margin
from tfkd.data.seeds import random_integers, view_seed

NAMES = ["shift", "crop", "flip", "crop_flip"]


def images_of(shape, count=40):
    return np.random.RandomState(0).randint(0, 256, (count, *shape)).astype(np.uint8)


def reference(name, images, seeds):
    """Pad, cut, mirror: one image after the other."""
    height, width = images.shape[1:3]
    top, left = margin(height), margin(width)
    down = random_integers(seeds, 0, 2 * top + 1).numpy()
    right = random_integers(seeds, 1, 2 * left + 1).numpy()
    mirrored = random_integers(seeds, 2, 2).numpy()
    results = []
    for image, y, x, mirror in zip(images, down, right, mirrored, strict=True):
        if name != "flip":
            mode = "edge" if name == "shift" else "constant"
            padded = np.pad(image, [(top, top), (left, left), (0, 0)], mode=mode)
            image = padded[y : y + height, x : x + width]
        if "flip" in name and mirror:
            image = image[:, ::-1]
        results.append(image)
    return np.stack(results)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("shape", [(8, 8, 1), (28, 20, 1), (32, 32, 3)])
def test_equals_numpy_pad_and_cut(name, shape):
    images = images_of(shape)
    seeds = view_seed(np.arange(40), 1)
    result = augmentation(name)(images, seeds)
    assert result.dtype == tf.uint8
    np.testing.assert_array_equal(result, reference(name, images, seeds))


@pytest.mark.parametrize("name", NAMES)
def test_result_does_not_depend_on_the_batch(name):
    images, seeds = images_of((12, 12, 3)), view_seed(np.arange(40), 5)
    augment = augmentation(name)
    whole = augment(images, seeds).numpy()
    order = np.random.RandomState(1).permutation(40)
    np.testing.assert_array_equal(augment(images[order], tf.gather(seeds, order)), whole[order])
    np.testing.assert_array_equal(augment(images[7:8], seeds[7:8])[0], whole[7])
    tf.random.set_seed(99)
    graph = tf.function(augment)(images, seeds)
    np.testing.assert_array_equal(graph, whole)


def test_every_move_occurs_and_half_are_mirrored():
    image = np.arange(64, dtype=np.uint8).reshape(8, 8, 1) + 1
    images = np.broadcast_to(image, (2000, 8, 8, 1))
    seeds = view_seed(np.arange(2000), 0)
    assert (
        len(np.unique(augmentation("crop")(images, seeds).numpy().reshape(2000, -1), axis=0)) == 9
    )
    assert (
        len(np.unique(augmentation("crop_flip")(images, seeds).numpy().reshape(2000, -1), axis=0))
        == 18
    )
    mirrored = augmentation("flip")(images, seeds).numpy()[:, 0, 0, 0] == 8
    assert abs(mirrored.mean() - 0.5) < 4 * 0.5 / 2000**0.5


def test_margin_is_the_usual_four_pixels_at_32():
    assert [margin(size) for size in (4, 8, 28, 32, 128, 224)] == [1, 1, 4, 4, 16, 28]


def test_names():
    assert augmentation_names() == ["none", *NAMES, "jda", "contrastive"]
    assert augmentation("none") is None
    with pytest.raises(ValueError, match='No augmentation "crop_flop". Did you mean "crop_flip"?'):
        augmentation("crop_flop")
