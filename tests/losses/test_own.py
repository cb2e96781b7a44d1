"""A student that teaches itself: golden values by float64 NumPy, selection, who gets a gradient."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfkd.losses import (
    EnsembleDistillation,
    FeatureDistillation,
    LogitsDistillation,
    MutualDistillation,
)
from tfkd.losses import SelfDistillation as Self

NAMES = ("shallow", "deep", "output")
LABELS = np.array([0, 1, 2, 3, 0])


def logits(seed=5):
    draw = 2.0 * np.random.default_rng(seed).normal(size=(3, 5, 4))
    return tuple(draw.astype("float32"))


def log_softmax(z):
    z = z - z.max(-1, keepdims=True)
    return z - np.log(np.exp(z).sum(-1, keepdims=True))


def kl(t, s, temperature):
    p, q = (log_softmax(z.astype("float64") / temperature) for z in (t, s))
    return temperature**2 * (np.exp(p) * (p - q)).sum(-1)


def right(z):
    return z.argmax(-1) == LABELS


def test_the_ensemble_teaches_every_member():
    members = logits()
    ensemble = np.mean(members, axis=0)
    expected = sum(kl(ensemble, member, 3.0) for member in members)
    value = EnsembleDistillation(NAMES, temperature=3.0).call(members, members)
    np.testing.assert_allclose(value, expected, rtol=1e-5)


def test_peers_teach_each_other_and_get_no_gradient_for_it():
    members = [tf.constant(member) for member in logits()]
    loss = MutualDistillation(NAMES, temperature=2.0)
    with tf.GradientTape() as tape:
        tape.watch(members)
        value = loss.call([tf.stop_gradient(member) for member in members], members)
    expected = 0.0
    softened = [np.exp(log_softmax(member.numpy().astype("float64") / 2.0)) for member in members]
    for own, gradient in enumerate(tape.gradient(value, members)):
        peers = [peer for peer in range(3) if peer != own]
        expected += sum(kl(members[p].numpy(), members[own].numpy(), 2.0) / 2 for p in peers)
        wanted = 2.0 * (softened[own] - np.mean([softened[p] for p in peers], axis=0))
        np.testing.assert_allclose(gradient, wanted, atol=1e-5)
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    alone = MutualDistillation(["output"]).call(members[:1], members[:1])
    np.testing.assert_array_equal(alone, np.zeros(5))


def test_a_group_teaches_others_than_its_members():
    shallow, deep, output = logits()
    loss = EnsembleDistillation(("deep", "output"), ("shallow",), temperature=2.0)
    expected = kl((deep + output) / 2, shallow, 2.0)
    np.testing.assert_allclose(loss.call((deep, output), (shallow,)), expected, rtol=1e-5)


def test_only_members_that_are_right_teach():
    members = logits()
    loss = EnsembleDistillation(NAMES, temperature=2.0, teach_selectively=True)
    value = loss.call(members, members, labels=LABELS.astype("float32"))
    some_right = 0
    for i in range(len(LABELS)):
        teachers = [z[i] for z in members if z[i].argmax() == LABELS[i]]
        expected = sum(kl(np.mean(teachers, axis=0), z[i], 2.0) for z in members) if teachers else 0
        np.testing.assert_allclose(value[i], expected, rtol=1e-5)
        some_right += bool(teachers)
    assert 0 < some_right < len(LABELS)  # both cases occur


def test_only_where_the_ensemble_is_right_is_anything_learnt():
    members = logits()
    ensemble = np.mean(members, axis=0)
    loss = EnsembleDistillation(NAMES, temperature=2.0, learn_selectively=True)
    value = loss.call(members, members, labels=LABELS)
    expected = right(ensemble) * sum(kl(ensemble, member, 2.0) for member in members)
    np.testing.assert_allclose(value, expected, rtol=1e-5, atol=1e-6)
    assert 0 < right(ensemble).sum() < len(LABELS)


@pytest.mark.parametrize("labels", [LABELS[:, None], np.eye(4)[LABELS]], ids=["column", "one-hot"])
def test_labels_in_every_form(labels):
    members, options = logits(), {"teach_selectively": True, "learn_selectively": True}
    loss = EnsembleDistillation(NAMES, **options)
    by_class = loss.call(members, members, labels=tf.constant(LABELS))
    np.testing.assert_array_equal(loss.call(members, members, labels=tf.constant(labels)), by_class)


def test_a_batch_that_none_has_right_teaches_nothing():
    members = [tf.Variable(z) for z in logits()]
    named = np.argmax(logits(), axis=-1)  # three members name at most three of four classes
    wrong = np.array([min(set(range(4)) - set(example)) for example in named.T])
    loss = EnsembleDistillation(NAMES, teach_selectively=True, learn_selectively=True)
    with tf.GradientTape() as tape:
        value = loss(logits(), tuple(members), labels=wrong)
    assert value == 0.0
    for gradient in tape.gradient(value, members):
        np.testing.assert_array_equal(gradient, np.zeros((5, 4)))


def test_restored_losses_give_the_same_values():
    members = logits()
    for loss in (
        EnsembleDistillation(NAMES, NAMES[:2], 2.0, True, False, name="group"),
        Self(LogitsDistillation(2.0, teacher_layer_name="deep", student_layer_name="shallow")),
    ):
        restored = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(loss))
        assert restored.get_config() == loss.get_config()
        assert restored.teacher_layer_name == loss.teacher_layer_name
        labelled = "labels" in loss.needs
        arguments = (members, members[:2]) if labelled else members[:2]
        needs = {"labels": LABELS} if labelled else {}
        np.testing.assert_array_equal(
            restored.call(*arguments, **needs), loss.call(*arguments, **needs)
        )


def test_self_distillation_is_the_loss_itself():
    shallow, deep, _ = logits()
    loss = LogitsDistillation(2.0, teacher_layer_name="deep", student_layer_name="shallow")
    np.testing.assert_allclose(Self(loss).call(deep, shallow), kl(deep, shallow, 2.0), rtol=1e-5)
    hint = Self(FeatureDistillation("mse", "deep", "shallow"))
    assert (hint.name, hint.adapts, hint.taught_by) == (
        "self_feature_distillation",
        True,
        "student",
    )


@pytest.mark.parametrize("group", ["output", [], ["output", "output"]])
def test_a_group_is_names_each_once(group):
    with pytest.raises(ValueError, match="names of the student's outputs, each once"):
        EnsembleDistillation(group)


def test_nothing_teaches_itself():
    with pytest.raises(ValueError, match="'deep' on both sides"):
        Self(LogitsDistillation(teacher_layer_name="deep", student_layer_name="deep"))
    with pytest.raises(ValueError, match="on both sides"):
        Self(LogitsDistillation())
    with pytest.raises(ValueError, match="takes a distillation loss"):
        Self("kl_divergence")


def test_labels_must_be_there():
    with pytest.raises(ValueError, match="reads the labels, but the data has none"):
        EnsembleDistillation(NAMES, teach_selectively=True)(logits(), logits())


def test_in_keras_distiller_they_are_refused():
    members = dict(zip(NAMES, logits(), strict=True))
    with pytest.raises(ValueError, match="Use it in tfkd.Distiller"):
        EnsembleDistillation(NAMES).compute_loss(members, members)
