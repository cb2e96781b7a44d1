"""A virtual teacher by its closed form; a gradient scaled by the teacher, by hand in float64."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfkd
from tfkd.losses import GradientScaledDistillation, LogitsDistillation, TeacherFreeDistillation

LABELS = np.array([0, 3, 1])


def logits(seed):
    return (2.0 * np.random.default_rng(seed).normal(size=(3, 4))).astype("float32")


def softmax(z):
    powers = np.exp(np.float64(z) - z.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def test_the_virtual_teacher_is_softened_like_a_real_one():
    student, temperature, correct = logits(0), 5.0, 0.9
    virtual = np.where(np.eye(4)[LABELS] > 0, correct, 0.1 / 3) ** (1 / temperature)
    virtual /= virtual.sum(-1, keepdims=True)
    own = softmax(student / temperature)
    wanted = temperature**2 * (virtual * np.log(virtual / own)).sum(-1)
    loss = TeacherFreeDistillation(temperature, correct)
    found = loss.call(tf.constant(logits(1)), tf.constant(student), labels=tf.constant(LABELS))
    np.testing.assert_allclose(found, wanted, rtol=1e-5)


def test_at_t_1_it_is_smoothing_of_the_labels_but_for_a_constant():
    """Yuan et al. 2020, section 3: label smoothing is distillation from a virtual teacher."""
    student, loss = tf.constant(logits(0)), TeacherFreeDistillation(1.0, 0.9)
    smoothed = np.where(np.eye(4)[LABELS] > 0, 0.9, 0.1 / 3)
    with tf.GradientTape() as tape:
        tape.watch(student)
        value = loss(student, student, labels=tf.constant(LABELS))
    gradient = (softmax(logits(0)) - smoothed) / len(LABELS)
    np.testing.assert_allclose(tape.gradient(value, student), gradient, atol=1e-6)


def test_no_teacher_is_needed_and_it_is_saved_without_one(tmp_path):
    image = keras.Input((4,))
    student = keras.Model(image, keras.layers.Dense(4)(image))
    made = tfkd.Distiller(None, student, TeacherFreeDistillation(3.0, 0.8, as_released=True))
    made.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    x, path = logits(0), tmp_path / "distiller.keras"
    before = made.evaluate(x, LABELS, verbose=0, return_dict=True)
    assert before["teacher_free_distillation"] > 0
    made.save(path)
    after = keras.models.load_model(path).evaluate(x, LABELS, verbose=0, return_dict=True)
    assert after == pytest.approx(before, rel=1e-6)


def test_a_virtual_teacher_that_guesses_is_refused():
    with pytest.raises(ValueError, match="between 0 and 1, got 1.0"):
        TeacherFreeDistillation(correct=1.0)
    loss = TeacherFreeDistillation(correct=0.25)
    with pytest.raises(ValueError, match="no more than a guess among 4 classes"):
        loss(tf.constant(logits(0)), tf.constant(logits(1)), labels=tf.constant(LABELS))


def gradient_of(loss, student, teacher):
    student = tf.constant(student)
    with tf.GradientTape() as tape:
        tape.watch(student)
        value = loss(tf.constant(teacher), student)
    return value.numpy(), tape.gradient(value, student).numpy()


@pytest.mark.parametrize("sharpness", [0.0, 0.5, 3.0])
def test_likely_classes_have_more_of_a_gradient_of_the_same_length(sharpness):
    teacher, student, temperature, strength = logits(1), logits(0), 3.0, 2.0
    loss = GradientScaledDistillation(temperature, strength, sharpness)
    value, gradient = gradient_of(loss, student, teacher)
    taught = softmax(teacher / temperature)
    plain = temperature * (softmax(student / temperature) - taught) / len(student)
    wanted = plain * (1 + strength * (taught / taught.max(-1, keepdims=True)) ** sharpness)
    lengths = [np.linalg.norm(g, axis=-1, keepdims=True) for g in (plain, wanted)]
    wanted *= lengths[0] / lengths[1]
    np.testing.assert_allclose(gradient, wanted, atol=1e-6)
    assert value == gradient_of(LogitsDistillation(temperature), student, teacher)[0]
    if sharpness:
        assert np.abs(wanted - plain).max() > 1e-3


def test_without_strength_it_is_plain_distillation_to_the_last_bit():
    teacher, student = logits(1), logits(0)
    student[2] = teacher[2]  # no gradient, no direction
    plain = gradient_of(LogitsDistillation(4.0), student, teacher)
    scaled = gradient_of(GradientScaledDistillation(4.0, strength=0.0), student, teacher)
    np.testing.assert_array_equal(scaled[0], plain[0])
    np.testing.assert_array_equal(scaled[1], plain[1])
    assert np.isfinite(gradient_of(GradientScaledDistillation(4.0), student, teacher)[1]).all()
