"""`AnnealedDistillation` against float64 derivations, identities and edges."""

import math
import types

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy.optimize import brentq
from scipy.special import entr, expit, log_softmax, softmax

import tfkd
from tfkd import _keras, defaults
from tfkd.losses.annealed import HIGHEST, LOWEST, temperature_of

random = np.random.default_rng(0)
TEACHER, STUDENT = random.normal(0, 4, (16, 7)), random.normal(0, 2, (16, 7))


def exact_temperature(logits, softness):
    def excess(log_t):
        entropy = entr(softmax(logits / math.exp(log_t), axis=-1)).sum(-1).mean()
        return entropy - softness * math.log(logits.shape[-1])

    return math.exp(brentq(excess, math.log(LOWEST), math.log(HIGHEST), xtol=1e-12))


def exact(teacher, student, softness, own):
    target = softmax(teacher / exact_temperature(teacher, softness), axis=-1)
    return own**2 * (-entr(target) - target * log_softmax(student / own, axis=-1)).sum(-1)


@pytest.mark.parametrize("softness", [0.05, 0.3, 0.8, 0.99])
def test_targets_have_the_entropy_asked_for(softness):
    found = float(temperature_of(tf.constant(TEACHER, tf.float32), softness))
    assert found == pytest.approx(exact_temperature(TEACHER, softness), rel=3e-4)


def test_independent_labels_count_by_log_2():
    found = float(temperature_of(tf.constant(TEACHER, tf.float32), 0.4, "sigmoid"))
    likely = expit(TEACHER / found)
    assert (entr(likely) + entr(1 - likely)).mean() == pytest.approx(0.4 * math.log(2), rel=1e-3)


@pytest.mark.parametrize("progress, softness", [(0.0, 0.8), (0.4, 0.52), (1.0, 0.1)])
def test_value_and_gradient_follow_the_progress(progress, softness):
    loss = tfkd.losses.AnnealedDistillation(0.8, 0.1, student_temperature=1.5)
    student = tf.Variable(STUDENT, dtype=tf.float32)
    with tf.GradientTape() as tape:
        values = loss.call(tf.constant(TEACHER, tf.float32), student, progress=progress)
        total = tf.reduce_sum(values)
    np.testing.assert_allclose(values, exact(TEACHER, STUDENT, softness, 1.5), rtol=1e-3)
    target = softmax(TEACHER / exact_temperature(TEACHER, softness), axis=-1)
    gradient = 1.5 * (softmax(STUDENT / 1.5, axis=-1) - target)
    np.testing.assert_allclose(tape.gradient(total, student), gradient, atol=1e-3)


def test_the_scale_of_the_teachers_logits_does_not_matter():
    loss = tfkd.losses.AnnealedDistillation()
    teacher, student = tf.constant(TEACHER, tf.float32), tf.constant(STUDENT, tf.float32)
    plain = loss.call(teacher, student, progress=0.3)
    for factor in (0.25, 5.0):
        np.testing.assert_allclose(
            loss.call(factor * teacher, student, progress=0.3), plain, rtol=1e-3
        )


def test_a_student_that_says_the_targets_has_no_loss():
    loss = tfkd.losses.AnnealedDistillation(student_temperature=1.3)
    teacher = tf.constant(TEACHER, tf.float32)
    temperature = temperature_of(teacher, defaults.FINAL_SOFTNESS)
    values = loss.call(teacher, 1.3 * teacher / temperature)
    np.testing.assert_allclose(values, 0.0, atol=1e-5)


@pytest.mark.parametrize(
    "teacher",
    [np.zeros((4, 5)), np.full((1, 5), 3.0), 800.0 * np.eye(5)[:4], -800.0 * np.eye(5)[:4]],
    ids=["constant", "one example", "sure", "sure of what it is not"],
)
def test_edges_are_finite(teacher):
    loss = tfkd.losses.AnnealedDistillation()
    student = tf.Variable(np.linspace(-800, 800, teacher.size).reshape(teacher.shape), tf.float32)
    with tf.GradientTape() as tape:
        values = loss.call(tf.constant(teacher, tf.float32), tf.cast(student, tf.float32))
        total = tf.reduce_sum(values)
    gradient = tape.gradient(total, student)
    assert np.isfinite(values).all() and (values.numpy() >= -1e-4).all()
    # softmax minus targets, times S: no entry can be larger than S.
    assert np.abs(gradient).max() <= defaults.STUDENT_TEMPERATURE + 1e-5


@pytest.mark.parametrize(
    "given, message",
    [
        ({"softness": 0.0}, "softness must be"),
        ({"softness": 1.5}, "softness must be"),
        ({"final_softness": -1}, "final_softness must be"),
        ({"student_temperature": 0}, "student_temperature must be"),
        ({"activation": "tanh"}, "activation must be"),
    ],
    ids=["zero", "above one", "negative", "cold student", "unknown activation"],
)
def test_numbers_out_of_range_are_refused(given, message):
    with pytest.raises(ValueError, match=message):
        tfkd.losses.AnnealedDistillation(**given)


def test_config_makes_the_same_loss():
    loss = tfkd.losses.AnnealedDistillation(0.7, 0.2, 1.1, "softmax", "a", "b", "own")
    again = keras.losses.deserialize(keras.losses.serialize(loss))
    assert again.get_config() == loss.get_config()


def test_what_counts_nowhere_has_no_say_in_the_temperature():
    """By the weight 0, of an example or of a position, and by a mask."""
    loss, more = tfkd.losses.AnnealedDistillation(), 9 * random.normal(size=(16, 7))
    teacher, student = (np.stack([own, more]).astype("float32") for own in (TEACHER, STUDENT))
    alone = loss(*map(tf.constant, (teacher[:1], student[:1])))
    first = np.array([1.0, 0.0], "float32")
    of_examples = loss(tf.constant(teacher), tf.constant(student), first)
    np.testing.assert_allclose(2 * of_examples, alone, rtol=1e-5)
    turned = [tf.constant(own.swapaxes(0, 1)) for own in (teacher, student)]
    of_positions = loss(*turned, np.tile(first, (16, 1)))
    np.testing.assert_allclose(2 * of_positions, alone, rtol=1e-5)
    masked = _keras.with_mask(
        turned[1], types.SimpleNamespace(_keras_mask=np.tile(first > 0, (16, 1)))
    )
    np.testing.assert_allclose(loss(turned[0], masked), alone, rtol=1e-5)
    assert float(loss(*turned, np.zeros((16, 2), "float32"))) == 0
