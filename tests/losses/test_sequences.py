"""Losses on sequences: reverse divergence, neighbours' labels, consistency; padding."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfkd.losses import (
    ConsistencyDistillation,
    LogitsDistillation,
    NeighborDistillation,
    ReverseDistillation,
)
from tfkd.losses.neighbors import nearest_neighbors


def logits(seed, shape=(3, 4, 5)):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def log_softmax(x):
    x = x.astype("float64")
    return x - np.log(np.exp(x).sum(axis=-1, keepdims=True))


def divergence(p, q, temperature=1.0):
    p, q = log_softmax(p / temperature), log_softmax(q / temperature)
    return temperature**2 * (np.exp(p) * (p - q)).sum(axis=-1)


def masked(values, mask):
    tensor = tf.constant(values)
    tensor._keras_mask = tf.constant(mask)
    return tensor


def test_the_reverse_divergence_is_that_of_the_student_from_the_teacher():
    teacher, student = logits(0), logits(1)
    found = ReverseDistillation(2.0).call(*map(tf.constant, (teacher, student)))
    np.testing.assert_allclose(found, divergence(student, teacher, 2.0), rtol=1e-5)
    swapped = LogitsDistillation(2.0).call(*map(tf.constant, (student, teacher)))
    np.testing.assert_allclose(found, swapped, rtol=1e-6)
    with pytest.raises(ValueError, match="one class of many"):
        from tfkd.heads import Head

        heads = (Head("logits", "independent"), Head("logits"))
        ReverseDistillation()(teacher, student, heads=heads)


def test_the_gradient_of_the_reverse_divergence():
    teacher, student = logits(2, (1, 6)), tf.Variable(logits(3, (1, 6)))
    with tf.GradientTape() as tape:
        value = ReverseDistillation(3.0)(teacher, student)
    p, q = log_softmax(teacher / 3), log_softmax(student.numpy() / 3)
    apart = (np.exp(q) * (q - p)).sum(axis=-1, keepdims=True)
    expected = 3.0 * np.exp(q) * (q - p - apart)
    np.testing.assert_allclose(tape.gradient(value, student), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("loss", [LogitsDistillation(2.0), ReverseDistillation(2.0)])
def test_padded_positions_do_not_count(loss):
    teacher, student = logits(4), logits(5)
    values = loss.call(*map(tf.constant, (teacher, student))).numpy()
    assert values.shape == (3, 4)
    mask = np.array([[1, 1, 1, 1], [1, 0, 0, 0], [1, 1, 0, 0]], bool)
    np.testing.assert_allclose(loss(teacher, masked(student, mask)), values[mask].mean(), rtol=1e-5)
    np.testing.assert_allclose(
        loss(teacher, masked(student, np.ones_like(mask))), loss(teacher, student), rtol=1e-6
    )
    assert float(loss(teacher, masked(student, np.zeros_like(mask)))) == 0.0


def test_neighbours_by_hand():
    features = tf.constant([[0.0, 0.0], [3.0, 0.0], [0.0, 1.0], [9.0, 9.0]])
    labels = tf.constant([7, 8, 9, -1])  # the last row holds nothing
    found, shares = nearest_neighbors(tf.constant([[0.0, 0.0]]), features, labels, 2, 2.0)
    assert found.numpy().tolist() == [[7, 9]]
    # Squared distances 0 and 1, temperature 2.
    expected = np.exp([0.0, -0.5]) / np.exp([0.0, -0.5]).sum()
    np.testing.assert_allclose(shares[0], expected, rtol=1e-6)
    _, none = nearest_neighbors(tf.zeros((1, 2)), features, tf.fill((4,), -1), 2, 2.0)
    assert none.numpy().tolist() == [[0.0, 0.0]]


def test_without_neighbours_the_target_is_the_label():
    teacher, student = logits(6, (3, 4, 2)), logits(7)
    labels = np.random.default_rng(8).integers(0, 5, (3, 4))
    plain = keras.losses.SparseCategoricalCrossentropy(from_logits=True)(labels, student)
    for loss in (NeighborDistillation(neighbors=0), NeighborDistillation(memory=16)):
        loss.build_once(teacher.shape, student.shape)
        value = loss(teacher, student, labels=labels, training=True)  # nothing remembered yet
        np.testing.assert_allclose(value, plain, rtol=1e-6)


def test_a_label_is_smoothed_by_what_is_remembered():
    loss = NeighborDistillation(neighbors=2, memory=3, temperature=2.0, share=0.4, padding=0)
    loss.build_once((None, None, 2), (None, None, 5))
    seen = tf.constant([[[0.0, 0.0], [5.0, 5.0], [0.0, 1.0]]])
    loss(seen, logits(9, (1, 3, 5)), labels=np.array([[3, 0, 4]]), training=True)
    assert loss.remembered.numpy().tolist() == [3, 4, -1]  # padding is not remembered
    own = logits(10, (1, 2, 5))
    values = loss.call(
        tf.zeros((1, 2, 2)), tf.constant(own), labels=np.array([[1, 0]]), training=True
    )
    near = np.exp([0.0, -0.5]) / np.exp([0.0, -0.5]).sum()
    target = np.zeros(5)
    target[[1, 3, 4]] = 0.6, 0.4 * near[0], 0.4 * near[1]
    np.testing.assert_allclose(values[0, 0], -(target * log_softmax(own)[0, 0]).sum(), rtol=1e-5)
    assert float(values[0, 1]) == 0.0
    # The fourth position takes the place of the first.
    loss(tf.ones((1, 1, 2)), own[:, :1], labels=np.array([[2]]), training=True)
    assert loss.remembered.numpy().tolist() == [2, 4, 1]
    assert loss.features.numpy()[0].tolist() == [1.0, 1.0]


def test_two_passes_share_one_search_and_their_mean_counts():
    loss = NeighborDistillation(
        "features", ("output", "again"), neighbors=1, memory=4, share=0.5, padding=0
    )
    loss.build_once((None, None, 2), ((None, None, 5), (None, None, 5)))
    labels, seen = np.array([[3, 0, 4]]), tf.constant([[[0.0, 0.0], [0.0, 0.0], [9.0, 9.0]]])
    passes = logits(13, (1, 3, 5)), logits(14, (1, 3, 5))
    plain = loss(seen, passes, labels=labels, training=True)
    own = [-log_softmax(one)[0, [0, 2], [3, 4]] for one in passes]
    np.testing.assert_allclose(plain, np.sum(own) / 2 / 3, rtol=1e-6)  # no mask: padding is a zero
    assert loss.remembered.numpy().tolist() == [3, 4, -1, -1]  # each position once
    found = loss.call(seen + 0.1, tuple(map(tf.constant, passes)), labels=np.array([[1, 0, 2]]))
    target = np.zeros((3, 5))
    target[0, [1, 3]] = target[2, [2, 4]] = 0.5
    expected = -np.mean([(target * log_softmax(one)[0]).sum(axis=-1) for one in passes], axis=0)
    np.testing.assert_allclose(found[0], expected, rtol=1e-5)
    with pytest.raises(ValueError, match="at the same positions"):
        loss.check_shapes((None, 3, 2), ((None, 3, 5), (None, 4, 5)))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"neighbors": 5, "memory": 4}, "cannot be found among 4"),
        ({"share": 1.1}, "share must lie between 0 and 1"),
        ({"temperature": 0}, "temperature must be greater than 0"),
        ({"memory": 0}, "memory must be a whole number of at least 1"),
    ],
)
def test_settings_that_cannot_be_right(settings, message):
    with pytest.raises(ValueError, match=message):
        NeighborDistillation(**settings)


def test_two_passes_that_agree_cost_nothing_and_others_half_of_both_divergences():
    first, second = logits(11), logits(12)
    loss = ConsistencyDistillation(["output", "again"])
    equal = loss((first, first), (first, first))
    np.testing.assert_allclose(equal, 0.0, atol=1e-7)
    own = [tf.Variable(first), tf.Variable(second)]
    with tf.GradientTape() as tape:
        value = loss((first, second), tuple(own))
    expected = 0.5 * (divergence(first, second) + divergence(second, first)).mean()
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    # No gradient into the second distribution: that of the first is of the reverse divergence.
    q, p = log_softmax(first), log_softmax(second)
    apart = (np.exp(q) * (q - p)).sum(axis=-1, keepdims=True)
    gradient = 0.5 * np.exp(q) * (q - p - apart) / 12
    np.testing.assert_allclose(tape.gradient(value, own[0]), gradient, rtol=1e-3, atol=1e-6)
    with pytest.raises(ValueError, match="compares two passes"):
        ConsistencyDistillation(["output"])
