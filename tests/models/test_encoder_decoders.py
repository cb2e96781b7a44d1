"""The encoder-decoder: parameters by hand, shapes, what each pixel sees, bad input."""

import keras
import numpy as np
import pytest

from tfkd import models


def convolution(before, filters):
    return 9 * before * filters + 4 * filters


def test_parameters_by_hand():
    model = models.encoder_decoder((8, 16, 3), 5)
    expected = convolution(3, 16) + convolution(16, 16)
    expected += convolution(16, 32) + convolution(32, 32)
    expected += convolution(32, 64) + convolution(64, 64)
    expected += convolution(64 + 32, 32) + convolution(32, 32)
    expected += convolution(32 + 16, 16) + convolution(16, 16) + 17 * 5
    assert model.count_params() == expected
    assert model.output_shape == (None, 8, 16, 5)
    assert models.stages(model) == ["stage1_out", "stage2_out", "stage3_out"]
    shapes = [model.get_layer(name).output.shape[1:3] for name in models.stages(model)]
    assert shapes == [(8, 16), (4, 8), (2, 4)]


def test_a_pixel_sees_its_surroundings_and_itself():
    keras.utils.set_random_seed(0)
    model = models.encoder_decoder((32, 32, 1), 2, width=0.25, depth=1)
    image = np.full((1, 32, 32, 1), 128.0, "float32")
    changed = image.copy()
    changed[0, 16, 16] = 255.0
    difference = np.abs(model(changed) - model(image))[0].max(axis=-1)
    assert difference[16, 16] > 0
    # Two convolutions above, two below and two again: 2 + 2 · 2 + 1 + 2 pixels at most.
    reach = np.nonzero(difference > 1e-6)
    assert max(np.abs(own - 16).max() for own in reach) <= 9
    assert difference[0].max() < 1e-6


@pytest.mark.parametrize(
    ("shape", "options", "message"),
    [
        ((10, 8, 3), {}, "multiples of 4; the images are .10, 8"),
        ((8, 8, 3), {"depth": 0}, "depth is 0"),
        ((8, 8, 3), {"width": 0}, "width is 0"),
    ],
)
def test_bad_input(shape, options, message):
    with pytest.raises(ValueError, match=message):
        models.encoder_decoder(shape, 3, **options)
