"""Losses wired to named tensors: resolution, shapes, adapters, weights, messages."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfkd
from tfkd.losses import (
    DistillationLoss,
    EnsembleDistillation,
    FeatureDistillation,
    LogitsDistillation,
    ReviewDistillation,
    SelfDistillation,
)
from tfkd.matching import Matching


def pair(*shape):
    draw = np.random.default_rng(8).normal(size=(2, *shape)).astype("float32")
    return tuple(map(tf.constant, draw))


def connected(losses, knowledge_shapes, student_shapes=None):
    matching = Matching(losses)
    matching.connect(knowledge_shapes, student_shapes or knowledge_shapes)
    return matching


def test_a_loss_reads_the_only_outputs():
    teacher, student = pair(4, 3)
    loss = LogitsDistillation()
    assert Matching([loss]).names("teacher") == []
    matching = connected([loss], {"output": (None, 3)})
    (value,) = matching({"output": teacher}, {"output": student})
    np.testing.assert_allclose(value, loss(teacher, student), rtol=1e-6)


def test_each_loss_reads_its_two_names():
    (teacher, student), (deep, shallow) = pair(4, 3), pair(4, 5)
    hint = FeatureDistillation("mae", "deep", "shallow")
    matching = Matching([LogitsDistillation(), hint])
    assert (matching.names("teacher"), matching.names("student")) == (["deep"], ["shallow"])
    assert not matching.connected
    matching.connect(
        {"output": (None, 3), "deep": (None, 5)}, {"output": (None, 3), "shallow": (None, 5)}
    )
    assert matching.connected
    assert matching.knowledge_shapes == {"output": (None, 3), "deep": (None, 5)}
    values = matching({"output": teacher, "deep": deep}, {"output": student, "shallow": shallow})
    wanted = np.abs(deep.numpy() - shallow.numpy()).mean()
    np.testing.assert_allclose(values[1], wanted, rtol=1e-6)


def test_a_structured_loss_is_one_value():
    first, second = pair(4, 3), pair(4, 5)
    loss = LogitsDistillation(loss=["mse", "mae"])
    matching = connected(
        [loss, LogitsDistillation(loss={"b": "mse"})], {"a": (None, 3), "b": (None, 5)}
    )
    values = matching({"a": first[0], "b": second[0]}, {"a": first[1], "b": second[1]})
    wanted = LogitsDistillation(loss="mse")(*first) + LogitsDistillation(loss="mae")(*second)
    np.testing.assert_allclose(values[0], wanted, rtol=1e-6)
    np.testing.assert_allclose(values[1], LogitsDistillation(loss="mse")(*second), rtol=1e-6)


def test_the_adapter_stands_between():
    teacher, _ = pair(4, 5)
    _, student = pair(4, 2)
    matching = Matching([FeatureDistillation("mse", "deep", "shallow")])
    matching.connect({"deep": (None, 5)}, {"shallow": (None, 2)})
    kernel, bias = matching.parts.trainable_variables
    with tf.GradientTape() as tape:
        (value,) = matching({"deep": teacher}, {"shallow": student})
    adapted = student.numpy() @ kernel.numpy() + bias.numpy()
    np.testing.assert_allclose(value, ((adapted - teacher.numpy()) ** 2).mean(), rtol=1e-5)
    wanted = 2 * (adapted - teacher.numpy()).mean(axis=0) / 5
    np.testing.assert_allclose(tape.gradient(value, bias.value), wanted, rtol=1e-4)


def test_example_weights_reach_every_loss():
    teacher, student = pair(4, 3)
    weight = tf.constant([0.0, 1.0, 2.0, 0.5])
    matching = connected(
        [LogitsDistillation(loss="mse"), FeatureDistillation()], {"output": (None, 3)}
    )
    each = ((teacher.numpy() - student.numpy()) ** 2).mean(-1)
    values = matching({"output": teacher}, {"output": student}, weight)
    np.testing.assert_allclose(values, 2 * [(each * weight.numpy()).mean()], rtol=1e-5)


def test_weights_by_output_go_to_their_outputs():
    first, second = pair(4, 3), pair(4, 5)
    weight = tf.constant([0.0, 1.0, 2.0, 0.5])
    matching = connected(
        [FeatureDistillation(loss={"a": "mse", "b": "mse"})], {"a": (None, 3), "b": (None, 5)}
    )
    knowledge, tensors = {"a": first[0], "b": second[0]}, {"a": first[1], "b": second[1]}
    (value,) = matching(knowledge, tensors, {"a": weight})
    wanted = FeatureDistillation()(*first, weight) + FeatureDistillation()(*second)
    np.testing.assert_allclose(value, wanted, rtol=1e-6)
    (listed,) = matching(knowledge, tensors, [weight, None])  # as fit gives them for list outputs
    np.testing.assert_allclose(listed, wanted, rtol=1e-6)


def test_a_position_counts_outputs_and_not_taps():
    loss = LogitsDistillation(loss=["mse", "mse"])
    hint = FeatureDistillation("mse", "deep", "deep")
    with pytest.raises(ValueError, match="1 of the teacher"):
        connected([loss, hint], {"output": (None, 3), "deep": (None, 5)})


def test_what_cannot_be_wired_is_refused():
    with pytest.raises(ValueError, match="None of the|reads 'output' of the teacher") as error:
        connected([LogitsDistillation()], {"a": (None, 3), "b": (None, 5)})
    assert "['a', 'b']" in str(error.value)
    assert "teacher_layer_name" in str(error.value)
    with pytest.raises(ValueError, match="'z' of the teacher"):
        connected([LogitsDistillation(loss={"z": "mse"})], {"a": (None, 3)})
    with pytest.raises(ValueError, match="2 of the teacher"):
        connected([LogitsDistillation(loss=["mse"] * 3)], {"a": (None, 3), "b": (None, 3)})
    with pytest.raises(ValueError, match="same number of classes"):
        connected([LogitsDistillation()], {"output": (None, 10)}, {"output": (None, 7)})
    with pytest.raises(ValueError, match="cannot be adapted"):
        connected([FeatureDistillation()], {"output": (None, 4, 5)}, {"output": (None, 5)})


def test_knowledge_that_lacks_a_name_is_refused():
    teacher, student = pair(4, 3)
    matching = connected([LogitsDistillation()], {"output": (None, 3)})
    with pytest.raises(ValueError, match='has no "output", which logits_distillation reads'):
        matching({"logits": teacher}, {"output": student})


def test_a_loss_taught_by_the_student_reads_its_tensors():
    (deep, shallow), (teacher, _) = pair(4, 3), pair(4, 3)
    own = SelfDistillation(
        LogitsDistillation(2.0, teacher_layer_name="output", student_layer_name="exit")
    )
    matching = Matching([own])
    assert (matching.names("teacher"), matching.names("student")) == ([], ["exit", "output"])
    assert not matching.reads_teacher
    matching.connect({}, {"output": (None, 3), "exit": (None, 3)})
    student = {"output": deep, "exit": shallow}
    (value,) = matching({"output": teacher}, student)
    np.testing.assert_allclose(value, own.loss(deep, shallow), rtol=1e-6)


def test_what_teaches_within_the_student_gets_no_gradient():
    deep, shallow = pair(4, 3)
    own = SelfDistillation(
        LogitsDistillation(2.0, teacher_layer_name="output", student_layer_name="exit")
    )
    matching = Matching([own])
    matching.connect({}, {"output": (None, 3), "exit": (None, 3)})
    with tf.GradientTape() as tape:
        tape.watch([deep, shallow])
        (value,) = matching({}, {"output": deep, "exit": shallow})
    assert tape.gradient(value, deep) is None


def test_several_names_are_read_as_a_tuple_and_labels_are_handed_over():
    first, second = pair(4, 3)
    loss = EnsembleDistillation(["first", "second"], teach_selectively=True)
    matching = Matching([loss])
    assert matching.names("student") == ["first", "second"]
    matching.connect({}, {"first": (None, 3), "second": (None, 3)})
    labels = tf.constant([0, 1, 2, 0])
    members = (first, second)
    expected = loss(members, members, labels=labels)
    for given in (labels, {"first": labels, "second": labels}, [labels, labels]):
        (value,) = matching({}, {"first": first, "second": second}, labels=given)
        np.testing.assert_allclose(value, expected, rtol=1e-6)


def test_members_of_different_shapes_are_refused():
    matching = Matching([EnsembleDistillation(["first", "second"])])
    with pytest.raises(ValueError, match=r"\(None, 3\).*\(None, 4\)"):
        matching.connect({}, {"first": (None, 3), "second": (None, 4)})


class Needy(DistillationLoss):
    """Keeps what it was handed."""

    needs = ("labels", "index", "training")

    def call(self, teacher, student, **handed):
        self.handed = handed
        return tf.reduce_mean(student, axis=-1)


def test_a_loss_is_handed_what_it_needs_by_name():
    loss = Needy()
    matching = connected([loss], {"output": (None, 3)})
    teacher, student = pair(4, 3)
    labels, index = tf.constant([0, 1, 2, 0]), tf.constant([7, 8, 9, 10], tf.int64)
    knowledge = {"output": teacher, "index": index}
    matching(knowledge, {"output": student}, labels=labels, training=True)
    assert sorted(loss.handed) == ["index", "labels", "training"]
    np.testing.assert_array_equal(loss.handed["labels"], labels)
    np.testing.assert_array_equal(loss.handed["index"], index)
    assert loss.handed["training"] is True
    with pytest.raises(ValueError, match="needy reads the labels, but the data has none"):
        matching(knowledge, {"output": student})
    with pytest.raises(ValueError, match="needy reads the examples' numbers"):
        matching({"output": teacher}, {"output": student}, labels=labels)


def test_an_unknown_need_is_refused_when_the_distiller_is_made():
    class Wishful(Needy):
        needs = ("labels", "weather")

    with pytest.raises(ValueError, match=r"wishful needs \['weather'\].*labels.*index"):
        Matching([Wishful()])


class Owner(DistillationLoss):
    """Owns a layer on either side, in a list and in a dict."""

    adapts = "itself"

    def build(self, teacher_shape, student_shape):
        self.shapes = (teacher_shape, student_shape)
        self.sides = [keras.layers.Dense(2), keras.layers.Dense(2)]
        for side, shape in zip(self.sides, self.shapes, strict=True):
            side.build(shape)
        self.scales = {"both": keras.Variable([1.0, 1.0])}

    def call(self, teacher, student):
        first, second = (side(x) for side, x in zip(self.sides, (teacher, student), strict=True))
        return tf.reduce_sum((first - second) * self.scales["both"], axis=-1)


def test_what_a_loss_owns_is_tracked_and_trained():
    loss = Owner()
    matching = connected([loss], {"output": (None, 3)}, {"output": (None, 5)})
    assert loss.shapes == ((None, 3), (None, 5))
    assert matching.parts.count_params() == (3 * 2 + 2) + (5 * 2 + 2) + 2
    (teacher, _), (_, student) = pair(4, 3), pair(4, 5)
    with tf.GradientTape() as tape:
        (value,) = matching({"output": teacher}, {"output": student})
    variables = matching.parts.trainable_variables
    gradients = tape.gradient(value, [variable.value for variable in variables])
    assert len(gradients) == 5
    assert all(gradient is not None for gradient in gradients)


def test_a_loss_that_owns_layers_serves_one_pair_of_shapes():
    loss = Owner()
    first = connected([loss], {"output": (None, 3)})
    again = connected([loss], {"output": (None, 3)})
    assert list(map(id, first.parts.variables)) == list(map(id, again.parts.variables))
    with pytest.raises(ValueError, match="owner owns layers for tensors of the shapes"):
        connected([loss], {"output": (None, 4)})


def test_several_taps_reach_a_loss_and_its_build_as_tuples():
    class Several(Owner):
        def build(self, teacher_shape, student_shape):
            assert teacher_shape == ((None, 3), (None, 4))
            assert student_shape == ((None, 5), (None, 6))

        def call(self, teacher, student):
            assert [t.shape[-1] for t in (*teacher, *student)] == [3, 4, 5, 6]
            return tf.reduce_mean(student[1], axis=-1)

    loss = Several(("a", "b"), ("c", "d"))
    matching = Matching([loss])
    assert (matching.names("teacher"), matching.names("student")) == (["a", "b"], ["c", "d"])
    teacher = {"a": (None, 3), "b": (None, 4)}
    student = {"c": (None, 5), "d": (None, 6)}
    matching.connect(teacher, student)
    assert matching.read_of_teacher == {"a", "b"}
    batch = lambda shapes: {n: tf.ones((2, shape[1])) for n, shape in shapes.items()}  # noqa: E731
    assert float(matching(batch(teacher), batch(student))[0]) == 1.0


# Sample weights: by example, by position, by more positions than the loss has values.


@pytest.mark.parametrize(
    ("weights", "expected"),
    [
        ((4,), lambda values, w: (values * w[:, None, None]).mean()),
        ((4, 1), lambda values, w: (values * w[:, :, None]).mean()),
        ((4, 5), lambda values, w: (values * w[:, :, None]).mean()),
        ((4, 5, 6), lambda values, w: (values * w).mean()),
        ((4, 5, 6, 2), lambda values, w: (values * w.mean(-1)).mean()),
    ],
)
def test_weights_are_matched_from_the_batch_s_side(weights, expected):
    teacher, student = pair(4, 5, 6, 3)
    weight = np.random.default_rng(1).uniform(0, 2, weights).astype("float32")
    values = ((teacher - student).numpy() ** 2).mean(-1)
    matching = connected([LogitsDistillation(loss="mse")], {"output": (None, 5, 6, 3)})
    (value,) = matching({"output": teacher}, {"output": student}, weight)
    np.testing.assert_allclose(value, expected(values, weight), rtol=1e-5)


@pytest.mark.parametrize("shape", [(3,), (4, 6), (4, 5, 5), ()])
def test_weights_that_fit_no_axis_are_refused(shape):
    teacher, student = pair(4, 5, 6, 3)
    matching = connected([LogitsDistillation(loss="mse")], {"output": (None, 5, 6, 3)})
    with pytest.raises(ValueError, match="do not fit the values of a loss"):
        matching({"output": teacher}, {"output": student}, np.ones(shape, "float32"))


def nested(name):
    inner_image = keras.Input((6,))
    inner = keras.Model(
        inner_image, keras.layers.Dense(5, name="deep")(inner_image), name="backbone"
    )
    image = keras.Input((6,))
    return keras.Model(image, keras.layers.Dense(3, name="head")(inner(image)), name=name)


def test_layers_given_as_objects_become_their_paths():
    teacher, student = nested("teacher"), nested("student")
    deep = [model.get_layer("backbone").get_layer("deep") for model in (teacher, student)]
    hint = FeatureDistillation("mse", deep[0], deep[1])
    distiller = tfkd.Distiller(teacher, student, hint)
    assert (hint.teacher_layer_name, hint.student_layer_name) == ("backbone/deep",) * 2
    x = np.random.default_rng(0).normal(size=(4, 6)).astype("float32")
    expected = np.mean((deep[0](x) - deep[1](x)) ** 2)
    distiller.compile("sgd", "mse")
    found = distiller.matching(distiller.knowledge(x), distiller.taps(x, False)[1])
    assert float(found[0]) == pytest.approx(expected, rel=1e-5)
    again = tfkd.Distiller.from_config(distiller.get_config())
    assert again.distillation_losses[0].teacher_layer_name == "backbone/deep"


def test_layers_of_the_student_itself_and_of_several_stages_are_found():
    student = nested("student")
    head, deep = student.get_layer("head"), student.get_layer("backbone").get_layer("deep")
    own = SelfDistillation(FeatureDistillation("mse", head, deep))
    tfkd.Distiller(None, student, own)
    assert own.teacher_layer_name == own.loss.teacher_layer_name == "head"
    assert own.loss.student_layer_name == "backbone/deep"
    teacher = nested("teacher")
    stages = [[m.get_layer("backbone").get_layer("deep"), "head"] for m in (teacher, student)]
    review = ReviewDistillation(*stages)
    tfkd.Distiller(teacher, student, review)
    assert review.get_config()["teacher_layer_names"] == ["backbone/deep", "head"]


@pytest.mark.parametrize(
    ("side", "message"),
    [
        ("student", "one of the teacher teacher. It is the student's, 'backbone'"),
        ("copy", "It is of neither model"),
        ("callable", "one of the teacher, which is no Keras model here"),
    ],
)
def test_a_layer_of_another_model_is_refused(side, message):
    teacher, student = nested("teacher"), nested("student")
    layer = (student if side == "student" else nested("copy")).get_layer("backbone")
    if side == "callable":
        teacher = lambda x: {"output": x, "backbone": x}  # noqa: E731
    with pytest.raises(ValueError, match=message):
        tfkd.Distiller(teacher, student, FeatureDistillation("mse", layer, "backbone"))
