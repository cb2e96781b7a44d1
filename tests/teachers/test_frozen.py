"""A frozen teacher: the same numbers, what is asked for only, never stale, live if it must be."""

import gc
import os
import subprocess
import sys
import warnings
import weakref

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfkd.teachers.frozen import FrozenTeacher

layers = keras.layers


@pytest.fixture
def teacher():
    """Three convolutions with BatchNormalization of arbitrary statistics, and a classifier."""
    image = x = keras.Input((12, 12, 3), name="image")
    for index in range(3):
        x = layers.Conv2D(8, 3, use_bias=False)(x)
        x = layers.ReLU(name=f"block{index}")(layers.BatchNormalization()(x))
    logits = layers.Dense(5)(layers.GlobalAveragePooling2D()(x))
    model = keras.Model(image, logits)
    model.set_weights([np.random.uniform(0.2, 1.0, w.shape) for w in model.weights])
    return model


@pytest.fixture
def images():
    return tf.random.normal((4, 12, 12, 3))


def reader(model, *names):
    """x → {name: tensor}: "output" or a layer's output, all from one pass."""
    read = {
        name: model.output if name == "output" else model.get_layer(name).output for name in names
    }
    inner = keras.Model(model.input, read)
    return lambda x: inner(x, training=False)


def operations(function, *arguments):
    """Types of the operations that a traced function and the functions it calls consist of."""
    graph = function.get_concrete_function(*arguments).graph.as_graph_def()
    inside = [node for inner in graph.library.function for node in inner.node_def]
    return [node.op for node in [*graph.node, *inside]]


def traced(teacher_outputs):
    return tf.function(lambda x: teacher_outputs(x), autograph=False)


def assert_equal(actual, expected, tolerance=1e-5):
    assert list(actual) == list(expected)
    for name in expected:
        assert actual[name].dtype == expected[name].dtype
        np.testing.assert_allclose(actual[name], expected[name], rtol=tolerance, atol=tolerance)


@pytest.fixture
def silent():
    """No warning: the teacher was frozen."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def test_equals_the_live_teacher(teacher, images, silent):
    outputs = reader(teacher, "output", "block1")
    frozen = FrozenTeacher(outputs)
    assert_equal(frozen(images), outputs(images))
    assert_equal(traced(frozen)(images), outputs(images))
    assert_equal(frozen(images.numpy()), outputs(images))


def test_batch_normalization_is_folded_away(teacher, images):
    """Live, each of three normalizations takes a Rsqrt; folded, its scale is in the convolution."""
    outputs = reader(teacher, "output")
    assert operations(tf.function(outputs), images).count("Rsqrt") == 3
    kinds = operations(traced(FrozenTeacher(outputs)), images)
    assert (kinds.count("Conv2D"), kinds.count("Rsqrt"), kinds.count("Mul")) == (3, 0, 0)
    assert "ReadVariableOp" not in kinds


@pytest.mark.parametrize(("name", "convolutions"), [("block0", 1), ("block1", 2), ("output", 3)])
def test_computes_nothing_past_the_deepest_name(teacher, images, name, convolutions):
    """Even where the callable computes everything and returns a part of it."""
    everything = reader(teacher, "block0", "block1", "output")
    frozen = FrozenTeacher(lambda x: {name: everything(x)[name]})
    kinds = operations(traced(frozen), images)
    assert kinds.count("Conv2D") == convolutions
    assert ("MatMul" in kinds) == (name == "output")


def test_one_graph_for_every_batch_size(teacher, images, silent):
    calls = []
    outputs = reader(teacher, "output")

    def counted(x):
        calls.append(x.shape)
        return outputs(x)

    frozen = FrozenTeacher(counted)
    for size in (4, 1, 3):
        assert_equal(frozen(images[:size]), outputs(images[:size]))
        assert_equal(traced(frozen)(images[:size]), outputs(images[:size]))
    assert [shape.as_list() for shape in calls] == [[None, 12, 12, 3]]


def test_another_shape_or_dtype_is_another_graph(silent):
    convolution = layers.Conv2D(2, 3)
    convolution.build((None, None, None, 3))
    outputs = lambda x: {"output": convolution(x)}  # noqa: E731
    frozen = FrozenTeacher(outputs)
    for x in (tf.ones((2, 6, 6, 3)), tf.ones((2, 9, 7, 3)), tf.ones((2, 6, 6, 3), tf.float64)):
        assert_equal(frozen(x), outputs(x))


def test_inputs_as_dict(silent):
    first, second = keras.Input((4,), name="first"), keras.Input((6,), name="second")
    x = layers.Concatenate()([layers.Dense(30)(first), layers.Dense(30)(second)])
    model = keras.Model({"second": second, "first": first}, layers.Dense(3)(x))
    outputs = lambda x: {"output": model(x, training=False)}  # noqa: E731
    x = {"first": tf.random.normal((5, 4)), "second": tf.random.normal((5, 6))}
    frozen = FrozenTeacher(outputs)
    assert_equal(frozen(x), outputs(x))
    assert_equal(traced(frozen)(x), outputs(x))


@pytest.mark.parametrize(
    "layer", [layers.LSTM(20), layers.Conv1D(20, 2), layers.LayerNormalization()]
)
def test_sequences(layer, silent):
    layer.build((None, 6, 3))
    outputs = lambda x: {"output": layer(x)}  # noqa: E731
    x = tf.random.normal((2, 6, 3))
    assert_equal(traced(FrozenTeacher(outputs))(x), outputs(x))


def test_mixed_precision_runs_as_its_policy_says(images, silent):
    keras.config.set_dtype_policy("mixed_float16")
    model = keras.Sequential([keras.Input((12, 12, 3)), layers.Conv2D(8, 3), layers.ReLU()])
    outputs = lambda x: {"output": model(x, training=False)}  # noqa: E731
    actual = FrozenTeacher(outputs)(images)
    assert actual["output"].dtype == tf.float16
    assert_equal(actual, outputs(images), 2e-3)


def test_frozen_while_a_caller_is_traced(teacher, images, silent):
    """First called inside a tf.function, or inside Keras's symbolic build: usable outside after."""
    outputs = reader(teacher, "output")
    frozen = FrozenTeacher(outputs)
    spec = keras.KerasTensor((None, 12, 12, 3))
    assert keras.src.backend.compute_output_spec(frozen, spec)["output"].shape == (None, 5)
    assert_equal(traced(frozen)(images), outputs(images))
    assert_equal(frozen(images), outputs(images))
    first_in_a_trace = FrozenTeacher(outputs)
    assert_equal(traced(first_in_a_trace)(images), outputs(images))
    assert_equal(first_in_a_trace(images), outputs(images))


@pytest.mark.parametrize("change", ["assign", "assign_add", "scatter", "set_weights", "optimizer"])
def test_refresh_sees_a_changed_weight(teacher, images, change):
    outputs = reader(teacher, "output")
    frozen = FrozenTeacher(outputs)
    before = frozen(images)
    assert frozen.refresh() is False
    variable = teacher.trainable_variables[-1].value
    if change == "assign":
        variable.assign(variable + 1.0)
    elif change == "assign_add":
        variable.assign_add(tf.ones_like(variable))
    elif change == "scatter":
        variable.scatter_update(tf.IndexedSlices(tf.constant([7.0]), tf.constant([2])))
    elif change == "set_weights":
        teacher.set_weights([w + 0.1 for w in teacher.get_weights()])
    else:
        keras.optimizers.SGD(1.0).apply([tf.ones_like(variable)], teacher.trainable_variables[-1:])
    stale = frozen(images)
    np.testing.assert_array_equal(stale["output"], before["output"])
    assert frozen.refresh() is True
    assert_equal(frozen(images), outputs(images))
    assert not np.allclose(frozen(images)["output"], before["output"], atol=1e-3)
    assert frozen.refresh() is False


def test_refresh_ignores_equal_values_and_weights_it_does_not_use(teacher, images):
    frozen = FrozenTeacher(reader(teacher, "block0"))
    frozen(images)
    teacher.set_weights(teacher.get_weights())
    assert frozen.refresh() is False
    teacher.layers[-1].kernel.assign(teacher.layers[-1].kernel + 1.0)
    assert frozen.refresh() is False


def ragged():
    return tf.ragged.constant([[1.0], [1.0, 2.0]])


@pytest.mark.parametrize("reason", ["table", "writes", "ragged", "too large"])
def test_runs_live_where_it_cannot_freeze(teacher, images, reason):
    options, message, x = {}, reason, images
    if reason == "table":
        keys = tf.lookup.KeyValueTensorInitializer([1, 2], [0.5, 0.25])
        table = tf.lookup.StaticHashTable(keys, 0.0)
        outputs = lambda x: {"output": table.lookup(x)}  # noqa: E731
        x, message = tf.constant([2, 1, 3]), "resources that are not variables"
    elif reason == "writes":
        seen = tf.Variable(0.0)

        def outputs(x):
            return {"output": x + 0.0 * seen.assign_add(1.0)}

        message = "AssignAddVariableOp"
    elif reason == "ragged":
        outputs = lambda x: {"output": x.to_tensor()}  # noqa: E731
        x, message = ragged(), "not all dense tensors"
    else:
        outputs, options = reader(teacher, "output"), {"limit_bytes": 5000}
        message = r"bytes of weights, more than 5,000"
    frozen = FrozenTeacher(outputs, "big teacher", **options)
    with pytest.warns(UserWarning, match=f'Teacher "big teacher" .*{message}') as record:
        assert_equal(frozen(x), outputs(x))
        assert_equal(traced(frozen)(x), outputs(x))
    assert len(record) == 1
    assert record[0].filename == __file__
    assert frozen.refresh() is False


def test_a_live_fallback_follows_its_weights(teacher, images):
    outputs = reader(teacher, "output")
    frozen = FrozenTeacher(outputs, limit_bytes=0)
    with pytest.warns(UserWarning, match="cannot be frozen"):
        function = traced(frozen)
        function(images)
    teacher.set_weights([w * 0.9 for w in teacher.get_weights()])
    assert frozen.refresh() is False
    assert_equal(function(images), outputs(images))


def test_weights_are_shared_not_copied_into_each_caller(images):
    """A graph that calls a teacher of 1 MB stays far below 1 MB."""
    model = keras.Sequential([keras.Input((512,)), layers.Dense(512)])
    frozen = FrozenTeacher(lambda x: {"output": model(x, training=False)})
    x = tf.ones((2, 512))
    graph = traced(frozen).get_concrete_function(x).graph.as_graph_def()
    assert model.count_params() * 4 > 1e6
    assert graph.ByteSize() < 20_000


def test_what_is_dropped_is_released(teacher, images):
    frozen = FrozenTeacher(reader(teacher, "output"))
    function = traced(frozen)
    function(images)
    (graph,) = [concrete.graph for concrete in frozen._frozen.values()]
    gone = [weakref.ref(frozen), weakref.ref(graph), weakref.ref(teacher)]
    del frozen, function, graph
    gc.collect()
    assert [reference() is None for reference in gone] == [True, True, False]


MIRRORED = """
from tfkd.teachers.frozen import FrozenTeacher
import contextlib, warnings
import numpy as np, keras, tensorflow as tf

warnings.simplefilter("error", UserWarning)
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2)
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
x = tf.random.stateless_normal((8, 6, 6, 3), (1, 2))
data = strategy.experimental_distribute_dataset(tf.data.Dataset.from_tensor_slices(x).batch(8))
for scope in (contextlib.nullcontext, strategy.scope):
    keras.utils.set_random_seed(0)
    with scope():
        teacher = keras.Sequential([keras.Input((6, 6, 3)), keras.layers.Conv2D(30, 3),
            keras.layers.BatchNormalization(), keras.layers.Flatten(), keras.layers.Dense(4)])
    calls = []
    def outputs(x):
        calls.append(x)
        return {"output": teacher(x, training=False)}
    frozen = FrozenTeacher(outputs)

    def run():
        function = tf.function(
            lambda batch: strategy.run(lambda x: frozen(x)["output"], (batch,)), autograph=False)
        result = strategy.experimental_local_results(function(next(iter(data))))
        assert len(result) == 2
        np.testing.assert_allclose(tf.concat(result, 0), teacher(x, training=False), atol=1e-5)

    run()
    assert len(calls) == 1  # one trace, for both replicas
    assert frozen.refresh() is False
    teacher.layers[0].kernel.assign(teacher.layers[0].kernel * 0.5)
    assert frozen.refresh() is True
    run()
print("equal")
"""


def test_replicas_share_one_frozen_teacher():
    """Two logical CPUs; the teacher made outside and inside of the strategy's scope."""
    ran = subprocess.run(
        [sys.executable, "-c", MIRRORED],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "PYTHONPATH": os.getcwd()},
    )
    assert ran.stdout.endswith("equal\n"), ran.stderr[-3000:]
