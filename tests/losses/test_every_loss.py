"""What is true of every loss in `tfkd.losses`, class by class."""

import json

import every_loss
import forked
import keras
import numpy as np
import pytest
import tensorflow as tf
from every_loss import EXAMPLES, NAMES, OF_BATCH

import tfkd
from tfkd import losses


def weights(*owners):
    return [np.copy(variable.numpy()) for owner in owners for variable in owner.variables]


def test_every_public_class_is_here():
    functions_and_contracts = {"get", "of_outputs", "code_clusters", "DistillationLoss"}
    # Of batches of pairs, which the data here are none of: tests/losses/test_hashing.py.
    of_pairs = {"ContrastiveHashing", "RobustCodeDistillation"}
    of_detectors = {"BoxDistillation", "DetectionLoss", "HeadAssistance"}  # see test_detection.py
    others = functions_and_contracts | of_pairs | of_detectors
    assert set(NAMES) == set(losses.__all__) - others


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The Distiller after two fits, with all weights changed between, and its copy after one."""
    keras.utils.set_random_seed(0)
    step, traces = tfkd.Distiller.train_step, []

    def counted(self, data):
        traces.append(self)
        return step(self, data)

    tfkd.Distiller.train_step = counted
    try:
        built = every_loss.distiller()
        before = weights(built.student, built.adapters)
        first = built.fit(every_loss.batches(), epochs=2, shuffle=False, verbose=0).history
        path = tmp_path_factory.mktemp("every") / "distiller.keras"
        built.save(path)
        copy = keras.models.load_model(path)
        built.distillation_loss_weights[:] = copy.distillation_loss_weights[:] = [0.05] * len(NAMES)
        second = [
            one.fit(every_loss.batches(), shuffle=False, verbose=0).history for one in (built, copy)
        ]
    finally:
        tfkd.Distiller.train_step = step
    return {
        "built": built,
        "copy": copy,
        "before": before,
        "first": first,
        "second": second,
        "traces": [sum(one is own for own in traces) for one in (built, copy)],
    }


@pytest.mark.parametrize("name", NAMES)
def test_a_saved_loss_goes_on_as_it_would_have(trained, name):
    own, copied = (history[every_loss.metric(name)] for history in trained["second"])
    np.testing.assert_allclose(copied, own, rtol=1e-5)
    kept = [
        one.distillation_losses[NAMES.index(name)] for one in (trained["built"], trained["copy"])
    ]
    assert type(kept[0]) is type(kept[1])
    assert kept[0].get_config() == kept[1].get_config()


def test_what_losses_own_is_trained_saved_and_restored(trained):
    built, copy = trained["built"], trained["copy"]
    apart = [
        np.abs(a - b).max()
        for a, b in zip(*map(weights, (built.adapters, copy.adapters)), strict=True)
    ]
    assert max(apart) < 1e-5
    trainable = {id(v) for v in built.adapters.trainable_variables}
    after = weights(built.student, built.adapters)
    variables = [*built.student.variables, *built.adapters.variables]
    for variable, a, b in zip(variables, trained["before"], after, strict=True):
        if id(variable) in trainable:
            assert np.abs(a - b).max() > 0, variable.path


def test_a_search_over_every_weight_compiles_once(trained):
    assert trained["traces"] == [1, 1]


def test_the_student_holds_nothing_of_the_losses(trained, tmp_path):
    built = trained["built"]
    built.student.save(tmp_path / "student.keras")
    student = keras.models.load_model(tmp_path / "student.keras")
    plain = every_loss.network(3, "student", 1, exits=True)
    assert student.count_params() == plain.count_params()
    of_losses = {id(v) for v in built.adapters.variables}
    assert len(of_losses) > 20
    assert not of_losses & {id(v) for v in built.student.variables}


@pytest.fixture(scope="module")
def one_batch(trained):
    """{class: value}, the gradients of each by the student, and the tensors of one batch."""
    x, y = map(tf.constant, every_loss.arrays())
    built = trained["built"]
    with tf.GradientTape(persistent=True) as tape:
        found = every_loss.values(built, x, y)
    gradients = {
        name: [g for g in tape.gradient(value, built.student.trainable_variables) if g is not None]
        for name, value in found.items()
    }
    return found, gradients


@pytest.mark.parametrize("name", NAMES)
def test_each_loss_is_one_float32_number_that_teaches_the_student(one_batch, name):
    found, gradients = one_batch
    assert found[name].dtype == tf.float32
    assert found[name].shape == ()
    assert max(float(tf.reduce_max(tf.abs(g))) for g in gradients[name]) > 1e-6


@pytest.fixture(scope="module")
def halves(trained):
    """The values of two batches of half the size."""
    x, y = map(tf.constant, every_loss.arrays())
    half, built = EXAMPLES // 2, trained["built"]
    return [
        every_loss.values(
            built,
            x[part],
            y[part],
            {**built.knowledge(x[part]), "index": tf.range(EXAMPLES)[part]},
        )
        for part in (slice(half), slice(half, None))
    ]


@pytest.mark.parametrize("name", NAMES)
def test_which_values_are_those_of_the_whole_batch(one_batch, halves, name):
    """All others are the mean over examples that do not know of each other."""
    whole = one_batch[0][name].numpy()
    mean = np.mean([half[name] for half in halves])
    if name in OF_BATCH:
        assert abs(whole - mean) > 1e-4 * abs(whole)
    else:
        np.testing.assert_allclose(whole, mean, rtol=1e-5)


@pytest.fixture(scope="module")
def repetition(trained):
    """{class: value} of examples with whole numbers as weights, and of examples so repeated."""
    x, y = map(tf.constant, every_loss.arrays())
    times = np.tile([2, 0, 1, 1], EXAMPLES // 4)
    rows = np.repeat(np.arange(EXAMPLES), times)
    built = trained["built"]
    return [
        every_loss.values(
            built,
            tf.gather(x, index),
            tf.gather(y, index),
            {**built.knowledge(tf.gather(x, index)), "index": tf.constant(index)},
            sample_weight=weight,
        )
        for index, weight in ((np.arange(EXAMPLES), times.astype("float32")), (rows, None))
    ]


@pytest.mark.parametrize("name", NAMES)
def test_weights_count_the_values_of_the_examples(repetition, name):
    """As repetition would, where an example's value does not depend on the others'."""
    weighted, repeated = (values[name].numpy() for values in repetition)
    if name in OF_BATCH:  # documented: relations to all examples count in full
        assert abs(weighted - repeated) > 1e-4 * abs(repeated)
    else:
        np.testing.assert_allclose(weighted, repeated, rtol=1e-5)


def test_live_knowledge_equals_stored(trained, tmp_path):
    built = trained["built"]
    x, y = every_loss.arrays()
    data = tfkd.data.pipeline.from_arrays(x, y)
    tfkd.TeacherCache.build(tmp_path, built, data, batch_size=8, dtype="float32", verbose=0)
    stored = tfkd.TeacherCache(tmp_path).dataset(data, EXAMPLES, shuffle=False)
    ((seen, labels, _, knowledge),) = stored.take(1)
    live = every_loss.values(built, tf.constant(x), tf.constant(y))
    cached = every_loss.values(built, seen, labels, knowledge)
    for name in NAMES:
        np.testing.assert_allclose(cached[name], live[name], rtol=2e-5, atol=1e-6, err_msg=name)


def test_mixed_precision_changes_no_value_by_more_than_its_rounding(trained):
    keras.config.set_dtype_policy("mixed_float16")
    half = every_loss.distiller()
    full = trained["built"]
    assert {v.dtype for v in half.adapters.trainable_variables} == {"float32"}
    for mine, theirs in (
        (half.teacher, full.teacher),
        (half.student, full.student),
        (half.adapters, full.adapters),
    ):
        for variable, value in zip(mine.variables, weights(theirs), strict=True):
            variable.assign(value)
    x, y = map(tf.constant, every_loss.arrays())
    wanted = every_loss.values(full, x, y)
    for name, value in every_loss.values(half, x, y).items():
        assert value.dtype == tf.float32
        np.testing.assert_allclose(value, wanted[name], rtol=0.05, atol=2e-3, err_msg=name)


def test_two_replicas_have_the_values_of_their_own_batches(tmp_path):
    """Equal to one device but for what is of the whole batch: that is the mean of both halves'."""
    found = json.loads(forked.output_of(_REPLICAS, tmp_path).splitlines()[-1])
    for name in set(NAMES) - {"ContrastiveDistillation"}:  # each replica draws its own negatives
        # The temperature of annealed targets is that of the whole batch, whoever holds its rows.
        halves = name in OF_BATCH and name != "AnnealedDistillation"
        wanted = found["halves" if halves else "one"][name]
        two = found["two"][every_loss.metric(name)]
        np.testing.assert_allclose(two, wanted, rtol=1e-5, atol=1e-6, err_msg=name)
    assert found["memories"] < 1e-5
    assert found["seen"] == [8, 8]


_REPLICAS = """
import json
import numpy as np, tensorflow as tf, keras
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
import every_loss

def values(made, rows, training):
    x, y = (tf.constant(part[rows]) for part in every_loss.arrays())
    known = {**made.knowledge(x), "index": tf.range(16)[rows]}
    found = every_loss.values(made, x, y, known, training)
    return {name: float(value) for name, value in found.items()}

keras.utils.set_random_seed(0)
one = every_loss.distiller()
one.set_progress(0.0)  # as in the first step of fit
halves = [values(one, rows, False) for rows in (slice(4), slice(4, 8))]
found = values(one, slice(8), True)
keras.utils.set_random_seed(0)
with tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]).scope():
    two = every_loss.distiller()
history = two.fit(every_loss.batches().take(1), verbose=0).history
remembered = []
for made in (one, two):
    (loss,) = [l for l in made.distillation_losses if l.name == "contrastive_distillation"]
    remembered.append([np.array(part) for part in (*loss.memories, loss.classes)])
print(json.dumps({
    "one": found,
    "halves": {name: (halves[0][name] + halves[1][name]) / 2 for name in found},
    "two": {name: values[0] for name, values in history.items()},
    "memories": max(float(np.abs(a - b).max()) for a, b in zip(*remembered)),
    "seen": [int((parts[2] >= 0).sum()) for parts in remembered],
}))
"""
