"""The augmented view counts by the teacher's confidence: value, gradient and limits by hand."""

import numpy as np
import pytest
import tensorflow as tf

from tfkd.heads import Head
from tfkd.losses import ConfidenceDistillation, LogitsDistillation

T = 4.0
TEACHER = np.array([[2.0, -1.0, 0.5], [0.3, 4.0, -2.0], [1.0, 1.0, -3.0], [0.0, 5.0, 1.0]])
PARTNER = np.array([[1.0, -1.0, 1.0], [-0.6, -8.0, 4.0], [1.0, 1.0, -3.0], [0.0, 0.0, 0.0]])
STUDENT = np.array([[0.5, 1.5, -1.0], [2.0, 0.0, 0.0], [-1.0, 0.0, 2.0], [0.1, 0.2, 0.3]])


def softmax(logits):
    powers = np.exp(logits)
    return powers / powers.sum(1, keepdims=True)


def test_value_and_gradient_by_hand():
    # (2·1 + 1 + 0.5) / (√5.25 · √3), opposite, the same, and a plain view.
    weights = np.array([1 + 3.5 / (5.25 * 3) ** 0.5, 0.0, 2.0, 1.0])
    p, q = softmax(TEACHER / T), softmax(STUDENT / T)
    expected = weights * T**2 * (p * np.log(p / q)).sum(1)
    student = tf.constant(STUDENT, tf.float32)
    loss = ConfidenceDistillation(T)
    teacher = tuple(tf.constant(side, tf.float32) for side in (TEACHER, PARTNER))
    with tf.GradientTape() as tape:
        tape.watch(student)
        values = loss.call(teacher, student)
    np.testing.assert_allclose(values, expected, rtol=2e-5, atol=1e-6)
    np.testing.assert_allclose(
        tape.gradient(values, student), weights[:, None] * T * (q - p), rtol=1e-4, atol=1e-6
    )
    assert float(loss(teacher, student)) == pytest.approx(expected.mean(), rel=1e-5)


def test_plain_views_are_plain_distillation_and_equal_views_count_twice():
    teacher, student = (tf.constant(side, tf.float32) for side in (TEACHER, STUDENT))
    plain = LogitsDistillation(T).call(teacher, student)
    none = ConfidenceDistillation(T).call((teacher, tf.zeros_like(teacher)), student)
    np.testing.assert_array_equal(none, plain)
    same = ConfidenceDistillation(T).call((teacher, teacher), student)
    np.testing.assert_allclose(same, 2 * plain, rtol=1e-6)


def test_what_it_cannot_compare_is_refused():
    with pytest.raises(ValueError, match="reads two tensors of the teacher"):
        ConfidenceDistillation(T, teacher_layer_name="output")
    loss = ConfidenceDistillation(T)
    teacher = tf.constant(TEACHER, tf.float32)
    with pytest.raises(ValueError, match="same number of classes"):
        loss((teacher, teacher[:, :2]), teacher)
    logits, labels = Head("logits"), Head("logits", "independent")
    with pytest.raises(ValueError, match="one class of many, but the student's"):
        loss.call((teacher, teacher), teacher, heads=((logits, logits), labels))
