"""Losses wired to named tensors: resolution, shapes, adapters, weights, messages."""

import numpy as np
import pytest
import tensorflow as tf

from tfkd.adapters import Adapters
from tfkd.losses import (
    EnsembleDistillation,
    FeatureDistillation,
    LogitsDistillation,
    SelfDistillation,
)
from tfkd.terms import Terms


def pair(*shape):
    draw = np.random.default_rng(8).normal(size=(2, *shape)).astype("float32")
    return tuple(map(tf.constant, draw))


def connected(losses, knowledge_shapes, student_shapes=None):
    terms = Terms(losses, Adapters())
    terms.connect(knowledge_shapes, student_shapes or knowledge_shapes)
    return terms


def test_a_loss_reads_the_only_outputs():
    teacher, student = pair(4, 3)
    loss = LogitsDistillation()
    assert Terms([loss], Adapters()).names("teacher") == []
    terms = connected([loss], {"output": (None, 3)})
    (value,) = terms({"output": teacher}, {"output": student})
    np.testing.assert_allclose(value, loss(teacher, student), rtol=1e-6)


def test_each_loss_reads_its_two_names():
    (teacher, student), (deep, shallow) = pair(4, 3), pair(4, 5)
    hint = FeatureDistillation("mae", "deep", "shallow")
    terms = Terms([LogitsDistillation(), hint], Adapters())
    assert (terms.names("teacher"), terms.names("student")) == (["deep"], ["shallow"])
    assert not terms.connected
    terms.connect(
        {"output": (None, 3), "deep": (None, 5)}, {"output": (None, 3), "shallow": (None, 5)}
    )
    assert terms.connected
    assert terms.knowledge_shapes == {"output": (None, 3), "deep": (None, 5)}
    values = terms({"output": teacher, "deep": deep}, {"output": student, "shallow": shallow})
    wanted = np.abs(deep.numpy() - shallow.numpy()).mean()
    np.testing.assert_allclose(values[1], wanted, rtol=1e-6)


def test_a_structured_loss_is_one_value():
    first, second = pair(4, 3), pair(4, 5)
    loss = LogitsDistillation(loss=["mse", "mae"])
    terms = connected(
        [loss, LogitsDistillation(loss={"b": "mse"})], {"a": (None, 3), "b": (None, 5)}
    )
    values = terms({"a": first[0], "b": second[0]}, {"a": first[1], "b": second[1]})
    wanted = LogitsDistillation(loss="mse")(*first) + LogitsDistillation(loss="mae")(*second)
    np.testing.assert_allclose(values[0], wanted, rtol=1e-6)
    np.testing.assert_allclose(values[1], LogitsDistillation(loss="mse")(*second), rtol=1e-6)


def test_the_adapter_stands_between():
    teacher, _ = pair(4, 5)
    _, student = pair(4, 2)
    adapters = Adapters()
    terms = Terms([FeatureDistillation("mse", "deep", "shallow")], adapters)
    terms.connect({"deep": (None, 5)}, {"shallow": (None, 2)})
    kernel, bias = adapters.trainable_variables
    with tf.GradientTape() as tape:
        (value,) = terms({"deep": teacher}, {"shallow": student})
    adapted = student.numpy() @ kernel.numpy() + bias.numpy()
    np.testing.assert_allclose(value, ((adapted - teacher.numpy()) ** 2).mean(), rtol=1e-5)
    wanted = 2 * (adapted - teacher.numpy()).mean(axis=0) / 5
    np.testing.assert_allclose(tape.gradient(value, bias.value), wanted, rtol=1e-4)


def test_example_weights_reach_every_loss():
    teacher, student = pair(4, 3)
    weight = tf.constant([0.0, 1.0, 2.0, 0.5])
    terms = connected(
        [LogitsDistillation(loss="mse"), FeatureDistillation()], {"output": (None, 3)}
    )
    each = ((teacher.numpy() - student.numpy()) ** 2).mean(-1)
    values = terms({"output": teacher}, {"output": student}, weight)
    np.testing.assert_allclose(values, 2 * [(each * weight.numpy()).mean()], rtol=1e-5)


def test_weights_by_output_go_to_their_outputs():
    first, second = pair(4, 3), pair(4, 5)
    weight = tf.constant([0.0, 1.0, 2.0, 0.5])
    terms = connected(
        [FeatureDistillation(loss={"a": "mse", "b": "mse"})], {"a": (None, 3), "b": (None, 5)}
    )
    knowledge, tensors = {"a": first[0], "b": second[0]}, {"a": first[1], "b": second[1]}
    (value,) = terms(knowledge, tensors, {"a": weight})
    wanted = FeatureDistillation()(*first, weight) + FeatureDistillation()(*second)
    np.testing.assert_allclose(value, wanted, rtol=1e-6)
    (listed,) = terms(knowledge, tensors, [weight, None])  # as fit gives them for list outputs
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
    terms = connected([LogitsDistillation()], {"output": (None, 3)})
    with pytest.raises(ValueError, match='has no "output", which logits_distillation reads'):
        terms({"logits": teacher}, {"output": student})


@pytest.mark.parametrize("graph", [False, True])
def test_a_teacher_that_is_not_finite_is_named_and_a_student_is_not(graph):
    teacher, student = pair(4, 3)
    terms = connected([LogitsDistillation()], {"output": (None, 3)})
    run = lambda t, s: terms({"output": t}, {"output": s})  # noqa: E731
    run = tf.function(run) if graph else run
    broken = tf.constant([[np.nan, 0, 0]] + [[0, 0, 0]] * 3, tf.float32)
    with pytest.raises(tf.errors.InvalidArgumentError, match="output holds NaN or infinity"):
        run(broken, student)
    assert np.isnan(run(teacher, broken)[0])
    assert np.isfinite(run(teacher, student)[0])


def test_a_loss_taught_by_the_student_reads_its_tensors():
    (deep, shallow), (teacher, _) = pair(4, 3), pair(4, 3)
    own = SelfDistillation(
        LogitsDistillation(2.0, teacher_layer_name="output", student_layer_name="exit")
    )
    terms = Terms([own], Adapters())
    assert (terms.names("teacher"), terms.names("student")) == ([], ["exit", "output"])
    assert not terms.reads_teacher
    terms.connect({}, {"output": (None, 3), "exit": (None, 3)})
    student = {"output": deep, "exit": shallow}
    (value,) = terms({"output": teacher}, student)
    np.testing.assert_allclose(value, own.loss(deep, shallow), rtol=1e-6)


def test_what_teaches_within_the_student_gets_no_gradient():
    deep, shallow = pair(4, 3)
    own = SelfDistillation(
        LogitsDistillation(2.0, teacher_layer_name="output", student_layer_name="exit")
    )
    terms = Terms([own], Adapters())
    terms.connect({}, {"output": (None, 3), "exit": (None, 3)})
    with tf.GradientTape() as tape:
        tape.watch([deep, shallow])
        (value,) = terms({}, {"output": deep, "exit": shallow})
    assert tape.gradient(value, deep) is None


def test_several_names_are_read_as_a_tuple_and_labels_are_handed_over():
    first, second = pair(4, 3)
    loss = EnsembleDistillation(["first", "second"], teach_selectively=True)
    terms = Terms([loss], Adapters())
    assert terms.names("student") == ["first", "second"]
    terms.connect({}, {"first": (None, 3), "second": (None, 3)})
    labels = tf.constant([0, 1, 2, 0])
    members = (first, second)
    expected = loss(members, members, labels=labels)
    for given in (labels, {"first": labels, "second": labels}, [labels, labels]):
        (value,) = terms({}, {"first": first, "second": second}, labels=given)
        np.testing.assert_allclose(value, expected, rtol=1e-6)


def test_members_of_different_shapes_are_refused():
    terms = Terms([EnsembleDistillation(["first", "second"])], Adapters())
    with pytest.raises(ValueError, match=r"\(None, 3\).*\(None, 4\)"):
        terms.connect({}, {"first": (None, 3), "second": (None, 4)})
