import types

import keras
import numpy as np
import pytest

from tfkd.export.student import examine, in_float32


def test_input_head_and_labels_of_a_plain_student(student, labels):
    served = examine(student, labels)
    assert served.model is student
    assert served.image_shape == (12, 12, 3)
    assert (served.head, served.labels) == ("softmax", labels)
    assert served.inputs["image"].shape.as_list() == [None, 12, 12, 3]


@pytest.mark.parametrize(
    "units, activation, head, classes",
    [(3, None, "softmax", 3), (3, "softmax", "softmax", 3), (3, "sigmoid", "sigmoid", 3)]
    + [(1, None, "binary", 2), (1, "sigmoid", "binary", 2)],
)
def test_logits_and_probabilities_of_every_head(
    build_student, images, units, activation, head, classes
):
    served = examine(build_student(units, activation))
    plain = build_student(units)  # the same weights, no activation
    expected = plain(images.astype("float32")).numpy()
    logits = served.logits({"image": images})
    np.testing.assert_allclose(logits, expected, atol=1e-4)
    wide = expected.astype("float64")
    if head == "softmax":
        truth = np.exp(wide) / np.exp(wide).sum(-1, keepdims=True)
    else:
        truth = 1 / (1 + np.exp(-wide))
    if head == "binary":
        truth = np.concatenate([1 - truth, truth], axis=-1)
    probabilities = served.probabilities(logits).numpy()
    np.testing.assert_allclose(probabilities, truth, atol=1e-5)
    assert (served.head, len(served.labels), probabilities.shape[1]) == (head, classes, classes)


def test_mixed_precision_becomes_float32_with_the_same_weights(build_student, images):
    keras.config.set_dtype_policy("mixed_float16")
    student = build_student()
    keras.config.set_dtype_policy("float32")
    clone = in_float32(student)
    assert {layer.compute_dtype for layer in clone.layers} == {"float32"}
    for mine, its in zip(clone.get_weights(), student.get_weights(), strict=True):
        np.testing.assert_array_equal(mine, its)
    exact = build_student()(images.astype("float32")).numpy()
    np.testing.assert_allclose(clone(images.astype("float32")), exact, atol=1e-5)


def test_one_output_of_several_is_served_and_nothing_else_comes_along(student, images):
    inner = student.get_layer("stage1_out").output
    early = keras.layers.Dense(3, name="early")(keras.layers.GlobalAveragePooling2D()(inner))
    # Not in the order of the alphabet, in which Keras lists them.
    several = keras.Model(student.input, {"final": student.output, "early": early})
    with pytest.raises(ValueError, match='output="early"'):
        examine(several)
    served = examine(several, output="early")
    assert "stage2" not in [layer.name for layer in served.model.layers]
    expected = several(images.astype("float32"))["early"]
    np.testing.assert_allclose(served.logits({"image": images}), expected, atol=1e-6)


def test_several_named_inputs_keep_their_names():
    left, right = keras.Input((4,), name="left"), keras.Input((2,), name="right")
    joined = keras.layers.Concatenate()([left, right])
    model = keras.Model([right, left], keras.layers.Dense(2)(joined))
    served = examine(model)
    assert list(served.inputs) == ["right", "left"]
    feeds = {"right": np.ones((1, 2), "float32"), "left": np.zeros((1, 4), "float32")}
    np.testing.assert_allclose(served.logits(feeds), model([feeds["right"], feeds["left"]]))
    assert served.image_shape is None


def test_a_subclassed_student_is_served_once_it_was_called(images):
    class Own(keras.Model):
        def __init__(self):
            super().__init__()
            self.flatten, self.head = keras.layers.Flatten(), keras.layers.Dense(2)

        def call(self, image):
            return self.head(self.flatten(image))

    student = Own()
    with pytest.raises(ValueError, match="not built"):
        examine(student)
    expected = student(images.astype("float32"))
    np.testing.assert_allclose(examine(student).logits({"image": images}), expected, rtol=1e-5)


def distiller():
    return types.SimpleNamespace(student=None, teacher=None)


def unnamed_inputs():
    inputs = [keras.Input((2,)), keras.Input((3,))]
    return keras.Model(inputs, keras.layers.Dense(2)(keras.layers.Concatenate()(inputs)))


def any_size():
    image = keras.Input((None, None, 3))
    return keras.Model(image, keras.layers.Dense(2)(keras.layers.GlobalMaxPooling2D()(image)))


def a_map():
    image = keras.Input((8, 8, 3))
    return keras.Model(image, keras.layers.Conv2D(2, 1)(image))


@pytest.mark.parametrize(
    "make, error, message",
    [
        (distiller, TypeError, "Pass distiller.student"),
        (lambda: "model.keras", TypeError, "must be a keras.Model; given str"),
        (lambda: keras.Sequential([keras.layers.Dense(2)]), ValueError, "not built"),
        (unnamed_inputs, ValueError, "have no name of their own"),
        (any_size, ValueError, "fixed sizes behind it"),
        (a_map, ValueError, "a classifier returns"),
    ],
)
def test_what_cannot_be_served_is_refused(make, error, message):
    with pytest.raises(error, match=message):
        examine(make())


@pytest.mark.parametrize(
    "labels, message",
    [
        (["a", "b"], "2 labels were given, but the student tells 3 classes apart"),
        (["a", "b", "b"], r"given more than once: \['b'\]"),
        (["a", "b", 3], "non-empty strings"),
    ],
)
def test_labels_that_do_not_match_are_refused(student, labels, message):
    with pytest.raises(ValueError, match=message):
        examine(student, labels)


def test_a_wrong_tap_is_refused_with_near_matches(student):
    with pytest.raises(ValueError, match='Did you mean "stage1_out"'):
        examine(student, features=["stage1_ou"])
