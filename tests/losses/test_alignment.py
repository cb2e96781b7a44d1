"""Alignment of features by hand: the discrepancy of two sets, a discriminator and its sign."""

import numpy as np
import pytest
import tensorflow as tf

from tfkd.losses import AdversarialAlignment, MaximumMeanDiscrepancy
from tfkd.losses.discrepancy import squared_discrepancy

SCALES = (0.25, 0.5, 1, 2, 4)


def points(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def kernel(a, b, scale):
    squares = ((a[:, None] - b[None]) ** 2).sum(-1)
    return sum(np.exp(-squares / (scale * f)) for f in SCALES)


def discrepancy(t, s, scale):
    mean = {name: kernel(*pair, scale).mean() for name, pair in (("tt", (t, t)), ("ss", (s, s)))}
    return mean["tt"] + mean["ss"] - 2 * kernel(t, s, scale).mean()


def test_two_points_by_hand():
    # At their own distance, whatever it is: e^-4 + e^-2 + e^-1 + e^-1/2 + e^-1/4 = 1.906862.
    for distance in (0.1, 7.0):
        value = MaximumMeanDiscrepancy()(np.zeros((1, 1)), np.full((1, 1), distance))
        assert float(value) == pytest.approx(10 - 2 * 1.906862, rel=1e-5)
    # Squared distances of {0, 1} and {0, 3}: 0, 1, 1, 4, 9, 9, of which the median is 2.5.
    t, s = np.array([[0.0], [1.0]]), np.array([[0.0], [3.0]])
    k = {d: sum(np.exp(-d / (2.5 * f)) for f in SCALES) for d in (1, 4, 9)}
    expected = (5 + k[1]) / 2 + (5 + k[9]) / 2 - 2 * (5 + k[9] + k[1] + k[4]) / 4
    assert float(MaximumMeanDiscrepancy()(t, s)) == pytest.approx(expected, rel=1e-5)


def test_sets_and_not_examples_are_compared():
    t, s = points(8, 5), points(8, 5, seed=1) + 1
    value = float(MaximumMeanDiscrepancy()(t, s))
    everything = np.concatenate([t, s]).astype("float64")
    squares = ((everything[:, None] - everything[None]) ** 2).sum(-1)
    scale = np.median(squares[np.triu_indices(16, 1)])
    assert value == pytest.approx(discrepancy(t.astype("float64"), s, scale), rel=1e-4)
    assert value > 0.1
    assert float(MaximumMeanDiscrepancy()(t, s[::-1])) == pytest.approx(value, rel=1e-5)
    assert float(MaximumMeanDiscrepancy()(t, t[::-1])) == pytest.approx(0, abs=1e-5)
    student, step = tf.constant(s), 1e-4
    with tf.GradientTape() as tape:
        tape.watch(student)
        value = tf.reduce_mean(squared_discrepancy(tf.constant(t), student))
    gradient = tape.gradient(value, student).numpy()
    for row, column in ((0, 0), (3, 4), (7, 2)):  # the scale stands still
        moved = np.zeros((8, 5))
        moved[row, column] = step
        sides = (discrepancy(t.astype("float64"), s + sign * moved, scale) for sign in (1, -1))
        slope = np.subtract(*sides) / (2 * step)
        assert gradient[row, column] == pytest.approx(slope, rel=1e-2, abs=1e-5)


def test_points_that_are_all_one_have_no_discrepancy_and_no_gradient():
    student = tf.fill((4, 3), 50.0)
    with tf.GradientTape() as tape:
        tape.watch(student)
        value = tf.reduce_mean(squared_discrepancy(tf.fill((4, 3), 50.0), student))
    assert float(value) == pytest.approx(0, abs=1e-6)
    assert np.abs(tape.gradient(value, student)).max() < 1e-3


def test_the_student_s_gradient_is_the_discriminator_s_turned_around():
    loss = AdversarialAlignment(units=6)
    loss.build_once((None, 5), (None, 5))
    t, s = points(4, 5), points(4, 5, seed=1) + 2
    (first, bias), (second, _) = (layer.get_weights() for layer in loss.discriminator)

    def logit(x):
        hidden = x @ first + bias
        return (np.where(hidden > 0, hidden, 0.2 * hidden) @ second)[:, 0]

    def cross_entropy(student):
        told = 1 / (1 + np.exp(-logit(t))), 1 / (1 + np.exp(-logit(student)))
        return -np.log(told[0]) - np.log(1 - told[1])

    student = tf.constant(s)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(student)
        values = loss.call(tf.constant(t), student)
        total = tf.reduce_mean(values)
    np.testing.assert_allclose(values, cross_entropy(s), rtol=1e-4)
    kernel = loss.discriminator[0].kernel
    step, moved = 1e-2, np.zeros((4, 5))
    moved[2, 1] = step
    slope = np.mean(cross_entropy(s + moved) - cross_entropy(s - moved)) / (2 * step)
    assert float(tape.gradient(total, student)[2, 1]) == pytest.approx(-slope, rel=1e-2)
    before = float(np.mean(cross_entropy(s)))
    # Down the gradient that each is given: the discriminator tells better, the student hides.
    first -= 0.05 * tape.gradient(total, kernel.value).numpy()
    assert np.mean(cross_entropy(s)) < before
    first += 0.05 * tape.gradient(total, kernel.value).numpy()
    assert np.mean(cross_entropy(s - 0.1 * tape.gradient(total, student).numpy())) > before


def test_what_cannot_be_is_refused():
    with pytest.raises(ValueError, match="units must be a whole number of 1 or more"):
        AdversarialAlignment(units=0)
    for loss in (AdversarialAlignment(), MaximumMeanDiscrepancy()):
        with pytest.raises(ValueError, match="by features of a known number"):
            loss.build_once((None, None, 3), (None, None, 3))
