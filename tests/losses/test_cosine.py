"""CosineDistillation against float64 NumPy derivations, invariances and limits."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfkd.losses import CosineDistillation


def pair(*shape, seed=3):
    return np.random.default_rng(seed).normal(size=(2, *shape)).astype("float32")


def cosine(t, s):
    t, s = t.astype("float64"), s.astype("float64")
    return (t * s).sum(-1) / np.sqrt((t * t).sum(-1) * (s * s).sum(-1))


def softmax(z):
    exponentials = np.exp(z - z.max(-1, keepdims=True))
    return exponentials / exponentials.sum(-1, keepdims=True)


def test_on_logits_is_one_minus_pearson():
    t, s = pair(6, 5)
    expected = [1.0 - np.corrcoef(t[i], s[i])[0, 1] for i in range(6)]
    np.testing.assert_allclose(CosineDistillation().call(t, s), expected, rtol=1e-5)


def test_on_logits_neither_scale_nor_shift_counts():
    t, s = pair(6, 5)
    loss = CosineDistillation()
    np.testing.assert_allclose(loss.call(t, s), loss.call(3.0 * t + 7.0, 0.1 * s - 2.0), atol=2e-6)
    np.testing.assert_allclose(loss.call(t, 2.0 * t + 1.0), np.zeros(6), atol=1e-6)
    np.testing.assert_allclose(loss.call(t, -t), np.full(6, 2.0), atol=1e-6)


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_on_probabilities(temperature):
    t, s = pair(6, 5)
    loss = CosineDistillation("probabilities", temperature=temperature)
    expected = 1.0 - cosine(softmax(t / temperature), softmax(s / temperature))
    np.testing.assert_allclose(loss.call(t, s), expected, atol=1e-6)


def test_on_features_is_by_position():
    t, s = pair(4, 3, 3, 5)
    loss = CosineDistillation("features", teacher_layer_name="deep", student_layer_name="shallow")
    assert loss.adapts
    value = loss.call(t, s)
    np.testing.assert_allclose(value, 1.0 - cosine(t, s), atol=1e-6)
    np.testing.assert_allclose(loss(t, s), (1.0 - cosine(t, s)).mean(), rtol=1e-5)


@pytest.mark.parametrize("on", ["logits", "features"])
def test_zero_vectors_have_cosine_zero_and_no_gradient(on):
    t, s = tf.constant(pair(3, 5)[0]), tf.Variable(tf.zeros((3, 5)))
    loss = CosineDistillation(on, teacher_layer_name="a", student_layer_name="b")
    with tf.GradientTape() as tape:
        value = loss.call(t, s)
    np.testing.assert_array_equal(value, np.ones(3))
    np.testing.assert_array_equal(tape.gradient(value, s), np.zeros((3, 5)))


def test_the_gradient_is_that_of_finite_differences():
    t, s = pair(2, 4)
    loss, step = CosineDistillation(), 1e-5
    variable = tf.Variable(s)
    with tf.GradientTape() as tape:
        value = tf.reduce_sum(loss.call(t, variable))

    def total(z):
        centre = [a.astype("float64") - a.mean(-1, keepdims=True) for a in (t, z)]
        return (1.0 - cosine(*centre)).sum()

    expected = np.zeros_like(s, "float64")
    for index in np.ndindex(s.shape):
        moved = s.astype("float64")
        moved[index] += step
        back = s.astype("float64")
        back[index] -= step
        expected[index] = (total(moved) - total(back)) / (2 * step)
    np.testing.assert_allclose(tape.gradient(value, variable), expected, atol=1e-6)


def test_it_is_restored_from_its_configuration():
    loss = CosineDistillation("probabilities", temperature=2.5, name="angle")
    restored = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(loss))
    t, s = pair(3, 4)
    assert (restored.on, restored.temperature, restored.name) == ("probabilities", 2.5, "angle")
    np.testing.assert_array_equal(restored.call(t, s), loss.call(t, s))


def test_bad_settings_are_refused():
    with pytest.raises(ValueError, match="on must be one of logits, probabilities, features"):
        CosineDistillation("outputs")
    with pytest.raises(ValueError, match="give teacher_layer_name and student_layer_name"):
        CosineDistillation("features", student_layer_name="pool")
    with pytest.raises(ValueError, match="temperature"):
        CosineDistillation(temperature=0.0)
