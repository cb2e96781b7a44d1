"""Adapters: which shapes meet, by which numbers, and what is refused."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfkd.adapters import build


def batch(*shape):
    return np.random.default_rng(7).normal(size=shape).astype("float32")


@pytest.mark.parametrize("shape", [(None, 6), (None, 4, 6), (None, 8, 8, 6), (None, None, None, 6)])
def test_equal_shapes_need_nothing(shape):
    assert build(shape, shape) is None
    assert build((32, *shape[1:]), shape) is None  # the batch size does not count


@pytest.mark.parametrize(
    ("given", "wanted", "parameters"),
    [
        ((5,), (7,), 5 * 7 + 7),
        ((4, 5), (4, 7), 5 * 7 + 7),
        ((8, 8, 5), (8, 8, 7), 5 * 7 + 7),
        ((8, 8, 6), (8, 8, 1), 6 + 1),
        ((8, 8, 5), (4, 4, 5), 0),
        ((8, 8, 5), (4, 2, 7), 5 * 7 + 7),
        ((4, 4, 5), (8, 8, 7), 5 * 7 + 7),
        ((4, 4, 5), (8, 8, 5), 0),
        ((7, 7, 5), (3, 3, 5), 0),
        ((7, 6, 5), (3, 3, 7), 5 * 7 + 7),
        ((4, 4, 5), (5,), 0),
        ((4, 4, 5), (7,), 5 * 7 + 7),
    ],
)
def test_every_pair_of_shapes_meets(given, wanted, parameters):
    adapter = build((None, *given), (None, *wanted), name="mine")
    assert adapter.name == "mine"
    assert adapter.count_params() == parameters
    assert adapter(batch(3, *given)).shape == (3, *wanted)
    assert adapter.compute_output_shape((None, *given)) == (None, *wanted)


@pytest.mark.parametrize(
    ("given", "wanted", "rows", "columns"),
    [((8, 8), (4, 4), 2, 2), ((8, 6), (2, 6), 4, 1), ((6, 9), (3, 3), 2, 3)],
)
@pytest.mark.parametrize("widened", [False, True])
def test_a_multiple_is_averaged_over_its_cells(given, wanted, rows, columns, widened):
    """Each cell's mean; the channel map, if there is one, is the identity with zeros beside it."""
    x = batch(2, *given, 5)
    adapter = build((None, *given, 5), (None, *wanted, 7 if widened else 5))
    if widened:
        kernel, bias = adapter.trainable_variables
        kernel.assign(np.eye(5, 7).reshape(1, 1, 5, 7))
        bias.assign(np.zeros(7))
    cells = x.reshape(2, wanted[0], rows, wanted[1], columns, 5).mean(axis=(2, 4))
    result = adapter(x).numpy()
    np.testing.assert_allclose(result[..., :5], cells, atol=1e-6)
    np.testing.assert_array_equal(result[..., 5:], 0)


def test_a_map_is_averaged_to_a_vector():
    x = batch(2, 4, 3, 5)
    np.testing.assert_allclose(build((None, 4, 3, 5), (None, 5))(x), x.mean(axis=(1, 2)), atol=1e-6)


def test_other_sizes_are_resized_bilinearly():
    ramp = np.arange(4, dtype="float32").reshape(1, 4, 1, 1) * np.ones((1, 1, 4, 1), "float32")
    result = build((None, 4, 4, 1), (None, 8, 8, 1))(ramp).numpy()[0, :, 0, 0]
    # Half-pixel centres: row i of 8 lies at (i + 1/2) / 2 - 1/2 of 4, held at the borders.
    np.testing.assert_allclose(result, np.clip((np.arange(8) + 0.5) / 2 - 0.5, 0, 3), atol=1e-6)


def test_channels_go_through_a_linear_map():
    for given, wanted in [((5,), (7,)), ((4, 5), (4, 7)), ((3, 3, 5), (3, 3, 7))]:
        x = batch(2, *given)
        adapter = build((None, *given), (None, *wanted))
        kernel, bias = (w.numpy() for w in adapter.trainable_variables)
        expected = x @ kernel.reshape(5, 7) + bias
        np.testing.assert_allclose(adapter(x), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("given", "wanted"),
    [((8, 8, 5), (4, 4, 7)), ((4, 4, 5), (7, 7, 7)), ((4, 5), (4, 7)), ((5, 5, 5), (7,))],
)
def test_gradients_reach_the_adapter_and_the_student(given, wanted):
    adapter, x = build((None, *given), (None, *wanted)), tf.constant(batch(2, *given))
    with tf.GradientTape() as tape:
        tape.watch(x)
        total = tf.reduce_sum(adapter(x))
    kernel, bias, feature = tape.gradient(total, [*adapter.trainable_variables, x])
    np.testing.assert_allclose(bias, np.full(7, 2 * np.prod(wanted[:-1])), rtol=1e-5)
    assert np.abs(kernel).max() > 0
    # The sum over the output changes with every position of the input.
    assert np.all(np.abs(feature).max(axis=-1) > 0)


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ((5,), (4, 5)),
        ((5,), (4, 4, 5)),
        ((4, 5), (6, 5)),
        ((4, 5), (5,)),
        ((4, 4, 5), (16, 5)),
        ((4, 4, 4, 5), (4, 4, 4, 7)),
        ((4, 4, None), (4, 4, 5)),
        ((), (5,)),
    ],
)
def test_what_cannot_meet_is_refused(given, wanted):
    with pytest.raises(ValueError, match="cannot be adapted") as error:
        build((None, *given), (None, *wanted))
    for number in (*given, *wanted):
        assert str(number) in str(error.value)


def test_unknown_sizes_are_refused_where_they_differ():
    with pytest.raises(ValueError, match="fixed heights and widths"):
        build((None, None, None, 5), (None, 4, 4, 5))
    adapter = build((None, None, None, 5), (None, None, None, 7))
    assert adapter(batch(2, 3, 6, 5)).shape == (2, 3, 6, 7)


def test_a_padding_mask_passes_through():
    adapter, x = build((None, 3, 5), (None, 3, 7)), tf.constant(batch(2, 3, 5))
    x._keras_mask = tf.constant([[True, True, False], [True, False, False]])
    np.testing.assert_array_equal(adapter(x)._keras_mask, x._keras_mask)


def test_what_fits_needs_no_adapter():
    assert build((None, 5), (None, 5)) is None


def test_channels_are_last_whatever_keras_s_default():
    keras.config.set_image_data_format("channels_first")
    try:
        adapter = build((None, 8, 8, 5), (None, 4, 4, 7))
    finally:
        keras.config.set_image_data_format("channels_last")
    assert adapter(batch(2, 8, 8, 5)).shape == (2, 4, 4, 7)
