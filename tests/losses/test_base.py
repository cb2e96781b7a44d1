"""What every distillation loss does: one value an example, weights, masks, structures, configs."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfkd.losses import DistillationLoss, FeatureDistillation, LogitsDistillation
from tfkd.losses.base import snake_case

LOSSES = [
    LogitsDistillation(4.0),
    LogitsDistillation(4.0, "binary_crossentropy"),
    FeatureDistillation("mse"),
    FeatureDistillation("cosine_similarity", normalize=True),
]


def pair(*shape):
    return np.random.default_rng(3).normal(size=(2, *shape)).astype("float32")


@keras.saving.register_keras_serializable(package="tests")
class FirstDifference(DistillationLoss):
    def call(self, teacher, student):
        return teacher[:, 0] - student[:, 0]


@pytest.mark.parametrize("loss", LOSSES)
def test_one_value_an_example_that_does_not_know_the_others(loss):
    teacher, student = pair(5, 4)
    values = loss.call(*map(tf.constant, (teacher, student))).numpy()
    assert values.shape == (5,)
    order = [3, 0, 4, 1, 2]
    permuted = loss.call(*map(tf.constant, (teacher[order], student[order])))
    np.testing.assert_allclose(permuted, values[order], rtol=1e-6)
    np.testing.assert_allclose(loss(teacher, student), values.mean(), rtol=1e-6)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("shape", [(4,), (4, 1)])
def test_sample_weights_as_in_keras(loss, shape):
    teacher, student = pair(4, 3)
    weight = np.array([0.0, 1.0, 2.5, 0.5], "float32")
    values = loss.call(*map(tf.constant, (teacher, student))).numpy()
    # sum_over_batch_size: divided by the examples, not by the weights.
    wanted = (values * weight).sum() / 4
    np.testing.assert_allclose(loss(teacher, student, weight.reshape(shape)), wanted, rtol=1e-6)
    weighted = loss.compute_loss(teacher, student, sample_weight=weight)
    np.testing.assert_allclose(weighted, wanted, rtol=1e-6)


@pytest.mark.parametrize("loss", LOSSES)
def test_padded_positions_do_not_count(loss):
    teacher, student = pair(2, 3, 4)
    mask = np.array([[True, True, False], [True, False, False]])
    values = loss.call(*map(tf.constant, (teacher, student))).numpy()
    assert values.shape == (2, 3)
    padded = tf.constant(student)
    padded._keras_mask = tf.constant(mask)
    np.testing.assert_allclose(loss(teacher, padded), values[mask].mean(), rtol=1e-6)


def test_a_padding_mask_and_example_weights_go_together():
    teacher, student = pair(2, 3, 4)
    mask = np.array([[True, True, False], [True, False, False]])
    weight = np.array([2.0, 0.5], "float32")
    values = ((teacher - student) ** 2).mean(-1)
    padded = tf.constant(student)
    padded._keras_mask = tf.constant(mask)
    wanted = (values * weight[:, None])[mask].sum() / 3
    np.testing.assert_allclose(FeatureDistillation()(teacher, padded, weight), wanted, rtol=1e-6)


@pytest.mark.parametrize("loss", LOSSES)
def test_half_precision_is_computed_in_single(loss):
    teacher, student = (300 * pair(3, 4)).astype("float16")
    value = loss(teacher, student)
    assert value.dtype == "float32"
    single = loss(teacher.astype("float32"), student.astype("float32"))
    np.testing.assert_array_equal(value, single)


@pytest.mark.parametrize("floatx", ["float16", "float64"])
def test_computed_in_single_whatever_keras_s_float(floatx):
    teacher, student = pair(3, 4)
    wanted = LogitsDistillation()(teacher, student)
    keras.config.set_floatx(floatx)
    try:
        value = LogitsDistillation()(teacher, student)
    finally:
        keras.config.set_floatx("float32")
    assert value.dtype == "float32"
    np.testing.assert_array_equal(value, wanted)


@pytest.mark.parametrize("make", [LogitsDistillation, FeatureDistillation])
def test_a_list_or_dict_of_formulas_is_the_sum_over_outputs(make):
    first, second, third = pair(4, 3), pair(4, 5) * 2, pair(4, 2) * 3
    wanted = make(loss="mse")(*first) + make(loss="mae")(*third)
    in_list = make(loss=["mse", None, "mae"])
    got = in_list.compute_loss(*[list(side) for side in zip(first, second, third, strict=True)])
    np.testing.assert_allclose(got, wanted, rtol=1e-6)
    in_dict = make(loss={"a": "mse", "b": None, "c": "mae"})
    sides = zip(first, second, third, strict=True)
    got = in_dict.compute_loss(*[dict(zip("abc", side, strict=True)) for side in sides])
    np.testing.assert_allclose(got, wanted, rtol=1e-6)


def test_terms_name_the_outputs_that_count():
    plain = LogitsDistillation()
    assert plain.terms() == [(plain, None, None)]
    by_place = LogitsDistillation(loss=["mse", None, "mae"]).terms()
    assert [(term[0].loss, *term[1:]) for term in by_place] == [("mse", 0, 0), ("mae", 2, 2)]
    by_name = LogitsDistillation(loss={"a": None, "b": "mae"}).terms()
    assert [(term[0].loss, *term[1:]) for term in by_name] == [("mae", "b", "b")]


def test_the_terms_of_a_whole_follow_its_temperature():
    whole = LogitsDistillation(1.0, ["kl_divergence", "kl_divergence"])
    (term, _, _), _ = whole.terms()
    whole.temperature = 5.0
    assert term.temperature == 5.0
    np.testing.assert_array_equal(term(*pair(4, 3)), LogitsDistillation(5.0)(*pair(4, 3)))


@pytest.mark.parametrize(
    ("loss", "teacher", "student"),
    [
        (["mse"], "one", "one"),  # outputs[0] of a tensor would be its first example
        (["mse", "mse"], "one", "one"),
        ("mse", ["one", "one"], ["one", "one"]),
        (["mse"] * 3, ["one", "one"], ["one", "one"]),
        ({"z": "mse"}, {"a": "one"}, {"a": "one"}),
        ("mse", "one", ["one"]),
    ],
)
def test_structures_that_do_not_fit_are_refused(loss, teacher, student):
    fill = lambda side: keras.tree.map_structure(lambda _: pair(4, 3)[0], side)  # noqa: E731
    with pytest.raises(ValueError, match="structure"):
        LogitsDistillation(loss=loss).compute_loss(fill(teacher), fill(student))


def test_bad_structures_are_refused_when_made():
    for nothing in (None, [None, None], {"a": None}):
        with pytest.raises(ValueError, match="at least one formula that is not `None`"):
            LogitsDistillation(loss=nothing)
    named = LogitsDistillation(loss=["mse", "mse"], teacher_layer_name="a")
    with pytest.raises(ValueError, match="a formula for each output and layer names as well"):
        named.terms()
    with pytest.raises(ValueError, match="nonsense"):
        FeatureDistillation(loss={"a": "mse", "b": "nonsense"})


@pytest.mark.parametrize(
    "loss",
    [
        "mse",
        keras.losses.MeanAbsoluteError(),  # Keras itself forgets the settings of Huber(delta=...)
        keras.losses.mean_absolute_error,
        ["mse", None, keras.losses.LogCosh()],
        {"a": "kl_divergence", "b": None, "c": keras.losses.CategoricalCrossentropy()},
    ],
)
@pytest.mark.parametrize("make", [LogitsDistillation, FeatureDistillation])
def test_saved_and_loaded_it_is_the_same_loss(make, loss):
    made = make(loss=loss, name="mine")
    packed = keras.saving.serialize_keras_object(made)
    again = keras.saving.deserialize_keras_object(packed)
    assert type(again) is make
    assert keras.saving.serialize_keras_object(again) == packed
    size = len(loss) if isinstance(loss, list | dict) else 1
    outputs = [pair(4, 3) * (i + 1) for i in range(size)]
    if isinstance(loss, dict):
        sides = [dict(zip(loss, side, strict=True)) for side in zip(*outputs, strict=True)]
    elif isinstance(loss, list):
        sides = [list(side) for side in zip(*outputs, strict=True)]
    else:
        sides = outputs[0]
    np.testing.assert_array_equal(again.compute_loss(*sides), made.compute_loss(*sides))


def test_a_subclass_writes_call_and_nothing_else():
    loss = FirstDifference("a", "b")
    assert (loss.name, loss.terms()) == ("first_difference", [(loss, "a", "b")])
    teacher, student = pair(4, 3)
    weight = np.array([1, 0, 0, 3], "float32")
    difference = (teacher - student)[:, 0]
    np.testing.assert_allclose(loss(teacher, student), difference.mean(), rtol=1e-5)
    weighted = loss(teacher, student, weight)
    np.testing.assert_allclose(weighted, (difference * weight).mean(), rtol=1e-5)
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(loss))
    assert again.get_config() == loss.get_config()
    with pytest.raises(ValueError, match=r"teacher's is \(None, 3\) and the student's \(None, 4\)"):
        loss.check_shapes((None, 3), (None, 4))


def test_snake_case():
    assert snake_case("LogitsDistillation") == "logits_distillation"
    assert snake_case("RKD2Loss") == "rkd2_loss"
