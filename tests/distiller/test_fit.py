"""Whole runs: what may change meanwhile (C16), metrics (C17), stored knowledge, any data."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers
from small_networks import (
    CLASSES,
    assert_equal_weights,
    counted,
    cross_entropy,
    distiller,
    hint,
    images,
    network,
    weights_of,
)

import tfkd
from tfkd.losses import FeatureDistillation, LogitsDistillation

# C16: numbers may change at any time.


@pytest.mark.parametrize("given", ["arrays", "dataset", "stored knowledge"])
def test_the_first_fit_traces_its_step_once(given, traces):
    # Keras makes metrics and optimizer slots within the step, and TensorFlow traces it again.
    x, y = images(16)
    made = distiller()
    if given == "stored knowledge":
        knowledge = {name: value.numpy() for name, value in made.knowledge(x).items()}
        made = tfkd.Distiller(None, network(3, "student"), [LogitsDistillation(2.0), hint()])
        made.compile("adam", cross_entropy(), metrics=["accuracy"])
        weights = np.ones(16, "float32")
        dataset = tf.data.Dataset.from_tensor_slices((x, y, weights, knowledge)).batch(8)
        history = made.fit(dataset, epochs=2, verbose=0).history
    elif given == "dataset":
        dataset = tf.data.Dataset.from_tensor_slices((x, y)).batch(8)
        history = made.fit(dataset, epochs=2, validation_data=dataset, verbose=0).history
    else:
        history = made.fit(x, y, batch_size=8, epochs=2, verbose=0).history
    assert len(traces) == 1
    assert len(history["accuracy"]) == 2


def test_weights_and_temperatures_change_without_a_retrace():
    student = counted(3, "student")
    made = distiller(network(6, "teacher"), student)
    data = images(8)
    made.fit(*data, batch_size=8, verbose=0)
    made.evaluate(*data, verbose=0)
    layer = student.get_layer("counted")
    traced = layer.traces
    before = made.evaluate(*data, verbose=0, return_dict=True)
    made.student_loss_weight = 0.125
    made.distillation_loss_weights[1] = 3.0
    made.distillation_losses[0].temperature = 7.0
    after = made.evaluate(*data, verbose=0, return_dict=True)
    made.fit(*data, batch_size=8, verbose=0)
    assert layer.traces == traced
    assert after["logits_distillation"] != before["logits_distillation"]
    distilled = after["logits_distillation"] + 3.0 * after["feature_distillation"]
    assert after["distillation_loss"] == pytest.approx(distilled, rel=1e-5)
    total = 0.125 * after["student_loss"] + 0.875 * distilled
    assert after["loss"] == pytest.approx(total, rel=1e-5)
    with pytest.raises(ValueError, match="between 0.0 and 1.0"):
        made.student_loss_weight = 2


def test_compile_takes_both_orders():
    made = distiller()
    x, y = images()
    made.compile("sgd", cross_entropy(), ["accuracy"])
    assert "accuracy" in made.evaluate(x, y, verbose=0, return_dict=True)
    made.compile("sgd", cross_entropy(), None, ["accuracy"])
    assert "accuracy" in made.evaluate(x, y, verbose=0, return_dict=True)


# C17: metrics, and the teacher.


def test_metrics_add_up_in_training_and_evaluation():
    twice = [LogitsDistillation(2.0), LogitsDistillation(4.0), hint()]
    made = distiller(losses=twice, distillation_loss_weights=[1.0, 2.0, 0.5])
    x, y = images(15)
    history = made.fit(x, y, batch_size=4, validation_data=(x, y), verbose=0).history
    for prefix in ("", "val_"):
        logs = {name: values[0] for name, values in history.items()}
        total = 0.5 * logs[f"{prefix}student_loss"] + 0.5 * logs[f"{prefix}distillation_loss"]
        parts = (
            logs[f"{prefix}logits_distillation"]
            + 2 * logs[f"{prefix}logits_distillation_2"]
            + 0.5 * logs[f"{prefix}feature_distillation"]
        )
        assert logs[f"{prefix}distillation_loss"] == pytest.approx(parts, rel=1e-5)
        assert logs[f"{prefix}loss"] == pytest.approx(total, rel=1e-5)
        assert logs[f"{prefix}total_loss"] == logs[f"{prefix}loss"]


def test_the_teacher_is_untouched():
    teacher = network(6, "teacher", dropout=0.5)
    made = distiller(teacher)
    before = weights_of(teacher)
    x, y = images()
    expected = teacher.predict(x, verbose=0)
    made.fit(x, y, validation_data=(x, y), epochs=2, verbose=0)
    assert_equal_weights(before, weights_of(teacher))
    np.testing.assert_array_equal(teacher.predict(x, verbose=0), expected)
    assert not teacher.trainable


def test_a_changed_teacher_is_not_mistaken_for_the_old_one():
    """The compiled steps hold the teacher's weights; they notice new ones."""
    teacher = network(6, "teacher")
    made = distiller(teacher)
    x, y = images()
    before = made.evaluate(x, y, verbose=0, return_dict=True)
    teacher.get_layer("logits").kernel.assign(5 * teacher.get_layer("logits").kernel)
    after = made.evaluate(x, y, verbose=0, return_dict=True)
    t, s = (model(x) for model in (teacher, made.student))
    expected = float(LogitsDistillation(2.0)(t, s))
    assert after["logits_distillation"] == pytest.approx(expected, rel=1e-4)
    assert before["logits_distillation"] != pytest.approx(expected, rel=1e-2)


@pytest.mark.parametrize("tapped_first", [True, False])
def test_fused_and_composed_students_train_alike(tapped_first):
    """Also where an earlier Distiller has tapped the very layer that now runs fused."""
    x, y = images(32)
    trained = []
    for fused in (True, False):
        keras.utils.set_random_seed(7)
        teacher, student = network(6, "teacher"), network(3, "student")
        norm = next(
            layer.name for layer in student.layers if isinstance(layer, layers.BatchNormalization)
        )
        losses = [LogitsDistillation(2.0), FeatureDistillation("mse", "stage1_out", norm)]
        if tapped_first:
            distiller(teacher, student, losses, fused=False)
        made = distiller(teacher, student, losses, fused=fused)
        made.fit(x, y, batch_size=8, epochs=3, shuffle=False, verbose=0)
        trained.append(weights_of(student))
    assert_equal_weights(*trained, tolerance=1e-4)


# Beyond Keras: knowledge that is stored with the data.


def stored(teacher, x, y, names=("output", "stage2_out")):
    taps = keras.Model(
        teacher.input,
        {"output": teacher.output, "stage2_out": teacher.get_layer("stage2_out").output},
    )
    knowledge = {name: taps.predict(x, verbose=0)[name] for name in names}
    return tf.data.Dataset.from_tensor_slices((x, y, np.ones(len(y), "float32"), knowledge)).batch(
        8
    )


def test_stored_knowledge_equals_a_live_teacher(tmp_path):
    x, y = images(16)
    teacher = network(6, "teacher")
    data = stored(teacher, x, y)
    plain = tf.data.Dataset.from_tensor_slices((x, y)).batch(8)
    students = []
    for source in (teacher, None):
        keras.utils.set_random_seed(2)
        student = network(3, "student")
        made = tfkd.Distiller(source, student, [LogitsDistillation(2.0), hint()])
        made.compile("sgd", cross_entropy(), metrics=["accuracy"], run_eagerly=True)
        made.evaluate(plain if source else data, verbose=0)
        for v, seed in zip(made.adapters.weights, (0, 1), strict=True):
            v.assign(np.random.default_rng(seed).normal(size=v.shape))
        made.fit(plain if source else data, epochs=2, verbose=0)
        students.append(weights_of(student))
    assert_equal_weights(*students, tolerance=1e-6)
    logs = made.evaluate(x, y, verbose=0, return_dict=True)
    assert set(logs) == {"student_loss", "accuracy"}
    made.save(tmp_path / "distiller.keras")
    loaded = keras.models.load_model(tmp_path / "distiller.keras")
    made.fit(data, verbose=0)
    loaded.fit(data, verbose=0)
    assert_equal_weights(weights_of(made.student), weights_of(loaded.student), tolerance=1e-6)


def test_missing_knowledge_is_named():
    x, y = images(8)
    teacher = network(6, "teacher")
    made = tfkd.Distiller(None, network(3, "student"), [LogitsDistillation(2.0), hint()])
    made.compile("sgd", cross_entropy())
    with pytest.raises(ValueError, match="reads 'stage2_out' of the teacher.*output"):
        made.fit(stored(teacher, x, y, names=("output",)), verbose=0)


# Every way of training that Keras has.


class Sequence(keras.utils.PyDataset):
    def __init__(self, batches):
        super().__init__()
        self.batches = batches

    def __len__(self):
        return len(self.batches)

    def __getitem__(self, index):
        return self.batches[index]


def test_all_ways_to_feed_and_to_run_train_alike():
    x, y = images(16)
    batches = [(x[:8], y[:8]), (x[8:], y[8:])]

    def stream():
        yield from batches

    fed = {"run_eagerly": True}
    whole = {"x": x, "y": y, "batch_size": 8, "shuffle": False, "verbose": 0}
    ways = {
        "arrays": ({}, lambda made: made.fit(**whole)),
        "eagerly": (fed, lambda made: made.fit(**whole)),
        "two steps at once": ({"steps_per_execution": 2}, lambda made: made.fit(**whole)),
        "by hand": ({}, lambda made: [made.train_on_batch(*batch) for batch in batches]),
        # How they are fed is no matter of whether the step is compiled.
        "PyDataset": (fed, lambda made: made.fit(Sequence(batches), shuffle=False, verbose=0)),
        "generator": (fed, lambda made: made.fit(stream(), steps_per_epoch=2, verbose=0)),
        "positional": (fed, lambda made: made.fit(x, y, 8, 1, 0, shuffle=False)),
    }
    trained = {}
    for way, (options, train) in ways.items():
        keras.utils.set_random_seed(1)
        made = distiller()
        made.compile("sgd", cross_entropy(), metrics=["accuracy"], **options)
        train(made)
        trained[way] = weights_of(made.student)
    for weights in trained.values():
        assert_equal_weights(trained["arrays"], weights, tolerance=1e-6)


# Bad data.


def test_labels_out_of_range_stop_before_the_first_step():
    made = distiller()
    x, y = images(8)
    before = [v.numpy() for v in made.trainable_variables]
    y[3] = CLASSES
    with pytest.raises(ValueError, match=f"between 0 and {CLASSES - 1}"):
        made.fit(x, y, verbose=0)
    with pytest.raises(ValueError, match="labels must lie within"):
        made.fit(tf.data.Dataset.from_tensor_slices((x, y)).batch(8), verbose=0)
    assert_equal_weights(before, [v.numpy() for v in made.trainable_variables])


def test_a_teacher_that_is_not_finite_stops_before_the_first_step():
    teacher = network(6, "teacher")
    made = distiller(teacher)
    teacher.get_layer("logits").bias.assign([np.nan] * CLASSES)
    before = [v.numpy() for v in made.trainable_variables]
    with pytest.raises(ValueError, match="Teacher output or layer output holds NaN"):
        made.fit(*images(8), verbose=0)
    assert_equal_weights(before, [v.numpy() for v in made.trainable_variables])


def test_empty_data_is_named():
    made = distiller()
    x, y = images(8)
    for data in ((x[:0], y[:0]), (tf.data.Dataset.from_tensor_slices((x[:0], y[:0])).batch(4),)):
        with pytest.raises(ValueError, match="empty"):
            made.fit(*data, verbose=0)
