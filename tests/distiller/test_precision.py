"""A whole step in half precision is float32's but for rounding; compiled by XLA it is the same."""

import keras
import numpy as np
import pytest

import tfkd
from tfkd import losses


def network(width, name):
    features = keras.Input((6,), name="features")
    x = keras.layers.Dense(width, "silu", name="hidden")(features)
    return keras.Model(features, keras.layers.Dense(3, dtype="float32")(x), name=name)


def step(policy="float32", **how):
    """({metric: value}, how far each trained weight moved, the Distiller) of one step of SGD.

    The first loss reads outputs, the second owns an adapter, the third a layer of its own.
    """
    keras.config.set_dtype_policy(policy)
    keras.utils.set_random_seed(0)
    given = [
        losses.LogitsDistillation(2.0),
        losses.FeatureDistillation("mse", "hidden", "hidden"),
        losses.VariationalDistillation("hidden", "hidden"),
    ]
    made = tfkd.Distiller(network(5, "teacher"), network(4, "student"), given)
    before = [weight.numpy() for weight in made.trainable_weights]
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    made.compile(keras.optimizers.SGD(0.1), loss, **how)
    random = np.random.default_rng(0)
    x, y = random.normal(size=(8, 6)).astype("float32"), random.integers(0, 3, 8)
    history = made.fit(x, y, batch_size=8, verbose=0).history
    moved = [
        weight.numpy() - own for weight, own in zip(made.trainable_weights, before, strict=True)
    ]
    return {name: values[0] for name, values in history.items()}, moved, made


@pytest.fixture(scope="module")
def full():
    return step(run_eagerly=True)


@pytest.mark.parametrize(
    ("policy", "rounding"), [("mixed_bfloat16", 2**-8), ("mixed_float16", 2**-11)]
)
def test_a_step_in_half_precision(full, policy, rounding):
    metrics, moved, made = step(policy, run_eagerly=True)
    assert made.student.get_layer("hidden").compute_dtype == policy.removeprefix("mixed_")
    assert {variable.dtype for variable in made.trainable_weights} == {"float32"}
    assert any(metrics[name] != value for name, value in full[0].items())  # it did round
    for name, value in full[0].items():
        assert metrics[name] == pytest.approx(value, rel=4 * rounding), name
    for own, expected in zip(moved, full[1], strict=True):
        assert np.abs(own - expected).max() < 4 * rounding * np.abs(expected).max()
    scaled = isinstance(made.optimizer, keras.optimizers.LossScaleOptimizer)
    assert scaled == (policy == "mixed_float16")
    if scaled:  # large, and no step was left out for it
        assert float(made.optimizer.dynamic_scale) == 2**15
        assert int(made.optimizer.inner_optimizer.iterations) == 1


def test_a_step_compiled_by_xla(full):
    """As Keras's jit_compile="auto" has it beside a GPU: an operation that XLA does not know would
    stop the first fit there."""
    metrics, moved, _ = step(jit_compile=True)
    assert metrics == pytest.approx(full[0], rel=1e-5)
    for own, expected in zip(moved, full[1], strict=True):
        np.testing.assert_allclose(own, expected, rtol=1e-4, atol=1e-7)
