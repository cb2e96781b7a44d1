"""Fused BatchNormalization against the Keras layer: outputs, gradients and moving statistics."""

import gc
import inspect
import os
import subprocess
import sys
import threading
import weakref

import forked
import keras
import numpy as np
import pytest
import tensorflow as tf

from tfkd import fused

layers = keras.layers


@keras.saving.register_keras_serializable("tests.fused")
class Subclassed(keras.Model):
    """Layers in a list, in a plain Layer and created in build."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.convolution = layers.Conv2D(4, 3)
        self.norms = [layers.BatchNormalization(), layers.BatchNormalization()]
        self.head = layers.Dense(3)

    def call(self, x, training=None):
        x = self.convolution(x)
        for norm in self.norms:
            x = keras.ops.relu(norm(x, training=training))
        return self.head(keras.ops.mean(x, axis=(1, 2)))


def student(size=8, channels=3):
    """A Functional model with a Functional and a Sequential inside; four normalizations."""
    inner_input = keras.Input((size, size, 4))
    x = layers.DepthwiseConv2D(3, padding="same", use_bias=False)(inner_input)
    inner = keras.Model(inner_input, layers.ReLU()(layers.BatchNormalization(scale=False)(x)))
    tail = keras.Sequential([layers.Conv2D(6, 1), layers.BatchNormalization(center=False)])
    image = keras.Input((size, size, channels))
    x = layers.Conv2D(4, 3, padding="same")(image)
    x = layers.BatchNormalization(momentum=0.9)(x)
    x = tail(inner(x))
    x = layers.BatchNormalization(axis=3, epsilon=1e-5)(x)
    return keras.Model(image, layers.Dense(5)(layers.GlobalAveragePooling2D()(x)))


def normalization(channels=2, **options):
    layer = layers.BatchNormalization(**options)
    layer.build((None, 6, 6, channels))
    return layer


def twins(build):
    """Two models with equal weights, the second with the fused kernel installed."""
    plain, fast = build(), build()
    fast.set_weights(plain.get_weights())
    fused.install(fast)
    return plain, fast


def operations(function, *arguments):
    graph = tf.function(function).get_concrete_function(*arguments).graph
    return [operation.type for operation in graph.get_operations()]


def run(layer, x, training, mask=None):
    """Output and gradients (input, then trainable weights) of a weighted sum of the output."""
    with tf.GradientTape() as tape:
        tape.watch(x)
        with fused.active():
            y = layer(x, training=training, mask=mask)
        loss = tf.reduce_sum(tf.cast(y, tf.float32) * tf.random.stateless_normal(y.shape, (1, 2)))
    return y, tape.gradient(loss, [x, *layer.trainable_weights])


def assert_close(actual, expected, tolerance=1e-5):
    """Within `tolerance` of the largest entry of the expected tensor (at least 1)."""
    for a, b in zip(tf.nest.flatten(actual), tf.nest.flatten(expected), strict=True):
        a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * max(1.0, np.abs(b).max()))


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("options", [{}, {"scale": False}, {"center": False}, {"axis": 3}])
def test_hundred_steps_equal_the_keras_layer(training, options):
    shape = (6, 5, 7, 3)
    plain, fast = (layers.BatchNormalization(momentum=0.95, **options) for _ in range(2))
    for layer in (plain, fast):
        layer.build(shape)
    values = [np.random.uniform(0.5, 2.0, 3).astype("float32") for _ in plain.weights]
    plain.set_weights(values)
    fast.set_weights(values)
    assert fused.install(fast) == 1
    for _ in range(100):
        x = tf.random.normal(shape, mean=1.5, stddev=[0.5, 1.0, 5.0])
        expected, expected_gradients = run(plain, x, training)
        actual, gradients = run(fast, x, training)
        assert_close(actual, expected)
        assert_close(gradients, expected_gradients)
    for a, b in zip(fast.weights, plain.weights, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    moved = not np.allclose(fast.moving_mean, values[-2])
    assert moved == training


def test_moving_variance_is_the_biased_one():
    x = np.random.default_rng(0).normal(3.0, 2.0, (2, 2, 1, 3))
    layer = layers.BatchNormalization(momentum=0.0)
    layer.build(x.shape)
    fused.install(layer)
    with fused.active():
        layer(tf.constant(x, tf.float32), training=True)
    np.testing.assert_allclose(layer.moving_variance, x.var(axis=(0, 1, 2)), rtol=1e-5)
    np.testing.assert_allclose(layer.moving_mean, x.mean(axis=(0, 1, 2)), rtol=1e-5)


def test_one_value_a_channel():
    """Count 1: Bessel's correction would divide by zero; Keras keeps a variance of 0."""
    layer = layers.BatchNormalization(momentum=0.0)
    layer.build((1, 1, 1, 2))
    fused.install(layer)
    with fused.active():
        y = layer(tf.constant([[[[3.0, -4.0]]]]), training=True)
    np.testing.assert_array_equal(y, np.zeros((1, 1, 1, 2)))
    np.testing.assert_array_equal(layer.moving_variance, [0.0, 0.0])


def test_a_channel_far_from_zero():
    """Mean 100 deviations: E[x²] − E[x]² would lose the variance. The Keras layer in float64 is the
    reference, which the kernel holds in float32."""
    exact = normalization(dtype="float64", momentum=0.0)
    fast = normalization(momentum=0.0)
    fused.install(fast)
    x = tf.random.normal((8, 6, 6, 2), mean=100.0)
    expected, expected_gradients = run(exact, tf.cast(x, tf.float64), True)
    actual, gradients = run(fast, x, True)
    assert_close(actual, expected)
    assert_close(gradients, expected_gradients)
    np.testing.assert_allclose(fast.moving_variance, exact.moving_variance, rtol=1e-5)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
@pytest.mark.parametrize("training", [True, False])
def test_mixed_precision_computes_in_float32(policy, training):
    keras.config.set_dtype_policy(policy)
    plain, fast = twins(lambda: normalization(channels=3))
    x = tf.random.normal((16, 4, 4, 3), mean=2.0)
    expected, expected_gradients = run(plain, x, training)
    actual, gradients = run(fast, x, training)
    assert actual.dtype == expected.dtype == policy.removeprefix("mixed_")
    step = 2.0**-8 if policy == "mixed_bfloat16" else 2.0**-11  # one rounding of the last bit
    assert_close(tf.cast(actual, "float32"), tf.cast(expected, "float32"), 2 * step)
    assert_close(gradients[1:], expected_gradients[1:])
    assert_close(fast.get_weights(), plain.get_weights())
    assert "FusedBatchNormV3" in operations(lambda: run(fast, x, training)[0])


@pytest.mark.parametrize(
    ("build", "count"), [(student, 4), (Subclassed, 2), (lambda: keras.Sequential([student()]), 4)]
)
def test_training_a_model_gives_the_same_numbers(build, count):
    """100 SGD steps: gradients of every step meet in the final weights."""
    images = tf.random.normal((16, 8, 8, 3))
    labels = tf.random.uniform((16,), maxval=3, dtype=tf.int32)
    plain, fast = build(), build()
    plain(images), fast(images)
    fast.set_weights(plain.get_weights())
    assert fused.install(fast) == count
    cross_entropy = keras.losses.SparseCategoricalCrossentropy(from_logits=True)

    def training_step(model, optimizer):
        optimizer.build(model.trainable_variables)

        @tf.function
        def step():
            with tf.GradientTape() as tape, fused.active():
                loss = cross_entropy(labels, model(images, training=True))
            optimizer.apply(tape.gradient(loss, model.trainable_variables))
            return loss

        return step

    steps = [training_step(model, keras.optimizers.SGD(0.02)) for model in (plain, fast)]
    kernels = [step.get_concrete_function().graph.as_graph_def().node for step in steps]
    assert [sum(n.op == "FusedBatchNormV3" for n in nodes) for nodes in kernels] == [0, count]
    for _ in range(100):
        expected, actual = (float(step()) for step in steps)
        assert actual == pytest.approx(expected, abs=1e-5)
    assert_close(fast.get_weights(), plain.get_weights())


# Keras 3.12 has no renorm.
RENORM = (
    [(layers.BatchNormalization(renorm=True), (4, 5, 5, 6))]
    if "renorm" in inspect.signature(layers.BatchNormalization).parameters
    else []
)


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (layers.BatchNormalization(), (4, 6)),
        (layers.BatchNormalization(), (4, 5, 6)),
        (layers.BatchNormalization(axis=1), (4, 6, 5, 5)),
        *RENORM,
        (layers.BatchNormalization(synchronized=True), (4, 5, 5, 6)),
        (layers.LayerNormalization(), (4, 5, 5, 6)),
    ],
)
def test_layers_left_alone(layer, shape):
    layer.build(shape)
    assert fused.install(layer) == 0
    assert "call" not in layer.__dict__


def test_a_subclass_with_its_own_call_is_left_alone():
    class Doubled(layers.BatchNormalization):
        def call(self, inputs, training=None, mask=None):
            return 2 * super().call(inputs, training=training, mask=mask)

    class Kept(layers.BatchNormalization):
        pass

    assert fused.install(Doubled()) == 0
    assert fused.install(Kept()) == 1


def test_a_foreign_wrapper_is_left_alone():
    layer = layers.BatchNormalization()
    object.__setattr__(layer, "call", lambda inputs, training=None, mask=None: inputs)
    assert fused.install(layer) == 0


@pytest.mark.parametrize("reason", ["mask", "rank", "float64", "not active"])
def test_calls_that_stay_with_keras(reason):
    shape = (4, 5, 6) if reason == "rank" else (4, 5, 5, 6)
    dtype = "float64" if reason == "float64" else "float32"
    layer, twin = layers.BatchNormalization(dtype=dtype), layers.BatchNormalization(dtype=dtype)
    assert fused.install(layer) == 1  # not built yet: the rank is first known at the call
    x = tf.random.normal(shape, dtype=dtype)
    mask = tf.random.uniform(shape[:-1]) > 0.3 if reason == "mask" else None

    def call():
        if reason == "not active":
            return layer(x, training=True, mask=mask)
        with fused.active():
            return layer(x, training=True, mask=mask)

    assert_close(call(), twin(x, training=True, mask=mask), 0.0)
    assert "FusedBatchNormV3" not in operations(call)


def test_a_frozen_layer_runs_in_inference_mode():
    plain, fast = twins(student)
    plain.trainable = fast.trainable = False
    before = fast.get_weights()
    x = tf.random.normal((4, 8, 8, 3), mean=3.0)
    assert_close(run(fast, x, True), run(plain, x, True))
    assert_close(fast.get_weights(), before, 0.0)


def test_only_the_thread_that_entered_is_active():
    layer = layers.BatchNormalization()
    layer.build((2, 3, 3, 4))
    fused.install(layer)
    x = tf.zeros((2, 3, 3, 4))
    seen = []
    with fused.active():
        with fused.active():
            pass  # leaving the inner one leaves the outer one open
        assert "FusedBatchNormV3" in operations(lambda: layer(x, training=True))
        thread = threading.Thread(
            target=lambda: seen.extend(operations(lambda: layer(x, training=True)))
        )
        thread.start()
        thread.join()
    assert seen and "FusedBatchNormV3" not in seen


def recorder(layer, seen):
    """A wrapper in the manner of taps: keeps what it wraps in `inner`."""

    def call(*arguments, **options):
        output = call.inner(*arguments, **options)
        seen.append(output)
        return output

    call.inner = layer.call
    object.__setattr__(layer, "call", call)


@pytest.mark.parametrize("order", ["fused first", "wrapper first", "between"])
def test_composes_with_another_wrapper(order):
    layer, seen = layers.BatchNormalization(), []
    layer.build((2, 3, 3, 4))
    installs = {"fused first": "fr", "wrapper first": "rf", "between": "rfrf"}[order]
    for letter in installs:
        if letter == "f":
            assert fused.install(layer) == 1
        else:
            recorder(layer, seen)
    x = tf.random.normal((2, 3, 3, 4))
    with fused.active():
        y = layer(x, training=True)
    assert len(seen) == installs.count("r")
    assert all(output is y for output in seen)

    def call():
        with fused.active():
            return layer(x, training=True)

    assert operations(call).count("FusedBatchNormV3") == 1


def test_installing_twice_is_once():
    model = student()
    assert fused.install(model) == 4
    before = [layer.__dict__.get("call") for layer in model._flatten_layers()]
    assert fused.install(model) == 4
    assert [layer.__dict__.get("call") for layer in model._flatten_layers()] == before


def test_nothing_is_saved_cloned_or_exported(tmp_path):
    plain, fast = twins(student)
    x = tf.random.normal((2, 8, 8, 3))
    expected = plain(x)
    fast.save(tmp_path / "fast.keras")
    plain.save(tmp_path / "plain.keras")
    loaded = keras.models.load_model(tmp_path / "fast.keras")
    clone = keras.models.clone_model(fast)
    for copy in (loaded, clone):
        assert not any("call" in layer.__dict__ for layer in copy._flatten_layers())
    assert_close(loaded(x), expected, 1e-6)
    fast.export(tmp_path / "exported", verbose=False)
    served = tf.saved_model.load(tmp_path / "exported").signatures["serving_default"]
    assert_close(served(x), [expected], 1e-6)
    sizes = [(tmp_path / name).stat().st_size for name in ("fast.keras", "plain.keras")]
    assert abs(sizes[0] - sizes[1]) < 200  # names of layers differ, nothing else


def test_keeps_nothing_alive():
    model = student()
    fused.install(model)
    gone = weakref.ref(model)
    norm = weakref.ref(next(x for x in model._flatten_layers() if "call" in x.__dict__))
    del model
    keras.backend.clear_session()
    gc.collect()
    assert gone() is None and norm() is None


def test_beside_a_gpu_it_is_not_taken_for_faster(monkeypatch):
    device = type(tf.config.get_visible_devices()[0])
    gpu = device("/physical_device:GPU:0", "GPU")
    monkeypatch.setattr(fused._keras, "has_onednn", lambda: True)
    assert fused.faster() and fused.on_cpu()
    own = tf.config.get_visible_devices()
    monkeypatch.setattr(tf.config, "get_visible_devices", lambda: [*own, gpu])
    assert not fused.faster() and not fused.on_cpu()


@pytest.mark.parametrize("switch", ["0", "1"])
def test_faster_follows_onednn(switch):
    ran = subprocess.run(
        [sys.executable, "-c", "from tfkd import fused; print(fused.faster())"],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "PYTHONPATH": os.getcwd(), "TF_ENABLE_ONEDNN_OPTS": switch},
    )
    assert ran.stdout == f"{switch == '1'}\n", ran.stderr[-3000:]


MIRRORED = """
from tfkd import fused
import numpy as np, keras, tensorflow as tf

tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2)
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
x = tf.random.stateless_normal((8, 6, 6, 3), (1, 2), mean=1.0)
y = tf.random.stateless_uniform((8,), (3, 4), maxval=4, dtype=tf.int32)
data = tf.data.Dataset.from_tensor_slices((x, y)).batch(8)

class Fused(keras.Model):
    def __init__(self, student, on):
        super().__init__()
        self.student, self.on = student, on
    def call(self, x, training=None):
        if not self.on:
            return self.student(x, training=training)
        with fused.active():
            return self.student(x, training=training)

results = []
for on in (False, True):
    keras.utils.set_random_seed(0)
    with strategy.scope():
        student = keras.Sequential([
            keras.Input((6, 6, 3)), keras.layers.Conv2D(4, 3), keras.layers.BatchNormalization(),
            keras.layers.ReLU(), keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(4)])
        model = Fused(student, on)
        model.compile(keras.optimizers.SGD(0.1),
                      keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    assert fused.install(student) == 1
    model.fit(data, epochs=10, verbose=0)
    results.append(student.get_weights())
for plain, fast in zip(*results):
    np.testing.assert_allclose(fast, plain, rtol=0, atol=1e-5)
assert np.abs(results[1][4]).max() > 0.1  # the moving mean moved
print("equal")
"""


def test_mirrored_replicas_equal_the_keras_layer(tmp_path):
    assert forked.output_of(MIRRORED, tmp_path).endswith("equal\n")
