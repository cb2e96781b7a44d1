import types

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfkd.export.precision import in_float32
from tfkd.export.student import examine
from tfkd.heads import Head


def test_input_head_and_labels_of_a_plain_student(student, labels):
    served = examine(student, labels)
    assert served.model is student
    assert served.image_shape == (12, 12, 3)
    assert (served.head, served.task, served.labels) == (Head.get("logits"), "classes", labels)
    assert "it was assumed that they do" in served.assumed
    assert served.inputs["image"].shape.as_list() == [None, 12, 12, 3]


@pytest.mark.parametrize(
    "units, activation, head, task, classes",
    [
        (3, None, "logits", "classes", 3),
        (3, "softmax", "probabilities", "classes", 3),
        (3, None, "independent_logits", "labels", 3),
        (3, "sigmoid", "independent_probabilities", "labels", 3),
        (1, None, "independent_logits", "binary", 2),
        (1, "sigmoid", "independent_probabilities", "binary", 2),
    ],
)
def test_logits_and_probabilities_of_every_head(
    build_student, images, units, activation, head, task, classes
):
    given = None if activation else head
    served = examine(build_student(units, activation), head=given)
    plain = build_student(units)  # the same weights, no activation
    expected = plain(images.astype("float32")).numpy()
    found = served.outputs({"image": images})
    np.testing.assert_allclose(found["logits"], expected, atol=1e-4)
    wide = expected.astype("float64")
    if task == "classes":
        truth = np.exp(wide) / np.exp(wide).sum(-1, keepdims=True)
    else:
        truth = 1 / (1 + np.exp(-wide))
    if task == "binary":
        truth = np.concatenate([1 - truth, truth], axis=-1)
    np.testing.assert_allclose(found["probabilities"], truth, atol=1e-5)
    assert (served.head.name, served.task, len(served.labels)) == (head, task, classes)
    assert served.assumed == ""
    names = {"labels"} if task == "labels" else {"class_id", "label"}
    assert set(found) == {"logits", "probabilities"} | names


@pytest.mark.parametrize(
    "loss, units, head",
    [
        ("binary_crossentropy", 3, "independent_logits"),
        (keras.losses.BinaryFocalCrossentropy(from_logits=True), 4, "independent_logits"),
        (keras.losses.CategoricalCrossentropy(from_logits=True), 3, "logits"),
        ("binary_crossentropy", 1, "independent_logits"),
        ("mae", 1, "numbers"),
        (None, 1, "numbers"),
    ],
)
def test_the_loss_of_a_compiled_student_tells_its_head(build_student, loss, units, head):
    student = build_student(units)
    student.compile("sgd", loss)
    served = examine(student)
    assert served.head.name == head
    assert bool(served.assumed) == (loss is None)


def test_labels_alone_add_to_what_is_found(build_student):
    labels = Head(labels="one_of_many")
    for activation, name in ((None, "logits"), ("softmax", "probabilities")):
        served = examine(build_student(3, activation), head=labels)
        assert (served.head.name, served.assumed) == (name, "")
    sigmoids = examine(build_student(3, "sigmoid"), head=labels)
    assert sigmoids.head.name == "independent_probabilities"


def test_a_regression_of_several_numbers_is_asked_for(build_student):
    student = build_student(4)
    student.compile("sgd", "mse")
    with pytest.warns(UserWarning, match='For a regression say head="numbers"'):
        assert examine(student).task == "classes"
    served = examine(student, head="numbers", labels=["x", "y", "width", "height"])
    assert (served.task, served.assumed) == ("numbers", "")


def test_a_sigmoid_trained_on_numbers_is_said(build_student):
    student = build_student(1, "sigmoid")
    student.compile("sgd", "mae")
    with pytest.warns(UserWarning, match='ends in probabilities .* say head="numbers"'):
        assert examine(student).task == "binary"
    assert examine(student, head="independent_probabilities").task == "binary"  # in silence
    assert examine(student, head="numbers").task == "numbers"


def test_each_output_has_the_head_that_its_own_loss_tells(build_student):
    student = build_student()
    inner = keras.layers.GlobalAveragePooling2D()(student.get_layer("stage1_out").output)
    ends = {"kinds": student.output, "tags": keras.layers.Dense(2, name="tags")(inner)}
    ends["age"] = keras.layers.Dense(1, name="age")(inner)
    several = keras.Model(student.input, ends)
    losses = {"kinds": "sparse_categorical_crossentropy", "tags": "binary_crossentropy"}
    several.compile("sgd", {**losses, "age": "mse"})
    heads = {name: examine(several, output=name).head.name for name in ends}
    assert heads == {"kinds": "logits", "tags": "independent_logits", "age": "numbers"}
    listed = keras.Model(student.input, [ends["age"], ends["tags"]])
    listed.compile("sgd", ["mse", "binary_crossentropy"])
    heads = {name: examine(listed, output=name).head.name for name in ("age", "tags")}
    assert heads == {"tags": "independent_logits", "age": "numbers"}


def scaled_probabilities(x):
    return keras.ops.softmax(x) * 0.5


@pytest.mark.parametrize(
    "end, head, message",
    [
        (lambda x: abs(keras.ops.sin(x)), None, "It is not known what the outputs .* mean"),
        (scaled_probabilities, None, "It is not known what"),
        (keras.ops.tanh, "independent_probabilities", "outside of 0 and 1"),
        (keras.ops.softmax, "logits", "each row of its outputs is a distribution"),
        (keras.ops.softmax, "independent_logits", "each row of its outputs is a distribution"),
        (scaled_probabilities, "probabilities", "do not sum to 1"),
        (lambda x: x, "probabilities", "outside of 0 and 1"),
        (lambda x: x[:, :1], "logits", "a softmax over a single class is always 1"),
        (lambda x: x, "softmax", "A head is one of"),
    ],
)
def test_a_head_that_is_unknown_or_contradicted_by_the_numbers_is_refused(
    build_student, end, head, message
):
    plain = build_student()
    student = keras.Model(plain.input, end(plain.output))
    with pytest.raises(ValueError, match=message):
        examine(student, head=head)


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


def test_a_mixed_precision_clone_keeps_its_vocabulary():
    vectorizer = keras.layers.TextVectorization(output_sequence_length=4)
    vectorizer.adapt(["so good", "so bad"])
    text = keras.Input((1,), dtype="string", name="text")
    x = keras.layers.Embedding(9, 3, dtype="mixed_float16")(vectorizer(text))
    x = keras.layers.GlobalAveragePooling1D(dtype="mixed_float16")(x)
    student = keras.Model(text, keras.layers.Dense(2)(x))
    served = examine(student, head="logits")
    assert served.model is not student
    words = np.array([["so good"], ["bad"], ["new"]], object)
    found = served.outputs({"text": tf.constant(words)})["logits"]
    np.testing.assert_allclose(found, student(tf.constant(words)), atol=1e-3)
    assert np.ptp(found, axis=0).max() > 1e-2


def test_a_clone_that_answers_otherwise_is_refused(build_student):
    @keras.saving.register_keras_serializable()
    class Hidden(keras.layers.Layer):
        """Its factor is neither in its configuration nor a weight."""

        factor = 1.0

        def call(self, x):
            return x * self.factor

    keras.config.set_dtype_policy("mixed_float16")
    plain, hidden = build_student(), Hidden()
    student = keras.Model(plain.input, hidden(plain.output))
    hidden.factor = 3.0
    with pytest.raises(ValueError, match="answers otherwise than the student"):
        examine(student)


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
    np.testing.assert_allclose(served.own_output({"image": images}), expected, atol=1e-6)


def test_several_named_inputs_keep_their_names():
    left, right = keras.Input((4,), name="left"), keras.Input((2,), name="right")
    joined = keras.layers.Concatenate()([left, right])
    model = keras.Model([right, left], keras.layers.Dense(2)(joined))
    served = examine(model)
    assert list(served.inputs) == ["right", "left"]
    feeds = {"right": np.ones((1, 2), "float32"), "left": np.zeros((1, 4), "float32")}
    expected = model([feeds["right"], feeds["left"]])
    np.testing.assert_allclose(served.outputs(feeds)["logits"], expected)
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
    np.testing.assert_allclose(
        examine(student).outputs({"image": images})["logits"], expected, rtol=1e-5
    )


def distiller():
    return types.SimpleNamespace(student=None, teacher=None)


def unnamed_inputs():
    inputs = [keras.Input((2,)), keras.Input((3,))]
    return keras.Model(inputs, keras.layers.Dense(2)(keras.layers.Concatenate()(inputs)))


def any_size():
    image = keras.Input((None, None, 3))
    return keras.Model(image, keras.layers.Dense(2)(keras.layers.GlobalMaxPooling2D()(image)))


def no_identifier():
    inputs = {"a-b": keras.Input((2,)), "c": keras.Input((2,))}
    return keras.Model(inputs, keras.layers.Dense(2)(inputs["a-b"] + inputs["c"]))


def text_output():
    x = keras.Input((4,))
    names = keras.layers.StringLookup(vocabulary=["a", "b"], invert=True)
    return keras.Model(x, names(keras.ops.argmax(keras.layers.Dense(3)(x), -1)))


def stateful():
    x = keras.Input(batch_shape=(4, 5, 3))
    return keras.Model(x, keras.layers.Dense(2)(keras.layers.LSTM(4, stateful=True)(x)))


def any_length():
    tokens = keras.Input((None,), dtype="int32", name="tokens")
    x = keras.layers.GlobalAveragePooling1D()(keras.layers.Embedding(9, 3)(tokens))
    return keras.Model(tokens, keras.layers.Dense(2)(x))


@pytest.mark.parametrize(
    "make, error, message",
    [
        (text_output, ValueError, "gives text, but an export serves numbers"),
        (stateful, ValueError, "an export takes batches of any size: .*stateful"),
        (any_length, ValueError, r'keras.Input\(\(64,\), dtype="int32", name="tokens"\)'),
        (distiller, TypeError, "Pass distiller.student"),
        (lambda: "model.keras", TypeError, "must be a keras.Model; given str"),
        (lambda: keras.Sequential([keras.layers.Dense(2)]), ValueError, "not built"),
        (unnamed_inputs, ValueError, "have no name of their own"),
        (any_size, ValueError, "fixed sizes behind the batch"),
        (no_identifier, ValueError, "cannot be a key of a signature"),
    ],
)
def test_what_cannot_be_served_is_refused(make, error, message):
    with pytest.raises(error, match=message):
        examine(make())


class Noise(keras.layers.Layer):
    def __init__(self):
        super().__init__()
        self.seed = keras.random.SeedGenerator(1)

    def call(self, x):
        return x + keras.random.normal(keras.ops.shape(x), seed=self.seed)


def test_a_student_that_is_random_in_inference_is_said(build_student):
    student = build_student()
    with pytest.warns(UserWarning, match="answers the same inputs otherwise each time"):
        examine(keras.Model(student.input, Noise()(student.output)))


@pytest.mark.parametrize(
    "own, served",
    [("float16", "float32"), ("uint16", "int32"), ("int16", "int32")]
    + [("uint32", "int64"), ("float64", "float64"), ("bool", "bool"), ("int64", "int64")],
)
def test_dtypes_that_loaders_lack_are_served_as_wider_ones(own, served):
    x = keras.Input((3,), dtype=own, name="x")
    student = keras.Model(x, keras.layers.Dense(2)(keras.ops.cast(x, "float32")))
    found = examine(student)
    assert found.inputs["x"].dtype.name == served
    values = np.array([[1, 0, 1], [0, 1, 1]])
    expected = student(values.astype(own))
    np.testing.assert_allclose(
        found.outputs({"x": values.astype(served)})["logits"], expected, atol=1e-6
    )


@pytest.mark.parametrize(
    "labels, message",
    [
        (["a", "b"], "2 labels were given, but the student tells 3 classes apart"),
        (["a", "b", "b"], r"given more than once: \['b'\]"),
        (["a", "b", 3], "non-empty strings"),
        (["a", "b\nc", "d"], "names of one line"),
        (["a", "b\u2028c", "d"], "names of one line"),
        (["a\r", "b", "c"], "names of one line"),
    ],
)
def test_labels_that_do_not_match_are_refused(student, labels, message):
    with pytest.raises(ValueError, match=message):
        examine(student, labels)


def test_a_wrong_tap_is_refused_with_near_matches(student):
    with pytest.raises(ValueError, match='Did you mean "stage1_out"'):
        examine(student, features=["stage1_ou"])
