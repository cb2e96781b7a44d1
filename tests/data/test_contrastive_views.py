"""Contrastive views: the crop of a ramp is a ramp, by NumPy; how often what happens; replay."""

import numpy as np
import pytest
import tensorflow as tf

from tfkd.data.augmentations import augmentation
from tfkd.data.contrastive_views import contrastive
from tfkd.data.operations import happens
from tfkd.data.seeds import random_integers, view_seed

COUNT, SIZE = 400, 12
SEEDS = view_seed(np.arange(COUNT), 3)


def uniform(draw):
    return random_integers(SEEDS, draw, 2**24).numpy() / 2**24


@pytest.mark.parametrize("mirror", [True, False])
def test_the_crop_of_a_ramp_is_the_ramp_of_its_part(mirror):
    ramp = np.linspace(0, 220, SIZE).astype("uint8")
    images = np.broadcast_to(ramp[None, None, :, None], (COUNT, SIZE, SIZE, 1))
    found = contrastive(images, SEEDS, mirror=mirror).numpy().astype(float)
    area, aspect = 0.5 + 0.5 * uniform(64), np.exp(np.log(4 / 3) * (2 * uniform(65) - 1))
    width = np.minimum(np.sqrt(area * aspect), 1)
    left = (1 - width) * uniform(67)
    share = np.linspace(0, 1, SIZE)
    if mirror:
        turned = happens(SEEDS, 68, 0.5).numpy()
        assert abs(turned.mean() - 0.5) < 0.1
        share = np.where(turned[:, None], share[::-1], share)
    columns = (left[:, None] + width[:, None] * share) * (SIZE - 1)
    expected = np.array([np.interp(own, np.arange(SIZE), ramp) for own in columns])
    plain = ~happens(SEEDS, 69, 0.7).numpy()
    assert 0.2 < plain.mean() < 0.4
    difference = found[plain, :, :, 0] - expected[plain][:, None]
    assert np.abs(difference).max() <= 0.51


def test_colours_and_replay():
    random = np.random.RandomState(0)
    images = random.randint(0, 256, (COUNT, SIZE, SIZE, 3)).astype("uint8")
    found = augmentation("contrastive")(images, SEEDS)
    assert found.dtype == tf.uint8
    found = found.numpy()
    grey = (found == found[..., :1]).all(axis=(1, 2, 3))
    assert abs(grey.mean() - 0.2) < 3 * (0.2 * 0.8 / COUNT) ** 0.5
    order = random.permutation(COUNT)[:7]
    again = tf.function(contrastive)(images[order], tf.gather(SEEDS, order))
    np.testing.assert_array_equal(again, found[order])
    assert (contrastive(images[:8], view_seed(np.arange(8), 4)) != found[:8]).numpy().any()


def test_bad_input():
    with pytest.raises(ValueError, match="uint8 with 1 or 3 channels"):
        contrastive(np.zeros((1, 8, 8, 2), "uint8"), SEEDS[:1])
    with pytest.raises(ValueError, match="a share above 0"):
        contrastive(np.zeros((1, 8, 8, 1), "uint8"), SEEDS[:1], smallest=0)
