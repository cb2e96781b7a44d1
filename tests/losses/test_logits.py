"""LogitsDistillation against float64 NumPy derivations, limits and identities."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfkd.losses import LogitsDistillation
from tfkd.losses.logits import (
    softened_bernoulli_cross_entropy,
    softened_bernoulli_kl,
    softened_cross_entropy,
    softened_kl,
)

TEMPERATURES = [0.5, 1.0, 4.0, 20.0]


def log_softmax(z):
    z = z - z.max(axis=-1, keepdims=True)
    return z - np.log(np.exp(z).sum(axis=-1, keepdims=True))


def log_sigmoid(z):
    return -np.logaddexp(0.0, -z)


def softmax_kl(t, s, temperature):
    """Value per example and its gradient by the student's logits, T (q - p)."""
    p, q = log_softmax(t / temperature), log_softmax(s / temperature)
    value = temperature**2 * (np.exp(p) * (p - q)).sum(axis=-1)
    return value, temperature * (np.exp(q) - np.exp(p))


def softmax_entropy(t, temperature):
    p = log_softmax(t / temperature)
    return -(temperature**2) * (np.exp(p) * p).sum(axis=-1)


def bernoulli_kl(t, s, temperature):
    """As `softmax_kl`: one softmax over (z, 0) for each label, by the definition of sigmoid."""
    t, s = t / temperature, s / temperature
    p, rest = np.exp(log_sigmoid(t)), np.exp(log_sigmoid(-t))
    value = p * (log_sigmoid(t) - log_sigmoid(s)) + rest * (log_sigmoid(-t) - log_sigmoid(-s))
    return temperature**2 * value.sum(axis=-1), temperature * (np.exp(log_sigmoid(s)) - p)


def bernoulli_entropy(t, temperature):
    t = t / temperature
    parts = np.exp(log_sigmoid(t)) * log_sigmoid(t) + np.exp(log_sigmoid(-t)) * log_sigmoid(-t)
    return -(temperature**2) * parts.sum(axis=-1)


def logits(classes, scale=3.0, batch=6):
    draw = np.random.default_rng(1).normal(size=(2, batch, classes))
    return (scale * draw).astype("float32")


def extreme():
    """Sure and right, sure and wrong, undecided, and all ways between, up to ±60."""
    teacher = [[60, -60, 0], [60, -60, 0], [0, 0, 0], [60, 60, -60], [-60, 60, 59]]
    student = [[60, -60, 0], [-60, 60, 0], [60, -60, 0], [-60, 60, 60], [0, 0, 0]]
    return np.array([teacher, student], "float32")


def value_and_gradient(function, teacher, student):
    student = tf.constant(student)
    with tf.GradientTape() as tape:
        tape.watch(student)
        value = function(tf.constant(teacher), student)
        total = tf.reduce_sum(value)
    return value.numpy(), tape.gradient(total, student).numpy()


def assert_golden(got, wanted, temperature=1.0):
    # The value is T² times a divergence, which float32 resolves to 1e-6; the gradient has no T².
    for mine, truth, factor in zip(got, wanted, (temperature**2, 1.0), strict=True):
        scale = max(1.0, factor, np.abs(truth).max())
        np.testing.assert_allclose(mine, truth, rtol=0, atol=1e-6 * scale)


@pytest.mark.parametrize("temperature", TEMPERATURES)
@pytest.mark.parametrize("pair", [logits(7), logits(1000, batch=2), extreme()])
def test_kl_and_its_gradient(pair, temperature):
    teacher, student = pair
    got = value_and_gradient(
        lambda t, s: softened_kl(t, s, tf.constant(temperature)), teacher, student
    )
    wanted = softmax_kl(*pair.astype("float64"), temperature)
    assert_golden(got, wanted, temperature)


@pytest.mark.parametrize("temperature", TEMPERATURES)
@pytest.mark.parametrize("pair", [logits(1), logits(5), extreme()])
def test_bernoulli_kl_and_its_gradient(pair, temperature):
    teacher, student = pair
    got = value_and_gradient(
        lambda t, s: softened_bernoulli_kl(t, s, tf.constant(temperature)), teacher, student
    )
    assert_golden(got, bernoulli_kl(*pair.astype("float64"), temperature), temperature)


@pytest.mark.parametrize("temperature", TEMPERATURES)
@pytest.mark.parametrize(
    ("formula", "kl", "entropy"),
    [
        (softened_cross_entropy, softmax_kl, softmax_entropy),
        (softened_bernoulli_cross_entropy, bernoulli_kl, bernoulli_entropy),
    ],
)
def test_cross_entropy_is_kl_plus_the_teachers_entropy_with_the_same_gradient(
    formula, kl, entropy, temperature
):
    for pair in (logits(5), extreme()):
        teacher, student = pair.astype("float64")
        value, gradient = kl(teacher, student, temperature)
        got = value_and_gradient(lambda t, s: formula(t, s, tf.constant(temperature)), *pair)
        assert_golden(got, (value + entropy(teacher, temperature), gradient), temperature)


def test_a_divergence_of_40_nats_comes_out_as_40():
    # p = (1, e^-200), q = (e^-40, 1 - e^-40): KL = 40 nats up to e^-40.
    teacher, student = np.array([[100.0, -100.0]]), np.array([[-20.0, 20.0]])
    value = LogitsDistillation(temperature=1)(teacher, student)
    np.testing.assert_allclose(value, 40.0, rtol=1e-6)
    clipped = keras.losses.kl_divergence(*map(keras.ops.softmax, (teacher, student)))
    assert float(clipped[0]) < 17  # what clipping at 1e-7 would make of it


def test_a_sure_and_wrong_student_keeps_its_gradient():
    _, gradient = value_and_gradient(
        lambda t, s: softened_kl(t, s, tf.constant(1.0)),
        np.array([[60.0, -60.0]], "float32"),
        np.array([[-60.0, 60.0]], "float32"),
    )
    np.testing.assert_allclose(gradient, [[-1.0, 1.0]], atol=1e-6)


def test_the_limit_of_high_temperature_is_the_centred_squared_difference():
    pair = logits(10, scale=2.0, batch=4)
    difference = np.subtract(*pair.astype("float64"))
    centred = difference - difference.mean(axis=-1, keepdims=True)
    limit = np.mean((centred**2).sum(axis=-1) / (2 * 10))
    distance = []
    for temperature in (4.0, 20.0, 100.0):
        ratio = float(LogitsDistillation(temperature)(*pair)) / limit
        expected = softmax_kl(*pair.astype("float64"), temperature)[0].mean() / limit
        np.testing.assert_allclose(ratio, expected, atol=1e-6 * temperature**2 / limit)
        distance.append(abs(ratio - 1))
    # The remainder falls as 1/T: 4 -> 20 -> 100 divides it by about five each time.
    assert distance[0] > 3 * distance[1] > 9 * distance[2]
    assert distance[2] < 0.01


def test_the_value_does_not_see_a_shift_of_all_logits():
    teacher, student = logits(6)
    plain = LogitsDistillation(2)(teacher, student)
    shifted = LogitsDistillation(2)(teacher + 50, student - 50)
    np.testing.assert_allclose(plain, shifted, rtol=2e-5)


def test_one_logit_is_the_two_class_softmax_with_a_zero_logit_beside_it():
    teacher, student = logits(1)
    beside = lambda z: np.concatenate([z, np.zeros_like(z)], axis=-1)  # noqa: E731
    one = LogitsDistillation(2)(teacher, student)
    two = LogitsDistillation(2)(beside(teacher), beside(student))
    np.testing.assert_allclose(one, two, rtol=1e-6)
    assert float(one) > 0.1


def test_labels_are_independent_under_sigmoid():
    teacher, student = logits(4)
    loss = LogitsDistillation(3, activation="sigmoid")
    each = [float(loss(teacher[:, [i]], student[:, [i]])) for i in range(4)]
    np.testing.assert_allclose(loss(teacher, student), sum(each), rtol=1e-6)


@pytest.mark.parametrize(
    ("given", "activation"),
    [
        ("kl_divergence", "softmax"),
        ("kld", "softmax"),
        ("KLD", "softmax"),
        ("KLDivergence", "softmax"),
        (keras.losses.kl_divergence, "softmax"),
        (keras.losses.KLDivergence(), "softmax"),
        ("categorical_crossentropy", "softmax"),
        (keras.losses.CategoricalCrossentropy(from_logits=True), "softmax"),
        ("binary_crossentropy", "sigmoid"),
        ("bce", "sigmoid"),
        ("BCE", "sigmoid"),
        (keras.losses.BinaryCrossentropy(), "sigmoid"),
        (keras.losses.BinaryCrossentropy(from_logits=True), "sigmoid"),
    ],
)
def test_every_name_of_a_divergence_has_the_gradient_of_the_softened_kl(given, activation):
    pair = logits(5)
    _, gradient = value_and_gradient(LogitsDistillation(4, given).call, *pair)
    kl = softmax_kl if activation == "softmax" else bernoulli_kl
    np.testing.assert_allclose(gradient, kl(*pair.astype("float64"), 4)[1], atol=3e-6)


def test_activation_decides_where_the_heads_do_not():
    teacher, student = logits(5)
    as_labels = LogitsDistillation(2, activation="sigmoid")(teacher, student)
    as_classes = LogitsDistillation(2, "binary_crossentropy", activation="softmax")
    wide = np.stack([teacher, student]).astype("float64")
    np.testing.assert_allclose(as_labels, bernoulli_kl(*wide, 2)[0].mean(), rtol=2e-6)
    wanted = softmax_kl(*wide, 2)[0].mean() + softmax_entropy(wide[0], 2).mean()
    np.testing.assert_allclose(as_classes(teacher, student), wanted, rtol=2e-6)


@pytest.mark.parametrize("temperature", [0.5, 4.0])
def test_any_other_loss_compares_logits_over_t_times_t_squared(temperature):
    teacher, student = logits(5)
    mse = LogitsDistillation(temperature, "mse")(teacher, student)
    np.testing.assert_allclose(mse, np.mean((teacher - student) ** 2), rtol=2e-6)
    mae = LogitsDistillation(temperature, keras.losses.MeanAbsoluteError())(teacher, student)
    np.testing.assert_allclose(mae, temperature * np.abs(teacher - student).mean(), rtol=2e-6)
    own = LogitsDistillation(temperature, lambda t, s: keras.ops.max(keras.ops.abs(t - s), -1))
    wanted = temperature * np.abs(teacher - student).max(axis=-1).mean()
    np.testing.assert_allclose(own(teacher, student), wanted, rtol=2e-6)


def test_a_users_function_is_not_taken_for_keras_s_of_the_same_name():
    def kl_divergence(teacher, student):
        return 7.0 + 0.0 * keras.ops.sum(student - teacher, axis=-1)

    assert float(LogitsDistillation(1, kl_divergence)(*logits(3))) == pytest.approx(7.0)


@pytest.mark.parametrize(
    "loss",
    [
        keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=0.1),
        keras.losses.KLDivergence(reduction="sum"),
    ],
)
def test_settings_that_would_be_dropped_are_refused(loss):
    with pytest.raises(ValueError, match="label_smoothing|reduction"):
        LogitsDistillation(loss=loss)


def test_changing_the_temperature_needs_no_retrace():
    pair = logits(5)
    loss = LogitsDistillation(1.0)
    traces = []

    @tf.function
    def step(teacher, student):
        traces.append(1)
        return loss(teacher, student)

    for temperature in (1.0, 4.0, 20.0):
        loss.temperature = temperature
        wanted = softmax_kl(*pair.astype("float64"), temperature)[0].mean()
        np.testing.assert_allclose(step(*map(tf.constant, pair)), wanted, rtol=1e-5)
    assert len(traces) == 1


def test_the_changed_temperature_is_the_one_saved():
    loss = LogitsDistillation(1.0, "mse", name="soft")
    loss.temperature = 2.5
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(loss))
    assert again.get_config() == loss.get_config()
    assert (again.temperature, again.loss, again.name) == (2.5, "mse", "soft")


@pytest.mark.parametrize("temperature", [0, -1, float("nan"), float("inf"), "warm", None, [1, 2]])
def test_a_bad_temperature_is_refused_before_and_after(temperature):
    with pytest.raises(ValueError, match="temperature must be"):
        LogitsDistillation(temperature)
    loss = LogitsDistillation(2.0)
    with pytest.raises(ValueError, match="temperature must be"):
        loss.temperature = temperature
    assert loss.temperature == 2.0


@pytest.mark.parametrize("temperature", [2, np.float32(2), np.float64(2), np.array(2)])
def test_numpy_temperatures_are_numbers(temperature):
    assert LogitsDistillation(temperature).temperature == 2.0


def test_bad_settings_are_refused():
    with pytest.raises(ValueError, match='activation must be "softmax", "sigmoid" or None'):
        LogitsDistillation(activation="tanh")
    with pytest.raises(ValueError, match="Could not interpret loss identifier: nonsense"):
        LogitsDistillation(loss="nonsense")
    with pytest.raises(ValueError, match="Expected the name of a Keras loss"):
        LogitsDistillation(loss=3)


def test_class_counts_must_agree():
    with pytest.raises(ValueError, match="same number of classes"):
        LogitsDistillation().check_shapes((None, 10), (None, 100))
    LogitsDistillation().check_shapes((None, 10), (32, 10))
    LogitsDistillation().check_shapes((None, None, 10), (None, 16, 10))


def test_logits_without_a_class_axis_are_refused():
    # A one-logit head squeezed to (batch,) would be softened over the batch.
    with pytest.raises(ValueError, match="class"):
        LogitsDistillation().check_shapes((None,), (None,))
