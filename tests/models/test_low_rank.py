"""Dense layers of low rank: how many parameters, and what they compute."""

import keras
import numpy as np
import pytest
from keras import layers

from tfkd.models import LowRankDense, with_low_rank


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(0)
    given = keras.Input((12,))
    inner_given = keras.Input((8,))
    inner = keras.Model(inner_given, layers.Dense(10, name="inside")(inner_given), name="inner")
    x = layers.Dense(8, "relu", name="first")(given)
    x = layers.LayerNormalization()(inner(x))
    return keras.Model(given, layers.Dense(1, name="head")(x), name="whole")


def test_rank_times_both_sides_and_the_bias(model):
    smaller = with_low_rank(model, 3)
    first, inside = smaller.get_layer("first"), smaller.get_layer("inner").get_layer("inside")
    assert first.count_params() == 3 * (12 + 8) + 8
    assert inside.count_params() == 3 * (8 + 10) + 10
    assert type(smaller.get_layer("head")) is layers.Dense  # 3 · 11 are no fewer than 10
    assert smaller.count_params() < model.count_params()


def test_full_rank_computes_what_the_layer_did():
    x = np.random.default_rng(0).normal(size=(5, 12)).astype("float32")
    dense = layers.Dense(8, "tanh", bias_initializer="random_normal")
    expected = dense(x)
    for rank in (8, 11):
        own = LowRankDense(8, rank, "tanh")
        own.build((None, 12))
        own.take_over(dense.kernel, dense.bias)
        np.testing.assert_allclose(own(x), expected, atol=1e-6)


def test_the_kernel_is_the_best_of_its_rank(model):
    """By Eckart and Young the squared error is the sum of the squared values that are left out."""
    kernel = model.get_layer("first").kernel.numpy().astype("float64")
    values = np.linalg.svd(kernel, compute_uv=False)
    own = with_low_rank(model, 3).get_layer("first")
    product = own.down.numpy().astype("float64") @ own.up.numpy()
    np.testing.assert_allclose(((product - kernel) ** 2).sum(), (values[3:] ** 2).sum(), rtol=1e-5)
    assert np.linalg.matrix_rank(product, tol=1e-4) == 3


def test_the_copy_answers_by_its_kernels_and_is_saved(model, tmp_path):
    smaller = with_low_rank(model, 2)
    x = np.random.default_rng(1).normal(size=(3, 12)).astype("float32")
    dense = keras.models.clone_model(model)
    dense.set_weights(model.get_weights())
    for path in (("first",), ("inner", "inside")):
        there, own = dense, smaller
        for name in path:
            there, own = there.get_layer(name), own.get_layer(name)
        there.kernel.assign(own.down.numpy() @ own.up.numpy())
    np.testing.assert_allclose(smaller(x), dense(x), atol=1e-5)
    smaller.save(tmp_path / "smaller.keras")
    again = keras.models.load_model(tmp_path / "smaller.keras")
    np.testing.assert_array_equal(again(x), smaller(x))


def test_what_cannot_become_smaller_is_refused(model):
    with pytest.raises(ValueError, match="No Dense layer of .* at rank 9"):
        with_low_rank(model, 9)
    with pytest.raises(ValueError, match="rank must be a whole number"):
        with_low_rank(model, 0)
    with pytest.raises(ValueError, match="units must be a whole number"):
        LowRankDense(0, 1)
