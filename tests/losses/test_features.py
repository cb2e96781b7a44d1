"""FeatureDistillation against float64 NumPy derivations."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfkd.losses import FeatureDistillation
from tfkd.losses.features import absolute_error, cosine_distance, huber_error, squared_error


def features(*shape, scale=2.0):
    return (scale * np.random.default_rng(2).normal(size=(2, *shape))).astype("float32")


def reference_mse(t, s):
    return ((s - t) ** 2).mean(-1), 2 * (s - t) / t.shape[-1]


def reference_mae(t, s):
    return np.abs(s - t).mean(-1), np.sign(s - t) / t.shape[-1]


def reference_huber(t, s):
    error = s - t
    value = np.where(np.abs(error) <= 1, error**2 / 2, np.abs(error) - 0.5)
    return value.mean(-1), np.clip(error, -1, 1) / t.shape[-1]


def reference_cosine(t, s):
    lengths = np.linalg.norm(s, axis=-1, keepdims=True)
    unit_t, unit_s = t / np.linalg.norm(t, axis=-1, keepdims=True), s / lengths
    cosine = (unit_t * unit_s).sum(-1, keepdims=True)
    return 1 - cosine[..., 0], -(unit_t - cosine * unit_s) / lengths


FORMULAS = [
    (squared_error, reference_mse, "mse"),
    (absolute_error, reference_mae, "mae"),
    (huber_error, reference_huber, "huber"),
    (cosine_distance, reference_cosine, "cosine_similarity"),
]


def value_and_gradient(function, teacher, student):
    student = tf.constant(student)
    with tf.GradientTape() as tape:
        tape.watch(student)
        value = function(tf.constant(teacher), student)
        total = tf.reduce_sum(value)
    return value.numpy(), tape.gradient(total, student).numpy()


@pytest.mark.parametrize(("formula", "reference", "name"), FORMULAS)
@pytest.mark.parametrize("shape", [(4, 5), (2, 3, 5), (2, 3, 4, 5)])
def test_formulas_and_their_gradients(formula, reference, name, shape):
    pair = features(*shape)
    got = value_and_gradient(formula, *pair)
    for mine, truth in zip(got, reference(*pair.astype("float64")), strict=True):
        scale = max(1.0, np.abs(truth).max())
        np.testing.assert_allclose(mine, truth, rtol=0, atol=1e-6 * scale)


@pytest.mark.parametrize(("formula", "reference", "name"), FORMULAS)
@pytest.mark.parametrize("shape", [(4, 5), (4, 3, 5), (4, 2, 3, 5), (4, 2, 2, 3, 5)])
def test_the_loss_is_the_mean_over_the_batch_and_all_positions(formula, reference, name, shape):
    pair = features(*shape)
    wanted = reference(*pair.astype("float64"))[0].mean()
    np.testing.assert_allclose(FeatureDistillation(name)(*pair), wanted, rtol=2e-6)


@pytest.mark.parametrize(
    ("given", "same_as"),
    [
        ("mean_squared_error", "mse"),
        ("MSE", "mse"),
        (keras.losses.MeanSquaredError(), "mse"),
        (keras.losses.mean_absolute_error, "mae"),
        (keras.losses.Huber(), "huber"),
        (keras.losses.CosineSimilarity(), "cosine_similarity"),
        (keras.losses.cosine_similarity, "cosine_similarity"),
    ],
)
def test_keras_names_objects_and_functions(given, same_as):
    pair = features(4, 5)
    np.testing.assert_allclose(
        FeatureDistillation(given)(*pair), FeatureDistillation(same_as)(*pair), rtol=1e-6
    )


def test_a_keras_loss_keeps_its_settings():
    teacher, student = features(4, 5).astype("float64")
    error = np.abs(student - teacher)
    wanted = np.where(error <= 0.3, error**2 / 2, 0.3 * error - 0.3**2 / 2).mean()
    got = FeatureDistillation(keras.losses.Huber(delta=0.3))(teacher, student)
    np.testing.assert_allclose(got, wanted, rtol=2e-6)


def test_a_keras_loss_keeps_its_axis():
    teacher, student = features(4, 3, 5)
    turned = [np.swapaxes(side, 1, 2).astype("float64") for side in (teacher, student)]
    cosine = 1 - reference_cosine(*turned)[0]
    got = FeatureDistillation(keras.losses.CosineSimilarity(axis=1))(teacher, student)
    # Keras's own loss is minus the cosine.
    np.testing.assert_allclose(got, -cosine.mean(), rtol=2e-6)


def test_a_reduction_that_would_be_dropped_is_refused():
    with pytest.raises(ValueError, match="reduction"):
        FeatureDistillation(keras.losses.MeanSquaredError(reduction="sum"))


def test_a_users_function_is_not_taken_for_keras_s_of_the_same_name():
    def mse(teacher, student):
        return 7.0 + 0.0 * keras.ops.sum(student - teacher, axis=-1)

    assert float(FeatureDistillation(mse)(*features(4, 5))) == pytest.approx(7.0)


def test_cosine_is_zero_for_one_direction_and_two_for_opposite_ones():
    teacher = features(3, 5)[0]
    loss = FeatureDistillation("cosine_similarity")
    np.testing.assert_allclose(loss(teacher, 1e-3 * teacher), 0, atol=1e-6)
    np.testing.assert_allclose(loss(teacher, -1e3 * teacher), 2, atol=1e-6)


def test_zero_vectors_have_cosine_zero_and_a_gradient_no_larger_than_others():
    teacher, zero = np.ones((2, 4), "float32"), np.zeros((2, 4), "float32")
    for pair in ((teacher, zero), (zero, teacher), (zero, zero)):
        value, gradient = value_and_gradient(cosine_distance, *pair)
        np.testing.assert_allclose(value, 1.0)
        assert np.abs(gradient).max() <= 1.0


@pytest.mark.parametrize("loss", ["mse", "mae", "huber"])
@pytest.mark.parametrize("shape", [(4, 5), (4, 3, 3, 5)])
def test_normalized_features_have_no_scale(loss, shape):
    teacher, student = features(*shape)
    plain = FeatureDistillation(loss, normalize=True)
    scaled = plain(50 * teacher, 50 * student)
    np.testing.assert_allclose(plain(teacher, student), scaled, rtol=1e-5)
    assert not np.isclose(plain(teacher, student), plain(teacher, 2 * student))


def test_normalization_divides_by_the_teachers_deviation_in_each_example():
    teacher, student = features(4, 3, 3, 5)
    wide = teacher.astype("float64")
    scale = wide.std(axis=(1, 2, 3), keepdims=True)
    wanted = (((student - wide) / scale) ** 2).mean()
    got = FeatureDistillation("mse", normalize=True)(teacher, student)
    np.testing.assert_allclose(got, wanted, rtol=2e-6)


def test_a_dead_teacher_feature_is_not_blown_up_by_normalization():
    zero, one = np.zeros((2, 4), "float32"), np.ones((2, 4), "float32")
    assert float(FeatureDistillation("mse", normalize=True)(zero, one)) == pytest.approx(1.0)


@pytest.mark.parametrize("pair", [((2, 4, 4, 6), (2, 4, 4, 1)), ((2, 6), (1, 6)), ((2, 6), (6,))])
def test_nothing_is_broadcast(pair):
    teacher, student = (np.ones(shape, "float32") for shape in pair)
    with pytest.raises(ValueError, match="shape"):
        FeatureDistillation()(teacher, student)
    with pytest.raises(ValueError, match="shape"):
        FeatureDistillation().compute_loss(teacher, student)


def test_an_example_weight_weighs_all_positions_of_a_sequence():
    for length in (3, 4):  # as long as the batch, and not
        teacher, student = features(3, length, 5)
        weight = np.array([0.0, 0.5, 3.0], "float32")
        wanted = (weight[:, None] * ((student - teacher) ** 2).mean(-1)).mean()
        got = FeatureDistillation()(teacher, student, weight)
        np.testing.assert_allclose(got, wanted, rtol=2e-6)


def test_names():
    both = FeatureDistillation("mae", "backbone/conv", "conv_1", normalize=True, name="hint")
    assert both.terms() == [(both, "backbone/conv", "conv_1")]
    assert both.get_config() == {
        "loss": "mae",
        "blur": 0.0,
        "teacher_layer_name": "backbone/conv",
        "student_layer_name": "conv_1",
        "normalize": True,
        "name": "hint",
    }
    with pytest.raises(ValueError, match="no teacher_layer_name"):
        FeatureDistillation(student_layer_name="conv_1")


def test_a_blurred_teacher_is_a_gaussian_mean_of_its_positions():
    teacher, student = features(2, 3, 4, 5).astype("float64")
    smooth = np.zeros_like(teacher)
    for y, x in np.ndindex(3, 4):
        distances = [[(y - a) ** 2 + (x - b) ** 2 for b in range(4)] for a in range(3)]
        weights = np.exp(-np.array(distances) / (2 * 0.7**2))
        smooth[:, y, x] = np.einsum("nabc,ab->nc", teacher, weights / weights.sum())
    got = FeatureDistillation("mse", blur=0.7)(teacher, student)
    np.testing.assert_allclose(got, ((student - smooth) ** 2).mean(), rtol=2e-6)
    scale = smooth.std(axis=(1, 2, 3), keepdims=True)
    got = FeatureDistillation("mse", normalize=True, blur=0.7)(teacher, student)
    np.testing.assert_allclose(got, (((student - smooth) / scale) ** 2).mean(), rtol=2e-6)
    wide = FeatureDistillation("mse", blur=1e4)(teacher, student)  # the mean over all positions
    mean = teacher.mean(axis=(1, 2), keepdims=True)
    np.testing.assert_allclose(wide, ((student - mean) ** 2).mean(), rtol=1e-5)
    plain = FeatureDistillation("mse")(teacher, student)
    assert float(FeatureDistillation("mse", blur=0)(teacher, student)) == float(plain)


def test_a_blur_of_no_map_is_refused():
    with pytest.raises(ValueError, match="blur must be a number of at least 0"):
        FeatureDistillation(blur=-1)
    with pytest.raises(ValueError, match="compares maps of known size"):
        FeatureDistillation("mse", "a", "b", blur=1.0).build_once((None, 5), (None, 5))
