"""Students with several outputs: labels once for all, exits that teach each other, no teacher."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import tfkd
from tfkd.losses import (
    CosineDistillation,
    EnsembleDistillation,
    FeatureDistillation,
    LogitsDistillation,
    SelfDistillation,
)

EXITS = ("exit", "output")


def two_exits():
    image = keras.Input((6,), name="image")
    shallow = layers.Dense(5, activation="relu", name="shallow")(image)
    deep = layers.Dense(7, activation="relu", name="deep")(shallow)
    outputs = {
        "exit": layers.Dense(3, name="exit")(shallow),
        "output": layers.Dense(3, name="logits")(deep),
    }
    return keras.Model(image, outputs, name="student")


def teacher():
    image = keras.Input((6,), name="image")
    return keras.Model(image, layers.Dense(3, name="logits")(image), name="teacher")


def examples():
    random = np.random.default_rng(2)
    return random.normal(size=(8, 6)).astype("float32"), random.integers(0, 3, 8)


def compiled(distiller, run_eagerly=True):
    """Eagerly: values alone are asked for, and a step takes less time than its trace."""
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    metrics = {name: ["accuracy"] for name in EXITS}
    distiller.compile("sgd", loss, metrics=metrics, run_eagerly=run_eagerly)
    return distiller


def answers(model, x):
    return keras.tree.map_structure(np.asarray, model(x))


def log_softmax(z):
    z = np.asarray(z, "float64")
    z = z - z.max(-1, keepdims=True)
    return z - np.log(np.exp(z).sum(-1, keepdims=True))


def cross_entropy(labels, z):
    return -log_softmax(z)[np.arange(len(labels)), labels].mean()


def kl(t, s, temperature):
    p, q = log_softmax(np.asarray(t) / temperature), log_softmax(np.asarray(s) / temperature)
    return temperature**2 * (np.exp(p) * (p - q)).sum(-1).mean()


def own_logits():
    return SelfDistillation(
        LogitsDistillation(2.0, teacher_layer_name="output", student_layer_name="exit")
    )


def test_labels_given_once_are_those_of_every_output():
    x, y = examples()
    student = two_exits()
    distiller = compiled(tfkd.Distiller(teacher(), student, LogitsDistillation(2.0)))
    once = distiller.evaluate(x, y, verbose=0, return_dict=True)
    each = distiller.evaluate(x, dict.fromkeys(EXITS, y), verbose=0, return_dict=True)
    assert once == each
    predicted = answers(student, x)
    expected = sum(cross_entropy(y, predicted[name]) for name in EXITS)
    np.testing.assert_allclose(once["student_loss"], expected, rtol=1e-5)
    assert {"exit_accuracy", "output_accuracy"} <= set(once)


def test_the_first_fit_traces_the_step_once(traces):
    exits = SelfDistillation(
        LogitsDistillation(teacher_layer_name="output", student_layer_name="exit")
    )
    made = compiled(tfkd.Distiller(None, two_exits(), [exits]), run_eagerly=False)
    history = made.fit(*examples(), batch_size=4, epochs=2, verbose=0).history
    assert len(traces) == 1
    assert {"exit_loss", "output_accuracy"} <= history.keys()


def test_every_exit_may_have_its_teacher():
    """Deep supervision by the teacher, and by the deepest exit: the total by hand."""
    x, y = examples()
    student, wise = two_exits(), teacher()
    terms = [*(LogitsDistillation(3.0, student_layer_name=name) for name in EXITS), own_logits()]
    distiller = compiled(tfkd.Distiller(wise, student, terms, [1.0, 0.5, 0.25], 0.4))
    figures = distiller.evaluate(x, y, verbose=0, return_dict=True)
    t, s = answers(wise, x), answers(student, x)
    supervised = sum(cross_entropy(y, s[name]) for name in EXITS)
    taught = kl(t, s["exit"], 3.0) + 0.5 * kl(t, s["output"], 3.0)
    taught += 0.25 * kl(s["output"], s["exit"], 2.0)
    np.testing.assert_allclose(figures["loss"], 0.4 * supervised + 0.6 * taught, rtol=1e-5)


def test_a_student_may_do_without_a_teacher():
    x, y = examples()
    student = two_exits()
    hint = SelfDistillation(FeatureDistillation("mse", "deep", "shallow"))
    group = EnsembleDistillation(EXITS, temperature=2.0, learn_selectively=True)
    distiller = compiled(tfkd.Distiller(None, student, [own_logits(), hint, group]))
    # One adapter brings "shallow" to the width of "deep"; it is no part of the student.
    assert len(distiller.adapters.trainable_variables) == 2
    before = [w.numpy() for w in distiller.trainable_weights]
    history = distiller.fit(x, y, batch_size=8, epochs=1, verbose=0).history
    assert {"self_logits_distillation", "self_feature_distillation"} <= set(history)
    moved = [
        not np.array_equal(old, new.numpy())
        for old, new in zip(before, distiller.trainable_weights, strict=True)
    ]
    assert all(moved)


def test_the_step_of_a_selective_group_is_the_gradient_of_the_formula():
    """One SGD step of size 1 on the selective ensemble alone, against a tape over the formula."""
    x, y = examples()
    student = two_exits()
    group = EnsembleDistillation(EXITS, temperature=2.0, learn_selectively=True)
    distiller = tfkd.Distiller(None, student, group, student_loss_weight=0.0)
    distiller.compile(keras.optimizers.SGD(1.0))
    before = [w.numpy() for w in student.trainable_weights]
    with tf.GradientTape() as tape:
        outputs = student(x)
        ensemble = tf.stop_gradient((outputs["exit"] + outputs["output"]) / 2.0)
        p = tf.nn.softmax(ensemble / 2.0)
        right = tf.cast(tf.argmax(ensemble, -1) == y, "float32")
        values = 0.0
        for name in EXITS:
            q = tf.nn.log_softmax(outputs[name] / 2.0)
            values += 4.0 * tf.reduce_sum(p * (tf.math.log(p) - q), -1)
        total = tf.reduce_mean(right * values)
    gradients = tape.gradient(total, student.trainable_weights)
    distiller.fit(x, y, batch_size=8, verbose=0)
    for old, gradient, new in zip(before, gradients, student.trainable_weights, strict=True):
        np.testing.assert_allclose(new.numpy(), old - gradient, atol=1e-6)


def test_a_selective_group_needs_labels():
    x, _ = examples()
    group = EnsembleDistillation(EXITS, learn_selectively=True)
    distiller = tfkd.Distiller(None, two_exits(), group, student_loss_weight=0.0)
    distiller.compile("sgd")
    with pytest.raises(ValueError, match="reads the labels, but the data has none"):
        distiller.fit(x, batch_size=8, verbose=0)


def test_it_is_saved_and_continues(tmp_path):
    x, y = examples()
    hint = SelfDistillation(FeatureDistillation("mse", "deep", "shallow"))
    group = EnsembleDistillation(EXITS, teach_selectively=True)
    distiller = compiled(tfkd.Distiller(None, two_exits(), [own_logits(), hint, group]))
    distiller.fit(x, y, batch_size=8, verbose=0)
    distiller.save(tmp_path / "distiller.keras")
    loaded = keras.saving.load_model(tmp_path / "distiller.keras")
    for model in (distiller, loaded):
        model.fit(x, y, batch_size=8, verbose=0)
    for kept, restored in zip(distiller.weights, loaded.weights, strict=True):
        np.testing.assert_allclose(restored.numpy(), kept.numpy(), atol=1e-6)


def test_agreement_is_reported_and_teaches_nothing():
    x, y = examples()
    student, wise = two_exits(), teacher()
    distiller = tfkd.Distiller(wise, student, LogitsDistillation(2.0))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    distiller.compile(
        "sgd", loss, teacher_metrics=[tfkd.metrics.TeacherAgreement()], run_eagerly=True
    )
    figures = distiller.evaluate(x, y, verbose=0, return_dict=True)
    same = answers(wise, x).argmax(-1) == answers(student, x)["output"].argmax(-1)
    np.testing.assert_allclose(figures["teacher_agreement"], same.mean(), rtol=1e-6)
    alone = compiled(tfkd.Distiller(wise, student, LogitsDistillation(2.0)))
    assert alone.evaluate(x, y, verbose=0, return_dict=True)["loss"] == figures["loss"]


def test_cosine_beside_kl_is_the_sum_of_both():
    x, y = examples()
    wise, student = teacher(), teacher()
    terms = [LogitsDistillation(4.0), CosineDistillation()]
    distiller = tfkd.Distiller(wise, student, terms, [0.5, 0.5], 0.0)
    distiller.compile("sgd", run_eagerly=True)
    t, s = answers(wise, x), answers(student, x)
    pearson = [np.corrcoef(t[i], s[i])[0, 1] for i in range(len(x))]
    expected = 0.5 * kl(t, s, 4.0) + 0.5 * (1.0 - np.mean(pearson))
    loss = distiller.evaluate(x, y, verbose=0, return_dict=True)["loss"]
    np.testing.assert_allclose(loss, expected, rtol=1e-5)
