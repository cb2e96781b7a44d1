"""Losses that learn, sources of every kind, inputs of their own: worked extensions."""

import json

import extensions
import forked
import keras
import numpy as np
import pytest
import tensorflow as tf
from extensions import SYSTEMS, compiled

import tfkd


def weights(model):
    return [w.numpy() for w in model.weights]


def apart(first, second):
    return max(np.abs(a - b).max() for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("name", SYSTEMS)
def test_it_trains_is_saved_and_goes_on(name, tmp_path):
    made = compiled(SYSTEMS[name]())
    data = extensions.batches(name)
    before, parts = weights(made.student), weights(made.adapters)
    made.student_loss_weight = 0.0
    first = made.fit(data, epochs=4, verbose=0).history
    if name != "learning":  # this one walks on
        assert first["distillation_loss"][-1] < first["distillation_loss"][0]
    made.student_loss_weight = 0.5
    assert apart(before, weights(made.student)) > 0
    if parts:
        assert apart(parts, weights(made.adapters)) > 0
    made.save(tmp_path / "distiller.keras")
    made.student.save(tmp_path / "student.keras")
    loaded = keras.models.load_model(tmp_path / "distiller.keras")
    for model in (made, loaded):
        model.fit(data, epochs=2, verbose=0)
    assert apart(weights(made.student), weights(loaded.student)) < 1e-6
    assert apart(weights(made.adapters), weights(loaded.adapters)) < 1e-6 if parts else True
    if name == "learning":
        assert apart(weights(made.source.model), weights(loaded.source.model)) < 1e-6
    # Nothing of losses or sources is in a student, or trained by the student's file.
    student = keras.models.load_model(tmp_path / "student.keras")
    assert student.count_params() == made.student.count_params()


@pytest.mark.parametrize("name", extensions.STORABLE)
def test_live_equals_cached(name, tmp_path):
    trained = []
    for cached in (False, True):
        keras.utils.set_random_seed(3)
        made = compiled(SYSTEMS[name](), run_eagerly=True)
        data = extensions.batches(name)
        if cached:
            examples = extensions.examples(name)
            tfkd.TeacherCache.build(
                tmp_path / "cache", made, examples, batch_size=8, dtype="float32", verbose=0
            )
            data = tfkd.TeacherCache(tmp_path / "cache").dataset(examples, 8, shuffle=False)
        made.fit(data, epochs=2, shuffle=False, verbose=0)
        trained.append(weights(made.student))
    assert apart(*trained) < 1e-5


def test_a_source_that_does_not_learn_is_a_fixed_teacher_to_the_last_bit():
    trained = []
    for make in (lambda: extensions.learning(0.0), fixed):
        keras.utils.set_random_seed(3)
        made = compiled(make(), run_eagerly=True)
        logs = made.fit(extensions.batches("learning"), epochs=3, verbose=0).history
        trained.append((weights(made.student), logs["distillation_loss"]))
    assert apart(trained[0][0], trained[1][0]) == 0
    assert trained[0][1] == trained[1][1]
    learnt = compiled(extensions.learning(0.1), run_eagerly=True)
    before = weights(learnt.source.model)
    logs = learnt.fit(extensions.batches("learning"), epochs=3, verbose=0).history
    assert apart(before, weights(learnt.source.model)) > 0
    assert logs["teacher_loss"][-1] < logs["teacher_loss"][0]
    own = {id(v) for v in learnt.trainable_variables}
    assert not own & {id(v) for v in learnt.source.model.variables}


def fixed():
    source = extensions.LearningTeacher(extensions.network(4, "teacher"), 0.0)
    return tfkd.Distiller(
        source.model, extensions.network(3, "student"), tfkd.losses.LogitsDistillation(2.0)
    )


def test_teachers_are_weighed_by_the_labels():
    source = extensions.confident().source
    x, y = extensions.arrays()
    found = tf.nn.softmax(source(tf.constant(x), tf.constant(y))["output"]).numpy()
    answers = np.stack([t.predict(x, verbose=0) for t in source.teachers]).astype("float64")
    answers = np.exp(answers) / np.exp(answers).sum(-1, keepdims=True)
    right = np.stack([a[np.arange(len(y)), y] for a in answers])
    wanted = np.einsum("kb,kbc->bc", right / right.sum(0), answers)
    np.testing.assert_allclose(found, wanted, rtol=1e-5)
    with pytest.raises(ValueError, match="ConfidentTeachers needs the labels"):
        source(tf.constant(x))


def test_a_batch_normalization_in_a_loss_trains_only_while_the_student_does():
    made = compiled(extensions.chained())
    norms = made.distillation_losses[0].norms
    before = [norm.moving_mean.numpy() for norm in norms]
    made.evaluate(extensions.batches("chained"), verbose=0)
    assert apart(before, [norm.moving_mean.numpy() for norm in norms]) == 0
    made.fit(extensions.batches("chained"), verbose=0)
    assert apart(before, [norm.moving_mean.numpy() for norm in norms]) > 0


def test_what_a_loss_remembers_is_of_the_examples_it_has_seen():
    made = compiled(extensions.remembered())
    loss = made.distillation_losses[0]
    x, y = extensions.arrays()
    before = loss.memory.numpy()
    seen = np.array([3, 7])
    data = tf.data.Dataset.from_tensors((x[seen], y[seen], np.ones(2, "float32"), {"index": seen}))
    made.fit(data, verbose=0)
    changed = np.abs(loss.memory.numpy() - before).max(axis=1) > 0
    np.testing.assert_array_equal(np.flatnonzero(changed), seen)
    with pytest.raises(ValueError, match="reads the examples' numbers, but the data has none"):
        made.fit(x, y, verbose=0)


def test_two_replicas_train_each_of_them_as_one_device_does(tmp_path):
    found = json.loads(forked.output_of(_REPLICAS, tmp_path).splitlines()[-1])
    assert sorted(found) == sorted(extensions.ON_REPLICAS)
    assert max(found.values()) < 1e-5, found


_REPLICAS = """
import contextlib, json
import numpy as np, tensorflow as tf, keras
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
import extensions

def train(name, strategy):
    keras.utils.set_random_seed(0)
    with strategy.scope() if strategy else contextlib.nullcontext():
        made = extensions.compiled(extensions.ON_REPLICAS[name](), run_eagerly=not strategy)
    made.fit(extensions.batches(name), epochs=2, verbose=0)
    learns = made.source.variables  # of a teacher of tfkd's own that learns
    return [w.numpy() for w in (*made.student.weights, *made.adapters.trainable_variables, *learns)]

strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
apart = {}
for name in extensions.ON_REPLICAS:
    one, two = train(name, None), train(name, strategy)
    apart[name] = max(float(np.abs(a - b).max()) for a, b in zip(one, two, strict=True))
print(json.dumps(apart))
"""
