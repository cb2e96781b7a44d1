"""TeacherAgreement counts; it teaches nothing."""

import numpy as np
import tensorflow as tf

from tfkd.losses import TeacherAgreement


def test_it_counts_equal_classes():
    teacher = np.array([[3.0, 1.0], [0.0, 2.0], [5.0, 4.0], [1.0, 2.0]], "float32")
    student = np.array([[1.0, 0.0], [2.0, 0.0], [0.1, 0.0], [0.0, 9.0]], "float32")
    loss = TeacherAgreement()
    np.testing.assert_array_equal(loss.call(teacher, student), [1.0, 0.0, 1.0, 1.0])
    assert loss(teacher, student) == 0.75


def test_sample_weights_count():
    teacher, student = np.eye(2, dtype="float32"), np.array([[1.0, 0.0], [1.0, 0.0]], "float32")
    # Keras averages weighted values over the number of examples.
    assert TeacherAgreement()(teacher, student, np.array([3.0, 1.0])) == 1.5


def test_it_has_no_gradient():
    student = tf.constant([[1.0, 0.0]])
    with tf.GradientTape() as tape:
        tape.watch(student)
        value = TeacherAgreement()(tf.constant([[1.0, 0.0]]), student)
    assert tape.gradient(value, student) is None
