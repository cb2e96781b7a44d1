"""Heads and several outputs: C7 and C10; C8 is in tests/losses/test_logits.py."""

import keras
import numpy as np
import pytest
from keras import layers
from small_networks import (
    CLASSES,
    cross_entropy,
    images,
    network,
)

import tfkd
from tfkd.losses import LogitsDistillation

# C7: heads.


def test_one_logit_heads_are_distilled():
    def binary(units, name):
        return keras.Sequential([layers.Input((4,)), layers.Dense(1)], name=name)

    made = tfkd.Distiller(binary(1, "a"), binary(1, "b"), LogitsDistillation(1.0))
    made.compile("sgd", keras.losses.BinaryCrossentropy(from_logits=True))
    x = np.random.default_rng(0).normal(size=(8, 4))
    logs = made.evaluate(x, np.ones((8, 1)), verbose=0, return_dict=True)
    t, s = (
        model.predict(x, verbose=0)[:, 0].astype("float64")
        for model in (made.teacher, made.student)
    )
    p, q = 1 / (1 + np.exp(-t)), 1 / (1 + np.exp(-s))
    expected = np.mean(p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q)))
    assert logs["logits_distillation"] == pytest.approx(expected, rel=1e-5)
    assert expected > 0.01


def test_softmax_heads_are_not_softened_twice():
    """A student and a teacher that end in softmax give what their logits would."""
    logs = []
    for activation in (None, "softmax"):
        keras.utils.set_random_seed(3)
        models = []
        for units in (7, 5):
            image = keras.Input((4,))
            x = layers.Dense(units, activation="relu")(image)
            models.append(keras.Model(image, layers.Dense(CLASSES, activation=activation)(x)))
        made = tfkd.Distiller(*models, LogitsDistillation(3.0))
        made.compile("sgd", keras.losses.SparseCategoricalCrossentropy(activation is None))
        x = np.random.default_rng(0).normal(size=(8, 4))
        made.fit(x, np.arange(8) % CLASSES, verbose=0)
        logs.append(made.evaluate(x, np.arange(8) % CLASSES, verbose=0, return_dict=True))
    assert logs[0]["logits_distillation"] > 1e-3
    for name, value in logs[0].items():
        assert logs[1][name] == pytest.approx(value, rel=1e-4)


def test_a_crossentropy_by_name_is_one_of_logits():
    made = tfkd.Distiller(network(6, "teacher"), network(3, "student"), LogitsDistillation())
    x, y = images()
    with pytest.warns(UserWarning, match="from_logits=True"):
        made.compile("sgd", "sparse_categorical_crossentropy")
    by_name = made.evaluate(x, y, verbose=0, return_dict=True)["student_loss"]
    logits = made.student.predict(x, verbose=0).astype("float64")
    log_softmax = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    assert by_name == pytest.approx(-np.mean(log_softmax[np.arange(16), y]), rel=1e-5)


# C10: several outputs.


def two_heads(width, form, name):
    image = keras.Input((4,))
    x = layers.Dense(width, activation="relu")(image)
    heads = {"shape": layers.Dense(3)(x), "colour": layers.Dense(2)(x)}
    outputs = heads if form == "dict" else list(heads.values())
    return keras.Model(image, outputs, name=name)


@pytest.mark.parametrize("form", ["dict", "list"])
def test_several_outputs(form):
    formulas = {"shape": "kl_divergence", "colour": None}
    labels = {"shape": np.arange(8) % 3, "colour": np.arange(8) % 2}
    ce = {"shape": cross_entropy(), "colour": cross_entropy()}
    if form == "list":
        formulas, labels, ce = (list(d.values()) for d in (formulas, labels, ce))
    teacher, student = two_heads(6, form, "teacher"), two_heads(3, form, "student")
    made = tfkd.Distiller(teacher, student, LogitsDistillation(2.0, loss=formulas))
    made.compile("sgd", ce)
    x = np.random.default_rng(0).normal(size=(8, 4))
    history = made.fit(x, labels, verbose=0).history
    assert history["student_loss"][0] > 0
    key = "shape" if form == "dict" else 0
    single = LogitsDistillation(2.0)
    t, s = (model.predict(x, verbose=0)[key] for model in (teacher, student))
    logs = made.evaluate(x, labels, verbose=0, return_dict=True)
    assert logs["distillation_loss"] == pytest.approx(float(single(t, s)), rel=1e-5)


def test_several_outputs_need_a_choice():
    with pytest.raises(ValueError, match=r"\['shape', 'colour'\]"):
        tfkd.Distiller(
            two_heads(6, "dict", "teacher"), two_heads(3, "dict", "student"), LogitsDistillation()
        )


def test_what_a_source_says_of_its_outputs_is_saved_and_not_said_twice(tmp_path):
    """A product of two softmax layers is no head that could be found out."""
    image = keras.Input((4,))
    sides = [layers.Dense(3, "softmax")(image) for _ in range(2)]
    unclear = keras.Model(image, layers.Multiply()(sides))
    student = keras.Model(image, layers.Dense(3)(image))
    teacher = tfkd.teachers.LiveTeacher(unclear, head="probabilities")
    loss = tfkd.losses.LogitsDistillation(2.0)
    built = tfkd.Distiller(teacher, student, loss)
    built.save(tmp_path / "distiller.keras")
    copy = keras.models.load_model(tmp_path / "distiller.keras")
    assert copy.source.heads == built.source.heads
    assert copy.source.heads["output"].kind == "logits"
    x = np.random.default_rng(0).normal(size=(5, 4)).astype("float32")
    np.testing.assert_array_equal(copy.knowledge(x)["output"], built.knowledge(x)["output"])
    with pytest.raises(ValueError, match="teacher_head is 'logits', but the teacher is a LiveT"):
        tfkd.Distiller(teacher, student, loss, teacher_head="logits")
