"""Shallow, wide branches: how many, how deep, how wide, and gone from the trunk."""

import keras
import numpy as np
import pytest
from keras import layers

from tfkd import models


def backbone():
    """Stages of 16x16x4, 8x8x8, 4x4x10 and 2x2x16, two convolutions each."""
    image = x = keras.Input((32, 32, 3))
    for number, filters in enumerate((4, 8, 10, 16), start=1):
        x = layers.Conv2D(filters, 3, 2, "same", name=f"stage{number}_first")(x)
        x = layers.Conv2D(filters, 3, padding="same", name=f"stage{number}_out")(x)
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(image, layers.Dense(3)(x), name="net")


def separable(channels, filters):
    """Depthwise 3x3, 1x1, and BatchNorm's four."""
    return 9 * channels + channels * filters + 4 * filters


def test_a_branch_has_one_wide_block_for_each_stage_that_is_left():
    model = backbone()
    student = models.with_branches(model)
    assert models.exit_names(student) == (
        *("branch_1_1", "branch_1_2", "branch_2_1", "branch_2_2"),
        "output",
    )
    # Forks after stages 2 and 3; 1.5 x 10 and 1.5 x 16 channels.
    first = separable(8, 15) + separable(15, 24) + 24 * 3 + 3
    second = separable(10, 24) + 24 * 3 + 3
    assert student.count_params() - model.count_params() == 2 * first + 2 * second
    shapes = [
        student.get_layer(f"branch_{block}_pw_relu").output.shape[1:]
        for block in ("1_1_block1", "1_1_block2", "2_2_block1")
    ]
    assert shapes == [(4, 4, 15), (2, 2, 24), (2, 2, 24)]
    assert student.get_layer("branch_1_2_features").output.shape == (None, 24)


def test_number_width_and_places_are_free():
    model = backbone()
    student = models.with_branches(model, ["stage4_out", "stage1_first"], branches=1, width=0.5)
    assert models.exit_names(student) == ("branch_1_1", "branch_2_1", "output")
    # stage1_first is 16x16x4, as stage 1's end is; then 8x8, 4x4, 2x2. After stage 4 none is left.
    channels = [4, 2, 4, 5, 8]
    first = sum(map(separable, channels, channels[1:])) + 8 * 3 + 3
    second = separable(16, 8) + 8 * 3 + 3
    assert student.count_params() - model.count_params() == first + second
    assert student.get_layer("branch_1_1_block1_pw_relu").output.shape == (None, 16, 16, 2)


def test_branches_differ_and_the_trunk_is_the_model_that_was_there():
    model = backbone()
    student = models.with_branches(model)
    images = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3)).astype("float32")
    outputs = student(images)
    assert np.abs(outputs["branch_1_1"] - outputs["branch_1_2"]).min() > 0
    trunk = models.trunk(student)
    np.testing.assert_array_equal(trunk(images), outputs["output"])
    np.testing.assert_array_equal(trunk(images), model(images))
    assert [layer.name for layer in trunk.layers] == [layer.name for layer in model.layers]
    assert trunk.count_params() == model.count_params()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"branches": 0}, "branches is 0"),
        ({"branches": 1.5}, "branches is 1.5"),
        ({"width": 0}, "width is 0"),
        ({"at": "stage9_out"}, 'No layer "stage9_out" in model "net". Did you mean'),
    ],
)
def test_impossible_branches_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        models.with_branches(backbone(), **options)


def test_a_gate_weighs_every_output_for_each_image():
    model = backbone()
    student = models.with_branches(model, ["stage2_out"], gate=True)
    names = ("branch_1_1", "branch_1_2", "output")
    assert models.exit_names(student) == (*names[:2], "ensemble", "output")
    x = np.random.default_rng(0).uniform(0, 4, (4, 32, 32, 3)).astype("float32")
    given = {name: np.float64(value) for name, value in student(x).items()}
    gate = keras.Model(student.input, student.get_layer("stage2_out").output)(x).numpy()
    scores = np.maximum(gate.mean((1, 2)) @ student.get_layer("gate").get_weights()[0], 0)
    scores /= np.sqrt(1 + 1e-3)  # BatchNormalization at its beginning
    weights = np.exp(scores) / np.exp(scores).sum(-1, keepdims=True)
    assert np.ptp(weights, axis=0).max() > 1e-3
    expected = sum(weights[:, [i]] * given[name] for i, name in enumerate(names))
    np.testing.assert_allclose(given["ensemble"], expected, rtol=1e-4, atol=1e-5)
    assert models.trunk(student).count_params() == model.count_params()
    whole = models.single_exit(student, "ensemble")
    np.testing.assert_allclose(whole(x), given["ensemble"], rtol=1e-5)
    plain = models.with_branches(model, ["stage2_out"])
    assert student.count_params() - plain.count_params() == 8 * 3 + 4 * 3
