"""The small Vision Transformer: its plan counted by hand, and what it is made of."""

import keras
import numpy as np
import pytest

from tfkd import models


def test_the_plan_counted_by_hand():
    model = models.build("vit", (32, 32, 3), 10)
    d, tokens = 64, 64  # patches of 4 pixels
    block = 4 * d + 4 * (d * d + d) + (d * 4 * d + 4 * d) + (4 * d * d + d)
    positions = d * d + tokens * d
    assert model.count_params() == 4 * 4 * 3 * d + positions + 6 * block + 2 * d + d * 10 + 10
    assert models.stages(model) == ["stage1_out", "stage2_out", "stage3_out"]
    assert model.get_layer("stage2_out").output.shape == (None, 8, 8, d)


@pytest.mark.parametrize(
    ("shape", "tokens"),
    [((8, 8, 1), (8, 8)), ((28, 28, 1), (7, 7)), ((64, 48, 3), (8, 6)), ((31, 31, 3), (31, 31))],
    ids=str,
)
def test_any_image_is_cut_into_about_64_tokens(shape, tokens):
    model = models.build("vit", shape, 3, width=0.125, depth=3, heads=2)
    assert model.get_layer("stage1_out").output.shape[1:3] == tokens


def test_position_counts_and_the_file_loads_without_tfkd(tmp_path):
    keras.utils.set_random_seed(0)
    model = models.build("vit", (8, 8, 1), 5, width=0.25, depth=3)
    images = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 1), dtype=np.uint8)
    before = model(images).numpy()
    assert np.abs(model(images[:, ::-1]).numpy() - before).max() > 1e-3
    # Without positions the mean of the tokens does not know where they stood.
    model.get_layer("positions").bias.assign(np.zeros((8, 8, 16)))
    assert np.abs(model(images[:, ::-1]).numpy() - model(images).numpy()).max() < 1e-5
    model.save(tmp_path / "vit.keras")
    loaded = keras.saving.load_model(tmp_path / "vit.keras", custom_objects={})
    np.testing.assert_array_equal(loaded(images), model(images))
    assert all(type(layer).__module__.startswith("keras.") for layer in loaded.layers)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"depth": 4}, "depth is 4. Expected a multiple of 3"),
        ({"depth": 0}, "depth is 0"),
        ({"heads": 5}, "heads is 5. Expected a divisor of the 64 channels"),
        ({"patch": 5}, "patch is 5. Expected a divisor of the image's sides, 32 and 32"),
        ({"patch": 2.0}, "patch is 2.0"),
    ],
    ids=str,
)
def test_options_that_divide_nothing(options, message):
    with pytest.raises(ValueError, match=message):
        models.build("vit", (32, 32, 3), 10, **options)
