"""What is known of a head is known everywhere: in losses, string losses, metrics."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from keras import layers, ops

import tfkd
from tfkd.heads import Head, meaning_of_loss
from tfkd.losses import CosineDistillation, LogitsDistillation
from tfkd.taps import heads_of

# That a crossentropy by name is read as one of logits is said; tests/distiller/test_heads.py.
pytestmark = pytest.mark.filterwarnings("ignore:loss=")

CLASSES = 4
SOFTMAX, SIGMOID = Head("probabilities", "one_of_many"), Head("probabilities", "independent")
LOGITS, UNKNOWN = Head("logits"), Head()


def ending(make, units=CLASSES):
    image = keras.Input((6,))
    logits = layers.Dense(units, kernel_initializer=keras.initializers.RandomNormal(stddev=2.0))
    return keras.Model(image, make(logits(image)))


def softmax_of(make):
    return lambda z: make(ops.softmax(z))


def two(z):
    return ops.softmax(z), ops.softmax(z[:, ::-1])


@pytest.mark.parametrize(
    ("make", "head"),
    [
        # Kept or moved probabilities.
        (softmax_of(lambda p: layers.Reshape((CLASSES,))(layers.Reshape((2, 2))(p))), SOFTMAX),
        (softmax_of(lambda p: ops.clip(p, 1e-6, 1 - 1e-6)), SOFTMAX),
        (softmax_of(lambda p: ops.flip(p, -1)), SOFTMAX),
        (softmax_of(lambda p: ops.take(p, [2, 0, 3, 1], axis=-1)), SOFTMAX),
        (softmax_of(lambda p: ops.cast(ops.cast(p, "float16"), "float32")), SOFTMAX),
        (softmax_of(lambda p: layers.Dropout(0.5)(layers.Identity()(p))), SOFTMAX),
        (softmax_of(lambda p: ops.squeeze(ops.expand_dims(p, 1), 1)), SOFTMAX),
        (lambda z: layers.Average()(list(two(z))), SOFTMAX),
        (lambda z: ops.mean(ops.stack(two(z), axis=1), axis=1), SOFTMAX),
        (lambda z: 0.25 * two(z)[0] + 0.75 * two(z)[1], SOFTMAX),
        (lambda z: ops.exp(ops.log_softmax(z)), SOFTMAX),
        (lambda z: ops.exp(z) / ops.sum(ops.exp(z), axis=-1, keepdims=True), SOFTMAX),
        (lambda z: ops.softmax(z / 3.0), SOFTMAX),
        (lambda z: 1.0 - ops.sigmoid(z), SIGMOID),
        (lambda z: layers.Concatenate()([ops.sigmoid(z), ops.sigmoid(-z)]), SIGMOID),
        (lambda z: ops.maximum(ops.sigmoid(z), 1e-6), SIGMOID),
        # Logits.
        (lambda z: z, LOGITS),
        (lambda z: ops.log_softmax(z), LOGITS),
        (lambda z: ops.log(ops.clip(ops.softmax(z), 1e-9, 1.0)), LOGITS),
        (lambda z: layers.BatchNormalization()(z), LOGITS),
        (lambda z: layers.Dense(CLASSES)(ops.softmax(z)), LOGITS),
        (lambda z: layers.Average()([z, 2 * z]), LOGITS),
        (lambda z: ops.silu(z), LOGITS),
        # Neither can be told: asked, never guessed.
        (softmax_of(lambda p: 100.0 * p), Head(None, "one_of_many")),
        (softmax_of(lambda p: layers.Concatenate()([p, p])), Head(None, "one_of_many")),
        (lambda z: ops.hard_sigmoid(z), UNKNOWN),
        (lambda z: ops.relu6(z + 3) / 6, UNKNOWN),
        (lambda z: ops.softmax(ops.reshape(z, (-1, 2, 2)), axis=1), Head(None, "one_of_many")),
    ],
)
def test_a_head_is_followed_or_measured(make, head):
    assert heads_of(ending(make)) == {"output": head}


def test_what_is_said_of_a_head_wins():
    model = ending(ops.hard_sigmoid)
    assert heads_of(model, given="independent_probabilities") == {"output": SIGMOID}
    with pytest.raises(ValueError, match="A head is one of.*'softmaxed'"):
        heads_of(model, given="softmaxed")
    with pytest.raises(ValueError, match=r"no output \['other'\]"):
        heads_of(model, given={"other": "logits"})


def test_the_loss_on_the_labels_tells_what_logits_do_not():
    binary, several = ending(lambda z: z, 1), ending(lambda z: z)
    sparse = "sparse_categorical_crossentropy"
    assert heads_of(binary, loss="binary_crossentropy") == {"output": Head("logits", "independent")}
    assert heads_of(binary, loss="mse") == {"output": Head("numbers")}
    assert heads_of(binary) == {"output": LOGITS}
    assert heads_of(several, loss=keras.losses.BinaryFocalCrossentropy(from_logits=True)) == {
        "output": Head("logits", "independent")
    }
    assert heads_of(several, loss=[sparse]) == {"output": Head("logits", "one_of_many")}
    several.compile(loss=keras.losses.CategoricalCrossentropy(from_logits=True))
    assert heads_of(several) == {"output": Head("logits", "one_of_many")}


@pytest.mark.parametrize(
    ("loss", "says"),
    [
        ("sparse_categorical_crossentropy", "one_of_many"),
        (keras.losses.CategoricalFocalCrossentropy(), "one_of_many"),
        (keras.losses.binary_crossentropy, "independent"),
        (keras.losses.Huber(), "numbers"),
        ("MSE", "numbers"),
        (lambda y, p: p, None),
        (None, None),
        ("crossentropy", None),
    ],
)
def test_what_a_loss_says_of_its_output(loss, says):
    assert meaning_of_loss(loss) == says


def test_names_and_heads_are_one():
    for name in ("logits", "independent_logits", "probabilities", "numbers"):
        assert Head.get(name).name == name
    assert Head.get(None) == UNKNOWN
    assert UNKNOWN.name is None
    z = tf.constant([[1.0, -2.0, 0.5]])
    for head, function in ((SOFTMAX, tf.nn.softmax), (SIGMOID, tf.nn.sigmoid)):
        probabilities = function(z)
        again = head.as_logits().probabilities(head.logits(probabilities))
        np.testing.assert_allclose(again, probabilities, rtol=1e-5)
    with pytest.raises(ValueError, match="not known well enough"):
        LOGITS.probabilities(z)
    with pytest.raises(ValueError, match="no logits behind"):
        Head("numbers").logits(z)


# Losses.


def distilled(teacher, student, loss=None, labels_loss=None, run_eagerly=True, **options):
    made = tfkd.Distiller(teacher, student, loss or LogitsDistillation(2.0), **options)
    # Eagerly: values alone are asked for, and a step takes less time than its trace.
    loss = labels_loss or keras.losses.SparseCategoricalCrossentropy(True)
    made.compile("sgd", loss, run_eagerly=run_eagerly)
    return made


def answers(model, x):
    """NumPy arrays, in float64."""
    return keras.tree.map_structure(lambda y: np.asarray(y, "float64"), model(x))


def data(classes=CLASSES, form="sparse"):
    random = np.random.default_rng(0)
    x = random.normal(size=(8, 6)).astype("float32")
    labels = random.integers(0, classes, 8)
    return x, labels if form == "sparse" else random.integers(0, 2, (8, classes)).astype("float32")


def test_heads_that_contradict_each_other_are_refused_until_one_is_said():
    teacher, student = ending(ops.softmax), ending(lambda z: z)
    binary = keras.losses.BinaryCrossentropy(from_logits=True)
    made = distilled(teacher, student, labels_loss=binary)
    with pytest.raises(ValueError, match="teacher's softmax and the student's sigmoid.*activation"):
        made.evaluate(*data(form="labels"), verbose=0)
    made = distilled(teacher, student, LogitsDistillation(2.0, activation="sigmoid"), binary)
    assert made.evaluate(*data(form="labels"), verbose=0, return_dict=True)["loss"] > 0


def test_a_binary_loss_makes_labels_independent():
    teacher, student = ending(lambda z: z), ending(lambda z: z)
    x, y = data(form="labels")
    made = distilled(teacher, student, labels_loss=keras.losses.BinaryCrossentropy(True))
    found = made.evaluate(x, y, verbose=0, return_dict=True)["logits_distillation"]
    t, s = (answers(m, x) / 2 for m in (teacher, student))
    p, q = 1 / (1 + np.exp(-t)), 1 / (1 + np.exp(-s))
    wanted = 4 * (p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q))).sum(-1).mean()
    assert found == pytest.approx(wanted, rel=1e-4)


@pytest.mark.parametrize("loss", ["mse", None, "huber"])
def test_a_single_number_is_no_log_odds_unless_something_says_so(loss):
    made = tfkd.Distiller(
        ending(lambda z: z, 1),
        ending(lambda z: z, 1),
        LogitsDistillation(),
        student_loss_weight=0.5 if loss else 0.0,
    )
    made.compile("sgd", loss)
    x, y = data(2)
    with pytest.raises(ValueError, match='activation="sigmoid"'):
        made.fit(x, y.astype("float32"), verbose=0)


@pytest.mark.parametrize("side", ["teacher", "student"])
@pytest.mark.parametrize("make", [ops.hard_sigmoid, softmax_of(lambda p: 100.0 * p)])
def test_a_head_that_nobody_knows_is_asked_for_before_anything_moves(side, make):
    normed = lambda z: layers.BatchNormalization()(z)  # noqa: E731
    models = {"teacher": ending(normed), "student": ending(normed), side: ending(make)}
    made = distilled(**models, run_eagerly=False)  # moved is what a compiled step moves
    kept = [*made.variables]
    before = [v.numpy() for v in kept]
    with pytest.raises(ValueError, match=f"Distiller.*{side}_head=.*probabilities"):
        made.fit(*data(), verbose=0)
    for variable, value in zip(kept, before, strict=True):
        np.testing.assert_array_equal(variable.numpy(), value)
    said = distilled(**models, **{f"{side}_head": "logits"})
    assert said.evaluate(*data(), verbose=0, return_dict=True)["logits_distillation"] > 0


def test_stored_probabilities_are_not_taken_for_logits():
    student = ending(lambda z: z)
    x, y = data()
    stored = {"output": tf.nn.softmax(np.random.default_rng(1).normal(size=(8, CLASSES))).numpy()}
    batches = tf.data.Dataset.from_tensors((x, y, np.ones(8), stored))
    made = distilled(None, student)
    with pytest.raises(ValueError, match="teacher_head"):
        made.fit(batches, verbose=0)
    made = distilled(None, student, teacher_head="probabilities")
    found = made.evaluate(batches, verbose=0, return_dict=True)["logits_distillation"]
    p, q = np.log(stored["output"]) / 2, answers(student, x) / 2
    p, q = (z - np.log(np.exp(z).sum(-1, keepdims=True)) for z in (p, q))
    assert found == pytest.approx(4 * (np.exp(p) * (p - q)).sum(-1).mean(), rel=1e-4)


def test_cosine_of_probabilities_follows_the_heads():
    teacher, student = ending(ops.sigmoid), ending(ops.sigmoid)
    x, y = data(form="labels")
    loss = CosineDistillation("probabilities")
    made = distilled(teacher, student, loss, keras.losses.BinaryCrossentropy())
    found = made.evaluate(x, y, verbose=0, return_dict=True)["cosine_distillation"]
    t, s = (answers(m, x) for m in (teacher, student))
    cosine = (t * s).sum(-1) / np.linalg.norm(t, axis=-1) / np.linalg.norm(s, axis=-1)
    assert found == pytest.approx(1 - cosine.mean(), rel=1e-4)


# Losses and metrics by name.


def log_softmax(z):
    z = z.astype("float64") - z.max(-1, keepdims=True)
    return z - np.log(np.exp(z).sum(-1, keepdims=True))


@pytest.mark.parametrize("metric", ["AUC", "Precision", "binary_accuracy", "BinaryCrossentropy"])
def test_metrics_by_name_see_probabilities_where_the_student_ends_in_log_odds(metric):
    student, x = ending(lambda z: z, 1), data()[0]
    y = np.arange(8)[:, None] % 2
    made = distilled(ending(lambda z: z, 1), student, labels_loss="binary_crossentropy")
    made.compile("sgd", "binary_crossentropy", metrics=[metric], run_eagerly=True)
    logs = made.evaluate(x, y, verbose=0, return_dict=True)
    (found,) = (v for k, v in logs.items() if k not in LOSS_NAMES)
    reference = keras.metrics.get(metric)
    probabilities = 1 / (1 + np.exp(-answers(student, x)))
    if isinstance(reference, keras.metrics.Metric):
        reference.update_state(y, probabilities)
        wanted = float(reference.result())
    else:
        wanted = float(np.mean(reference(y, probabilities)))
    assert found == pytest.approx(wanted, rel=1e-4)


LOSS_NAMES = ("loss", "student_loss", "distillation_loss", "total_loss", "logits_distillation")


@pytest.mark.parametrize("form", ["name", "class name", "ce", "list", "function", "object"])
def test_a_crossentropy_is_one_of_logits_in_every_form_but_as_an_object(form):
    given = {
        "name": "sparse_categorical_crossentropy",
        "class name": "SparseCategoricalCrossentropy",
        "ce": "crossentropy",
        "list": ["sparse_categorical_crossentropy"],
        "function": keras.losses.sparse_categorical_crossentropy,
        "object": keras.losses.SparseCategoricalCrossentropy(),
    }[form]
    student, (x, y) = ending(lambda z: z), data()
    made = distilled(ending(lambda z: z), student, labels_loss=given)
    found = made.evaluate(x, y, verbose=0, return_dict=True)["student_loss"]
    logits = answers(student, x)
    as_logits = -log_softmax(logits)[np.arange(8), y].mean()
    if form == "object":  # what the user made is Keras's own
        assert found == pytest.approx(float(given(y, logits)), rel=1e-4)
        assert found != pytest.approx(as_logits, rel=1e-2)
    else:
        assert found == pytest.approx(as_logits, rel=1e-4)


def test_outputs_of_different_heads_are_each_read_as_what_they_are():
    image = keras.Input((6,))
    outputs = {"a": layers.Dense(CLASSES)(image), "b": layers.Dense(CLASSES, "softmax")(image)}
    student = keras.Model(image, outputs)
    twin = keras.models.clone_model(student)
    loss = LogitsDistillation(2.0, loss={"a": "kl_divergence", "b": "kl_divergence"})
    made = tfkd.Distiller(twin, student, loss)
    name = "sparse_categorical_crossentropy"
    given = {"loss": {"a": name, "b": name}, "metrics": {"a": [name], "b": [name]}}
    made.compile("sgd", **given, run_eagerly=True)
    x, y = data()
    logs = made.evaluate(x, {"a": y, "b": y}, verbose=0, return_dict=True)
    found = answers(student, x)
    wanted = {
        "a": -log_softmax(found["a"])[np.arange(8), y].mean(),
        "b": -np.log(found["b"][np.arange(8), y].astype("float64")).mean(),
    }
    assert logs["student_loss"] == pytest.approx(sum(wanted.values()), rel=1e-4)
    for output, value in wanted.items():
        assert logs[f"{output}_{name}"] == pytest.approx(value, rel=1e-4)


# Any chain of layers and ops that keep or move probabilities.

KEEPING = {
    "reshape": lambda p: layers.Reshape((CLASSES,))(layers.Reshape((1, CLASSES))(p)),
    "permute and back": lambda p: layers.Reshape((CLASSES,))(
        layers.Permute((2, 1))(layers.Reshape((CLASSES, 1))(p))
    ),
    "clip": lambda p: ops.clip(p, 1e-7, 1.0),
    "dropout": lambda p: layers.Dropout(0.3)(p),
    "identity": lambda p: layers.Activation("linear")(p),
    "cast": lambda p: ops.cast(ops.cast(p, "float64"), "float32"),
    "average": lambda p: layers.Average()([p, p]),
    "take": lambda p: ops.take(p, [1, 2, 3, 0], axis=-1),
    "nested": lambda p: keras.Sequential([keras.Input((CLASSES,)), layers.Identity()])(p),
    "mean of views": lambda p: ops.mean(ops.stack([p, ops.flip(p, -1)], axis=1), axis=1),
    "exp of log": lambda p: ops.exp(ops.log(p)),
    "scaled": lambda p: 2.0 * p,
}


@settings(
    max_examples=12,
    deadline=None,
    derandomize=True,
    phases=[Phase.generate],  # a smaller example would cost as much as all of them
    suppress_health_check=list(HealthCheck),
)
@given(
    st.sampled_from(["softmax", "sigmoid", "linear"]),
    st.lists(st.sampled_from(sorted(KEEPING)), max_size=3),
    st.integers(0, 2**16),
)
def test_loss_and_metric_equal_numpy_whatever_follows_the_activation(activation, chain, seed):
    keras.utils.set_random_seed(seed)
    if activation == "linear":  # of negative numbers there is no logarithm
        chain = [step for step in chain if step != "exp of log"]

    def model():
        def end(z):
            for step in chain:
                z = KEEPING[step](z)
            return z

        return ending(lambda z: end(layers.Activation(activation)(z)))

    teacher, student = model(), model()
    binary = activation == "sigmoid"
    x, y = data(form="labels" if binary else "sparse")
    name = "binary_crossentropy" if binary else "sparse_categorical_crossentropy"
    made = tfkd.Distiller(teacher, student, LogitsDistillation(2.0))
    made.compile("sgd", name, metrics=[name])
    try:
        logs = made.evaluate(x, y, verbose=0, return_dict=True)
    except ValueError as refused:
        assert "head" in str(refused) or "activation" in str(refused), refused
        return
    outputs = [answers(m, x) for m in (teacher, student)]
    if activation == "linear":
        t, s = (z / 2 for z in outputs)
        cross = -log_softmax(outputs[1])[np.arange(8), y].mean()
    elif binary:
        p = np.clip(outputs[1], 1e-7, 1 - 1e-7)
        t, s = (np.log(p) - np.log1p(-p) for p in (np.clip(o, 1e-30, 1 - 1e-12) for o in outputs))
        t, s = t / 2, s / 2
        cross = -(y * np.log(p) + (1 - y) * np.log(1 - p)).mean()
    else:
        t, s = (np.log(np.maximum(p, 1e-38)) / 2 for p in outputs)
        cross = -np.log(np.clip(outputs[1], 1e-7, 1))[np.arange(8), y].mean()
    if binary:
        sigmoid = lambda z: 1 / (1 + np.exp(-z))  # noqa: E731
        p, q = sigmoid(t), sigmoid(s)
        divergence = p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q))
    else:
        t, s = log_softmax(t), log_softmax(s)
        divergence = np.exp(t) * (t - s)
    wanted = 4 * divergence.sum(-1).mean()
    assert logs["logits_distillation"] == pytest.approx(wanted, rel=1e-3, abs=1e-6)
    assert logs["student_loss"] == pytest.approx(cross, rel=1e-3, abs=1e-5)
    assert logs[name] == pytest.approx(cross, rel=1e-3, abs=1e-5)
