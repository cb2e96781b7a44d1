"""Resizing and sizes asked for."""

import keras
import numpy as np
import pytest

from tfkd.data.images import parse_size, resize


@pytest.mark.parametrize("size", [(5, 7), (40, 33)])
def test_resize_is_keras_resizing_rounded(size):
    images = np.random.RandomState(0).randint(0, 256, (3, 16, 20, 3)).astype(np.uint8)
    expected = np.rint(keras.layers.Resizing(*size)(images.astype("float32")))
    np.testing.assert_array_equal(resize(images, size), expected)


def test_sizes():
    assert parse_size(None) is None
    assert parse_size(32) == (32, 32)
    assert parse_size([20, 30]) == (20, 30)
    for wrong in (0, (3,), (3, -1), (2.5, 2), "12"):
        with pytest.raises(ValueError, match="positive whole number or a pair"):
            parse_size(wrong)
