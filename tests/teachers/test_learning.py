"""A teacher that goes on learning: its own sum in NumPy, its limits, and what it refuses."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import tfkd
from tfkd.losses import LogitsDistillation, SelfDistillation
from tfkd.schedules import Schedule
from tfkd.teachers import Learning

CLASSES, FEATURES, EXAMPLES = 4, 6, 8
RATES = {"teacher": 0.05, "student": 0.1}


def linear(name, seed):
    keras.utils.set_random_seed(seed)
    image = keras.Input((FEATURES,))
    logits = layers.Dense(CLASSES, use_bias=False, name="logits")(image)
    return keras.Model(image, logits, name=name)


def network(width, seed=0, dropout=0.5):
    """With everything that inference and training do differently."""
    keras.utils.set_random_seed(seed)
    image = keras.Input((8, 8, 3))
    x = layers.Conv2D(width, 3, use_bias=False)(image)
    x = layers.ReLU()(layers.BatchNormalization()(x))
    x = layers.ReLU()(layers.BatchNormalization()(layers.Conv2D(2 * width, 3)(x)))
    x = layers.Dropout(dropout)(layers.GlobalAveragePooling2D()(x))
    return keras.Model(image, layers.Dense(CLASSES, kernel_regularizer="l2")(x))


def examples(shape, seed=0):
    random = np.random.default_rng(seed)
    x = random.normal(size=(EXAMPLES, *shape)).astype("float32")
    return x, random.integers(0, CLASSES, EXAMPLES), random.uniform(0.5, 2.0, EXAMPLES)


def distiller(teacher, student, temperature=2.0):
    made = tfkd.Distiller(teacher, student, LogitsDistillation(temperature))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    made.compile(keras.optimizers.SGD(RATES["student"]), loss)
    return made


def fitted(made, shape, epochs=2, **options):
    x, y, weights = examples(shape)
    return made.fit(
        x, y, EXAMPLES, epochs, verbose=0, sample_weight=weights, shuffle=False, **options
    ).history


def values(model):
    return [weight.numpy() for weight in model.weights]


def softmax(logits):
    powers = np.exp(logits - logits.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def divergence(taught, learnt, temperature):
    p, q = softmax(taught / temperature), softmax(learnt / temperature)
    return temperature**2 * (p * np.log(p / q)).sum(-1)


def test_both_take_the_steps_of_the_formula(traces):
    """Three steps by hand in float64, the weights of the teacher's sum changed between."""
    teacher, student = linear("teacher", 1), linear("student", 2)
    temperature, given = 3.0, [(1.0, 0.5, 2.0), (0.0, 0.5, 2.0), (1.0, 0.0, 4.0)]
    t, s = (model.get_weights()[0].astype("float64") for model in (teacher, student))
    x, y, weights = examples((FEATURES,))
    x, one_hot, each = x.astype("float64"), np.eye(CLASSES)[y], weights[:, None] / EXAMPLES
    began = x @ t
    wanted = []
    for labels, feedback, anchor in given:
        own, learnt = x @ t, x @ s
        wanted.append((weights * divergence(began, own, temperature)).mean())

        def apart(first, second, temperature=temperature):
            return temperature * (softmax(first / temperature) - softmax(second / temperature))

        gradient = labels * (softmax(own) - one_hot)
        gradient += feedback * apart(own, learnt) + anchor * apart(own, began)
        of_student = 0.5 * (softmax(learnt) - one_hot) + 0.5 * apart(learnt, own, 2.0)
        t = t - RATES["teacher"] * x.T @ (each * gradient)
        s = s - RATES["student"] * x.T @ (each * of_student)
    optimizer = keras.optimizers.SGD(RATES["teacher"])
    source = Learning(teacher, optimizer, *given[0], temperature=temperature)
    schedules = [
        Schedule(f"teacher.{name}", lambda epoch, own=own: given[epoch][own])
        for own, name in enumerate(("label_weight", "feedback_weight", "anchor_weight"))
    ]
    logs = fitted(distiller(source, student), (FEATURES,), len(given), callbacks=schedules)
    np.testing.assert_allclose(teacher.get_weights()[0], t, atol=1e-5)
    np.testing.assert_allclose(student.get_weights()[0], s, atol=1e-5)
    assert logs["teacher_drift"][0] == 0
    np.testing.assert_allclose(logs["teacher_drift"], wanted, rtol=1e-4, atol=1e-7)
    assert traces == [traces[0]]


@pytest.fixture(scope="module")
def at_rest():
    """(Distiller, history, figures on the same data) of a teacher with a learning rate of 0."""
    source = Learning(network(4), keras.optimizers.SGD(0.0, momentum=0.9))
    made = distiller(source, network(3, 1))
    before = values(source.model)
    logs = fitted(made, (8, 8, 3))
    x, y, _ = examples((8, 8, 3))
    return made, before, logs, made.evaluate(x, y, verbose=0, return_dict=True)


def test_without_a_learning_rate_it_is_plain_distillation_to_the_last_bit(at_rest):
    made, before, logs, _ = at_rest
    plain = distiller(network(4), network(3, 1))
    wanted = fitted(plain, (8, 8, 3))
    assert {name: logs[name] for name in wanted} == wanted
    for own, other in zip(values(made.student), values(plain.student), strict=True):
        np.testing.assert_array_equal(own, other)
    for own, other in zip(values(made.source.model), before, strict=True):
        np.testing.assert_array_equal(own, other)
    assert set(logs["teacher_drift"]) == {0.0}


def test_what_it_reports_is_its_sum_and_the_parts_and_only_of_its_steps(at_rest):
    made, _, logs, evaluated = at_rest
    penalty = 0.01 * np.square(made.source.model.layers[-1].get_weights()[0]).sum()
    labels, feedback = (np.array(logs[f"teacher_{n}"]) for n in ("label_loss", "feedback"))
    sums = labels + 0.1 * feedback + penalty
    np.testing.assert_allclose(logs["teacher_loss"], sums, rtol=1e-5)
    assert not any(name.startswith("teacher") for name in evaluated)
    assert "distillation_loss" in evaluated


def test_it_goes_on_exactly_from_a_file_and_from_a_runs_checkpoint(tmp_path):
    from tfkd.runs.checkpoints import Checkpoint, Progress

    # Keras keeps no state of a student's dropout; the teacher's is off.
    made = distiller(Learning(network(4), keras.optimizers.Adam(0.01)), network(3, 1, dropout=0))
    fitted(made, (8, 8, 3))
    before = values(made.source.model)
    made.source.anchor_weight, made.source.learning_rate = 0.0, 0.02
    made.save(tmp_path / "distiller.keras")
    checkpoint = Checkpoint(tmp_path / "state.npz", "start")
    checkpoint.save(made, Progress())
    loaded = keras.models.load_model(tmp_path / "distiller.keras")
    assert (loaded.source.anchor_weight, loaded.source.learning_rate) == pytest.approx((0, 0.02))
    for weight, own in ((1.0, made), (1.0, loaded)):
        own.source.anchor_weight = weight  # the beginning is kept
    logs = [fitted(own, (8, 8, 3), 1) for own in (made, loaded)]
    assert logs[0]["teacher_drift"][0] > 0
    for name, (value,) in logs[0].items():
        assert logs[1][name] == pytest.approx([value], rel=1e-6), name
    for own, other in zip(values(made.source.model), values(loaded.source.model), strict=True):
        np.testing.assert_allclose(own, other, atol=1e-6)
    checkpoint.restore(made)
    for own, other in zip(values(made.source.model), before, strict=True):
        np.testing.assert_array_equal(own, other)
    # Nothing of it is in what stands for the student.
    made.save_weights(tmp_path / "all.weights.h5")
    made.student.save(tmp_path / "student.keras")
    assert keras.models.load_model(tmp_path / "student.keras").count_params() == (
        made.student.count_params()
    )
    again = distiller(network(4, 5), network(3, 6))
    again.load_weights(tmp_path / "all.weights.h5")  # as of a Distiller with a plain teacher


def test_half_precision_learns_with_a_scaled_loss():
    kept = {}
    for policy in ("float32", "mixed_float16"):
        keras.config.set_dtype_policy(policy)
        source = Learning(linear("teacher", 1), keras.optimizers.SGD(0.5), temperature=2.0)
        fitted(distiller(source, linear("student", 2)), (FEATURES,), 1)
        kept[policy] = (source, source.model.get_weights()[0])
    full, half = (kept[policy][1] for policy in ("float32", "mixed_float16"))
    assert kept["mixed_float16"][0].optimizer.dynamic_scale > 1
    assert half.dtype == np.float32
    assert np.abs(full - linear("teacher", 1).get_weights()[0]).max() > 0.01
    np.testing.assert_allclose(half, full, atol=2e-3)


def ready(model=None, **options):
    return Learning(model or linear("teacher", 1), keras.optimizers.SGD(0.1), **options)


def used_optimizer():
    optimizer = keras.optimizers.SGD(0.1)
    optimizer.build(linear("other", 0).trainable_variables)
    return optimizer


def two_outputs():
    model = linear("teacher", 1)
    return keras.Model(model.input, {"a": model.output, "b": model.output})


def frozen():
    model = linear("teacher", 1)
    model.trainable = False
    return model


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.head = layers.Dense(CLASSES)

    def call(self, x):
        return self.head(x)


def called():
    model = Subclassed()
    model(np.zeros((1, FEATURES), "float32"))
    return model


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Learning(linear("teacher", 1), None), "needs an optimizer of its own.*got None"),
        (lambda: Learning(linear("teacher", 1), "adam"), "needs an optimizer of its own"),
        (lambda: Learning(linear("teacher", 1), used_optimizer()), "must be a new one"),
        (lambda: ready(two_outputs()), r"has one output, but .* has \['a', 'b'\]"),
        (lambda: ready(frozen()), "Nothing of the teacher .* is trainable"),
        (lambda: ready(Subclassed()), "a built keras.Model.*got the unbuilt"),
        (lambda: ready(layers.Dense(2)), "a built keras.Model"),
        (lambda: ready(called()), "cannot be copied.*anchor_weight=0"),
        (lambda: ready(feedback_weight=-1), "feedback_weight must be at least 0"),
        (lambda: ready(temperature=0), "temperature must be greater than 0"),
        (
            lambda: ready(loss=keras.losses.SparseCategoricalCrossentropy()),
            "given logits.*from_logits=True",
        ),
        (
            lambda: setattr(ready(anchor_weight=0), "anchor_weight", 1.0),
            "no copy of its beginning is kept",
        ),
    ],
)
def test_teachers_that_cannot_learn(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def shared_layer():
    source = ready()
    student = keras.Model(source.model.input, layers.Dense(CLASSES)(source.model.output))
    return tfkd.Distiller(source, student)


def shared_optimizer():
    source = ready()
    made = tfkd.Distiller(source, linear("student", 2))
    made.compile(source.optimizer, keras.losses.SparseCategoricalCrossentropy(from_logits=True))


def of_itself():
    source = ready()
    return tfkd.Distiller(source, source.model)


def fit_without_labels():
    made = distiller(ready(), linear("student", 2))
    made.student_loss_weight = 0.0
    made.fit(examples((FEATURES,))[0], verbose=0)


def fit_on_stored_answers():
    x, y, weights = examples((FEATURES,))
    stored = (x, y, weights, {"output": np.zeros((EXAMPLES, CLASSES), "float32")})
    data = tf.data.Dataset.from_tensors(stored)
    distiller(ready(), linear("student", 2)).fit(data, verbose=0)


def fit_unread():
    student = linear("student", 2)
    student = keras.Model(student.input, {"a": student.output, "b": 2.0 * student.output})
    loss = SelfDistillation(LogitsDistillation(2.0, teacher_layer_name="a", student_layer_name="b"))
    made = tfkd.Distiller(ready(), student, loss, student_loss_weight=0.0)
    made.compile("sgd")
    made.fit(*examples((FEATURES,))[:2], verbose=0)


def fit_with_other_outputs():
    made = distiller(ready(student_output="exit_1"), linear("student", 2))
    fitted(made, (FEATURES,))


def store():
    data = tfkd.data.pipeline.from_arrays(*examples((FEATURES,))[:2])
    tfkd.TeacherCache.build("nowhere", distiller(ready(), linear("student", 2)), data)


@pytest.mark.parametrize(
    ("use", "message"),
    [
        (shared_layer, 'shares "logits" with a teacher that learns'),
        (shared_optimizer, "optimizer is that of the teacher"),
        (of_itself, "one object, which cannot teach itself"),
        (fit_without_labels, "learns from labels .* but the data has none"),
        (fit_on_stored_answers, "asked in every train step, but the data brings answers"),
        (fit_unread, "asked in every train step, but no loss or metric reads it"),
        (
            fit_with_other_outputs,
            'learns from "exit_1" of the student, which gives .*output',
        ),
        (store, "Learning cannot be stored"),
    ],
)
def test_uses_that_are_refused(use, message):
    with pytest.raises(ValueError, match=message):
        use()


def test_one_hot_labels_are_those_that_they_stand_for():
    source = ready()
    distiller(source, linear("student", 2))
    classes, own = tf.constant([0, 3, 1]), tf.random.normal((3, 4))
    student = {"output": tf.random.normal((3, 4))}
    losses = [source._loss(own, own, student, y, None) for y in (classes, tf.one_hot(classes, 4))]
    np.testing.assert_allclose(*losses, rtol=1e-6)


def test_independent_labels_and_a_lonely_logit_are_asked_for():
    image = keras.Input((FEATURES,))
    single = keras.Model(image, layers.Dense(1)(image))
    student = keras.models.clone_model(single)
    with pytest.raises(ValueError, match="nothing says that it is log-odds"):
        tfkd.Distiller(ready(single), student)
    loss = keras.losses.BinaryCrossentropy(from_logits=True)
    source = Learning(single, keras.optimizers.SGD(0.1), loss=loss)
    tfkd.Distiller(source, student)
    assert source._divergence.activation == "sigmoid"
