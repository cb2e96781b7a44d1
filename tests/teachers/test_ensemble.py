"""Several teachers: their weights, what losses make of them, stored and saved."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from small_cache import CLASSES, dataset, distiller, examples, hint, network

import tfkd
from tfkd import losses
from tfkd.heads import Head
from tfkd.matching import Matching, answer_of_all
from tfkd.teachers import CallableTeacher, Ensemble, LiveTeacher, weighing
from tfkd.teachers.cache import TeacherCache

layers = keras.layers


def softmax(values):
    powers = np.exp(values - values.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


@pytest.fixture(scope="module")
def teachers():
    keras.utils.set_random_seed(1)
    return [network(width) for width in (5, 4, 6)]


@pytest.fixture(scope="module")
def batch():
    images, labels = examples(16)
    return tf.constant(images), tf.constant(labels)


def logits_only(teacher, student=None):
    made = tfkd.Distiller(teacher, student or network(3), losses.LogitsDistillation(2.0))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    made.compile(keras.optimizers.SGD(0.1), loss, run_eagerly=True)
    return made


# Weights.


def hand_worked(logits, targets):
    """{way: weights} by NumPy in float64."""
    p = softmax(logits)
    entropies = -(p * np.log(p)).sum(-1)
    mistakes = -(targets[:, None] * np.log(p)).sum(-1)
    right = (logits.argmax(-1) == targets.argmax(-1)[:, None]).astype("float64")
    right[~right.any(1)] = 1.0
    others = logits.shape[1] - 1
    return {
        "confidence": (1 - softmax(mistakes)) / others,
        "entropy": (1 - entropies / entropies.sum(1, keepdims=True)) / others,
        "correct": right / right.sum(1, keepdims=True),
    }


def test_weights_are_those_worked_out_by_hand():
    random = np.random.default_rng(0)
    logits = random.normal(0, 3, (8, 3, 5))
    targets = np.eye(5)[random.integers(0, 5, 8)]
    logits[0, :, :] = np.eye(5)[(targets[0].argmax() + 1) % 5]  # all wrong
    ways = hand_worked(logits, targets)
    for name, wanted in ways.items():
        given = (targets,) if name in weighing.OF_LABELS else ()
        np.testing.assert_allclose(weighing.WEIGHINGS[name](logits, *given), wanted, rtol=1e-12)
        np.testing.assert_allclose(wanted.sum(1), 1.0, rtol=1e-12)
        alone = weighing.WEIGHINGS[name](logits[:, :1], *given)
        np.testing.assert_array_equal(alone, np.ones((8, 1)))
    np.testing.assert_array_equal(ways["correct"][0], [1 / 3] * 3)
    sure = np.eye(5, dtype="float32")[None, [0, 1, 2]] * 500
    np.testing.assert_allclose(weighing.entropy(sure), [[1 / 3] * 3], rtol=1e-6)
    shared = weighing.weights_of([2.0, 1.0, 1.0], tf.constant(logits), None)
    np.testing.assert_array_equal(shared, [[0.5, 0.25, 0.25]] * 8)


@pytest.mark.parametrize("way", [None, "confidence", "entropy", "correct"])
def test_a_source_gives_members_apart_with_their_weights(teachers, batch, way):
    x, y = batch
    made = logits_only(Ensemble(teachers, way))
    found = made.knowledge(x, y)
    assert sorted(found) == ["output", "output weights"]
    apart = np.stack([teacher(x).numpy() for teacher in teachers], axis=1)
    np.testing.assert_allclose(found["output"], apart, rtol=1e-5, atol=1e-6)
    wanted = np.full((16, 3), 1 / 3)
    if way:
        wanted = hand_worked(apart.astype("float64"), np.eye(CLASSES)[y])[way]
    np.testing.assert_allclose(found["output weights"], wanted, rtol=1e-4, atol=1e-6)
    rows = made.knowledge(x, tf.one_hot(y, CLASSES))  # one-hot labels are the same labels
    np.testing.assert_array_equal(rows["output weights"], found["output weights"])


# What losses make of it.


def of_logits():
    return [
        losses.AnnealedDistillation(),
        losses.BatchRelationDistillation(2.0),
        losses.ClassRelationDistillation(2.0),
        losses.CorrelationDistillation(),
        losses.CosineDistillation(),
        losses.CosineDistillation("probabilities", name="of_probabilities"),
        losses.DecoupledDistillation(2.0, standardize=True),
        losses.EnhancedTargetDistillation(1.2),
        losses.FeatureDistillation("mse", "output", "output"),
        losses.LogitsDistillation(2.0),
        losses.LogitsDistillation(2.0, "mse", name="mse"),
        losses.NormalizedDistillation(),
        losses.RefinedDistillation(2.0),
        losses.RelationalDistillation(1.0, 2.0, "output", "output"),
        losses.SimilarityPreserving("output", "output"),
        losses.TransformedTeacherMatching(),
    ]


def test_every_loss_on_logits_sums_over_the_members():
    """Weighed for each example, beside the example's own weight; (1, 0) is the first alone."""
    random, each = np.random.default_rng(0), of_logits()
    answers = tf.constant(random.normal(0, 2, (8, 2, CLASSES)), tf.float32)
    shares = tf.constant(random.dirichlet([1, 1], 8), tf.float32)
    student = tf.constant(random.normal(0, 2, (8, CLASSES)), tf.float32)
    labels, own = tf.constant(random.integers(0, CLASSES, 8)), tf.constant(random.random(8))
    matching = Matching(each)
    shapes = {"output": (None, 2, CLASSES), "output weights": (None, 2)}
    matching.connect(shapes, {"output": (None, CLASSES)})
    assert matching.read_of_teacher == {"output", "output weights"}

    def values(weights, sample_weight=None):
        knowledge = {"output": answers, "output weights": tf.cast(weights, tf.float32)}
        return matching(knowledge, {"output": student}, sample_weight, labels, progress=0.5)

    def alone(loss, member, weights):
        given = {"labels": labels, "heads": (Head.get("logits"),) * 2, "progress": 0.5}
        needs = {name: given[name] for name in loss.needs if name in given}
        return float(loss(answers[:, member], student, weights, **needs))

    first = np.tile([1.0, 0.0], (8, 1))
    for loss, value, weighed, of_first in zip(
        each, values(shares), values(shares, own), values(first), strict=True
    ):
        parts = [alone(loss, k, shares[:, k]) for k in (0, 1)]
        assert float(value) == pytest.approx(sum(parts), rel=1e-6), loss.name
        parts = [alone(loss, k, tf.cast(own, tf.float32) * shares[:, k]) for k in (0, 1)]
        assert float(weighed) == pytest.approx(sum(parts), rel=1e-6), loss.name
        assert float(of_first) == pytest.approx(alone(loss, 0, None), rel=1e-6), loss.name


def test_divergences_from_members_have_the_gradient_of_that_from_their_mean():
    """sum w KL(p_k || q) and KL(sum w p_k || q) differ by what the student cannot change."""
    random = np.random.default_rng(0)
    answers = random.normal(0, 2, (1, 2, CLASSES)).astype("float32")
    student = tf.Variable(random.normal(0, 2, (1, CLASSES)), dtype=tf.float32)
    weights, temperature = np.float32([0.3, 0.7]), 3.0
    mean = 0.3 * softmax(answers[:, 0] / temperature) + 0.7 * softmax(answers[:, 1] / temperature)
    loss = losses.LogitsDistillation(temperature)
    with tf.GradientTape(persistent=True) as tape:
        apart = sum(w * loss(answers[:, k], student) for k, w in enumerate(weights))
        together = loss(temperature * np.log(mean), student)
    np.testing.assert_allclose(
        tape.gradient(apart, student), tape.gradient(together, student), rtol=1e-4, atol=1e-6
    )


@pytest.mark.parametrize(("members", "weights"), [(1, "confidence"), (2, (1, 0))], ids=str)
def test_an_ensemble_of_one_is_its_member(teachers, batch, members, weights):
    """Bit for bit, after steps of training; also where the others have weight 0."""
    sources = [teachers[0], Ensemble(teachers[:members], weights)]
    trained = []
    for source in sources:
        keras.utils.set_random_seed(3)
        made = logits_only(source)
        logs = [made.train_on_batch(*batch, return_dict=True) for _ in range(2)]
        trained.append((logs, [w.numpy() for w in made.student.weights]))
    (alone, first), (together, second) = trained
    assert alone == together and alone[0]["logits_distillation"] > 0
    for own, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(own, other)


def test_members_layers_are_hints_and_metrics_see_the_mean(teachers, batch):
    ensemble = Ensemble({"cnn": teachers[0], "wide": teachers[2]}, (1, 3))
    hints = losses.FeatureDistillation("mse", "wide/stage1_out", "stage1_out")
    made = tfkd.Distiller(ensemble, network(3), [losses.LogitsDistillation(2.0), hints])
    x, y = batch
    made.compile(
        "sgd",
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        teacher_metrics=[tfkd.metrics.TeacherAgreement()],
        run_eagerly=True,
    )
    logs = made.test_on_batch(x, y, return_dict=True)
    mean = 0.25 * softmax(teachers[0](x).numpy()) + 0.75 * softmax(teachers[2](x).numpy())
    np.testing.assert_allclose(
        tf.exp(answer_of_all(made.knowledge(x, y), "output")), mean, rtol=1e-4, atol=1e-6
    )
    agreed = (mean.argmax(-1) == made.student(x).numpy().argmax(-1)).mean()
    assert logs["teacher_agreement"] == pytest.approx(agreed)
    taught = keras.Model(teachers[2].input, teachers[2].get_layer("stage1_out").output)(x)
    np.testing.assert_allclose(made.knowledge(x, y)["wide/stage1_out"], taught, atol=1e-5)


def test_the_mean_of_single_log_odds_is_that_of_their_probabilities():
    odds = np.float32([[[0.0], [2.0]]])
    mean = np.mean(1 / (1 + np.exp(-odds.astype("float64"))))
    found = answer_of_all(
        {"output": tf.constant(odds), "output weights": tf.constant([[0.5, 0.5]])}, "output"
    )
    np.testing.assert_allclose(found, [[np.log(mean / (1 - mean))]], rtol=1e-6)


# Stored.


def test_what_is_stored_is_what_it_says_live(tmp_path, teachers):
    images, labels = examples(40)
    made = distiller(
        Ensemble(teachers[:2], "confidence"), [losses.LogitsDistillation(2.0), tap("1")]
    )
    cache = TeacherCache.build(tmp_path, made, dataset(), batch_size=40, dtype="float32")
    assert sorted(cache.knowledge_shapes) == ["1/stage1_out", "output", "output weights"]
    assert cache.heads["output"] == Head("logits", None)
    x, y, _, stored = next(iter(cache.dataset(dataset(), 40, shuffle=False)))
    live = tf.function(made.knowledge)(tf.constant(images), tf.constant(labels))
    for name, values in live.items():
        assert stored[name].numpy().tobytes() == values.numpy().tobytes(), name
    with pytest.raises(ValueError, match="the teacher, its weights or its config"):
        TeacherCache(tmp_path, logits_only(Ensemble(teachers[:2], "correct")))
    # Half precision, and only the likeliest classes: weights are whole.
    halved = TeacherCache.build(tmp_path / "2", made, dataset(), batch_size=40, top_k=2)
    _, _, _, small = next(iter(halved.dataset(dataset(), 40, shuffle=False)))
    assert small["output"].shape == (40, 2, CLASSES)
    np.testing.assert_allclose(small["output weights"], live["output weights"], rtol=1e-3)


def tap(member):
    return losses.FeatureDistillation("mse", f"{member}/stage1_out", "stage1_out")


def test_a_function_among_the_members_answers_in_the_cache_only(tmp_path, teachers):
    probabilities = keras.Model(teachers[0].input, layers.Softmax()(teachers[0].output))
    members = {
        "function": CallableTeacher(lambda x: teachers[1](x).numpy(), "function"),
        "model": probabilities,
    }
    made = logits_only(Ensemble(members, "correct"))
    with pytest.raises(ValueError, match='"function" is a Python function.*TeacherCache.build'):
        made.evaluate(*examples(), verbose=0)
    cache = TeacherCache.build(tmp_path, made, dataset(), batch_size=16, dtype="float32")
    images, labels = examples(40)
    live = logits_only(Ensemble([teachers[1], teachers[0]], "correct")).knowledge(images, labels)
    _, _, _, stored = next(iter(cache.dataset(dataset(), 40, shuffle=False)))
    np.testing.assert_allclose(stored["output"], live["output"], rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(stored["output weights"], live["output weights"])


# Saved.


def test_it_is_saved_with_its_distiller(tmp_path, teachers, batch):
    x, y = batch
    members = {"narrow": teachers[1], "told": LiveTeacher(teachers[0], "logits", True)}
    made = logits_only(Ensemble(members, [3, 1]))
    made.save(tmp_path / "distiller.keras")
    loaded = keras.models.load_model(tmp_path / "distiller.keras")
    assert isinstance(loaded.teacher, Ensemble) and loaded.teacher.weights == [3.0, 1.0]
    assert list(loaded.teacher.members) == ["narrow", "told"]
    assert loaded.teacher.members["told"].get_config()["head"] == "logits"
    for name, values in made.knowledge(x, y).items():
        np.testing.assert_array_equal(loaded.knowledge(x, y)[name], values)
    function = Ensemble([teachers[0], lambda x: x])
    assert function.serialized() is None and not function.live


# Bad input.


@pytest.mark.parametrize(
    ("members", "weights", "message"),
    [
        ([], None, "needs a teacher or more"),
        ({}, None, "needs a teacher or more"),
        ("models", None, "takes a list of teachers.*got str"),
        ({"a/b": "make"}, None, 'without "/"'),
        ([None], None, 'member "0" of the Ensemble is StoredKnowledge'),
        (["make", 3], None, "teacher must be a keras.Model.*got int"),
        (2, [1.0], "1 numbers for 2 members"),
        (2, [1.0, -1.0], "at least 0 and not all 0"),
        (2, [0, 0], "at least 0 and not all 0"),
        (2, [1.0, float("nan")], "must be finite"),
        (2, "confident", "one of .*'confidence', 'correct', 'entropy'.*got 'confident'"),
        (2, [[1.0], [1.0]], "a number for each member"),
    ],
)
def test_members_and_weights_that_cannot_be(teachers, members, weights, message):
    def made(member):
        return teachers[0] if member == "make" else member

    if isinstance(members, int):
        members = teachers[:members]
    elif isinstance(members, dict):
        members = {name: made(member) for name, member in members.items()}
    elif isinstance(members, list):
        members = [made(member) for member in members]
    with pytest.raises(ValueError, match=message):
        Ensemble(members, weights)


def headed(activation, size=8, classes=CLASSES, scale=None):
    image = keras.Input((size, size, 3))
    x = layers.Dense(classes)(layers.Flatten()(image))
    x = layers.Activation(activation)(x)
    return keras.Model(image, layers.Rescaling(scale)(x) if scale else x)


@pytest.mark.parametrize(
    ("other", "weights", "message"),
    [
        (lambda: headed("linear", classes=5), None, r'"0" \(None, 4\), "1" \(None, 5\).*classes'),
        (lambda: headed("linear", size=9), None, r'"0" \(None, 8, 8, 3\), "1" .*Resizing'),
        (lambda: headed("sigmoid"), "entropy", 'weights="entropy".*one class of many'),
        (lambda: headed("softmax", scale=100), None, 'different things: "0" logits.*LiveTeacher'),
    ],
)
def test_members_that_do_not_fit_each_other(teachers, other, weights, message):
    with pytest.raises(ValueError, match=message):
        logits_only(Ensemble([teachers[0], other()], weights))


def test_what_is_wrong_in_a_step_is_said(teachers, batch, tmp_path):
    x, y = batch
    made = logits_only(Ensemble(teachers[:2], "confidence"))
    made.student_loss_weight = 0.0
    with pytest.raises(ValueError, match="Ensemble needs the labels, but the data has none"):
        made.evaluate(x, verbose=0)
    with pytest.raises(ValueError, match="one label for each example"):
        made.evaluate(x, tf.ones((16, CLASSES)), verbose=0)
    broken = keras.models.clone_model(teachers[1])
    broken.layers[-1].bias.assign([np.nan] * CLASSES)
    made = logits_only(Ensemble({"good": teachers[0], "broken": broken}))
    before = [weight.numpy() for weight in made.student.weights]
    with pytest.raises(ValueError, match="output of the member broken holds NaN"):
        made.fit(x, y, verbose=0)
    for weight, own in zip(made.student.weights, before, strict=True):
        np.testing.assert_array_equal(weight, own)
    with pytest.raises(ValueError, match="output of the member broken holds NaN"):
        TeacherCache.build(tmp_path / "cache", made, dataset(16), batch_size=16)


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        (lambda: tap("cmn"), 'reads "cmn/stage1_out" of an Ensemble.*Did you mean "cnn/stage1'),
        (lambda: tap("cnn/no"), 'No layer "no/stage1_out" in teacher'),
        (lambda: hint(), 'reads "stage1_out" of an Ensemble'),
        (
            lambda: losses.ContrastiveDistillation(16, 4, True, 0.07, 0.5, 8, "output", "output"),
            'owns layers.*teacher_layer_name="0/output"',
        ),
    ],
    ids=["another member", "another layer", "no member", "a loss with layers"],
)
def test_losses_that_read_what_there_is_not(teachers, loss, message):
    ensemble = Ensemble({"cnn": teachers[0], "wide": teachers[2]})
    with pytest.raises(ValueError, match=message):
        tfkd.Distiller(ensemble, network(3), [loss()])


def test_a_loss_with_layers_reads_one_member(teachers):
    ensemble = Ensemble(teachers[:2])
    loss = losses.ContrastiveDistillation(16, 4, True, 0.07, 0.5, 8, "1/output", "output")
    made = tfkd.Distiller(ensemble, network(3), loss)
    assert made.matching.read_of_teacher == {"1/output"}
