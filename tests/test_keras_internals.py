"""What tfkd relies on of Keras's and TensorFlow's private names, one test for each."""

import ast
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from keras import layers, ops

import tfkd
from tfkd import _keras


def model():
    image = keras.Input((4,))
    hidden = layers.Dense(3, kernel_regularizer=keras.regularizers.L2(1.0), name="hidden")(image)
    return keras.Model(image, layers.Dense(2)(hidden))


def test_private_modules_are_named_in_one_place():
    root = Path(tfkd.__file__).parent
    found = set()
    for path in root.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            modules = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            modules += [a.name for a in node.names] if isinstance(node, ast.Import) else []
            if any(m.startswith(("keras.src", "tensorflow.python")) for m in modules):
                found.add(path.relative_to(root).as_posix())
    assert found == {"_keras.py"}  # KerasTuner's: tests/tuning


def test_masks_stand_on_tensors():
    tokens = tf.constant([[1, 0]])
    embedded = layers.Embedding(3, 2, mask_zero=True)(tokens)
    np.testing.assert_array_equal(_keras.mask_of(embedded), [[True, False]])
    kept = _keras.with_mask(2 * embedded, embedded)
    np.testing.assert_array_equal(_keras.mask_of(kept), [[True, False]])
    assert _keras.mask_of(tf.zeros(1)) is None


def test_keras_s_softmax_leaves_its_logits():
    logits = tf.constant([[1.0, 2.0]])
    assert _keras.logits_of(keras.activations.softmax(logits)) is logits
    assert _keras.logits_of(logits) is None


def test_the_layers_of_a_model():
    inner = keras.Sequential([keras.Input((2,)), layers.Dense(1, name="deep")], name="inner")
    image = keras.Input((2,))
    outer = keras.Model(image, inner(image))
    names = [layer.name for layer in _keras.layers_of(outer)]
    assert {"inner", "deep"} <= set(names) and outer.name not in names
    assert "deep" not in [layer.name for layer in _keras.layers_of(outer, recursive=False)]
    assert _keras.takes_training(outer)


def test_an_own_way_to_normalize_is_seen():
    class Own(layers.BatchNormalization):
        def _moments(self, inputs, mask):
            return super()._moments(inputs, mask)

    assert _keras.has_own_moments(Own()) and not _keras.has_own_moments(layers.BatchNormalization())


def test_the_graph_of_a_called_function():
    inner = tf.function(lambda x: tf.nn.softmax(x))
    outer = tf.function(lambda x: inner(x)).get_concrete_function(tf.TensorSpec((1, 2)))
    (call,) = (o for o in outer.graph.get_operations() if "PartitionedCall" in o.type)
    kinds = [operation.type for operation in _keras.function_graph(call).get_operations()]
    assert "Softmax" in kinds


def test_tensorflow_says_whether_it_has_onednn():
    assert isinstance(_keras.has_onednn(), bool)


def test_what_keras_made_of_a_name_is_told_from_what_a_user_made():
    loss = _keras.wrapped_loss(keras.losses.sparse_categorical_crossentropy, "x", from_logits=True)
    assert _keras.wraps_function(loss) is keras.losses.sparse_categorical_crossentropy
    assert _keras.settings_of(loss) == {"from_logits": True}
    assert _keras.wraps_function(keras.losses.SparseCategoricalCrossentropy()) is None
    assert _keras.settings_of(keras.losses.SparseCategoricalCrossentropy(ignore_class=3)) == {
        "from_logits": False,
        "ignore_class": 3,
        "axis": -1,
    }


def test_losses_and_metrics_of_a_built_compile_are_exchanged():
    made = model()
    own = keras.metrics.MeanSquaredError(name="own")
    made.compile("sgd", "mse", metrics=["mae", own])
    assert _keras.output_losses(made) == []
    made.evaluate(np.ones((2, 4)), np.ones((2, 2)), verbose=0)
    ((path, loss),) = _keras.output_losses(made)
    assert (path, loss.name) == ((), "mse")
    seen = []
    _keras.replace_losses(made, lambda path, given: seen.append(given) or given)
    _keras.replace_metrics(made, lambda position, given: seen.append((position, given)) or given)
    assert seen[0] is loss
    assert [(position, metric.name) for position, metric in seen[1:]] == [(0, "mae")]
    _keras.replace_losses(made, lambda path, given: lambda y, p, w: ops.sum(p) * 0.0 + 7.0)
    assert float(_keras.compiled_loss(made)(tf.ones((1, 2)), tf.ones((1, 2)), None)) == 7.0


def test_a_prepared_model_makes_its_variables_beforehand():
    class Prepared(_keras.PreparedModel):
        prepared = True

        def __init__(self):
            super().__init__()
            self.inner = model()
            self.built = True

        def call(self, x):
            return self.inner(x)

    made = Prepared()
    made.compile("adam", "mse", metrics=["mae"])
    assert not made.has_variables
    made.make_variables(keras.KerasTensor((None, 4)), keras.KerasTensor((None, 2)), training=True)
    assert made.has_variables
    assert made.optimizer.built
    (penalty,) = made.scaled_penalties()
    kernel = made.inner.get_layer("hidden").kernel.numpy()
    np.testing.assert_allclose(penalty, (kernel**2).sum(), rtol=1e-6)


def test_the_global_seed_generator_is_there_once_it_was_used():
    keras.backend.clear_session()
    assert not _keras.has_global_seed_generator()
    keras.random.normal((1,))
    assert _keras.has_global_seed_generator()


def test_symbolic_inputs_have_the_structure_of_the_shapes():
    found = _keras.symbolic_of_shapes({"a": (8, 3), "b": (8, 2, 2)})
    assert {name: tensor.shape for name, tensor in found.items()} == {
        "a": (None, 3),
        "b": (None, 2, 2),
    }


def test_how_many_axes_the_values_of_a_loss_have():
    y, p = tf.zeros((2, 3, 3)), tf.zeros((2, 3, 3, 4))
    sparse = keras.losses.SparseCategoricalCrossentropy()
    assert _keras.rank_of_values(sparse, y, p) == 3
    by_image = _keras.wrapped_loss(lambda y, p: ops.sum(p, axis=(1, 2, 3)), "by_image")
    assert _keras.rank_of_values(by_image, y, p) == 1
    assert _keras.spec_of(keras.KerasTensor((None, 2))) == tf.TensorSpec((None, 2), tf.float32)


def test_a_loss_is_scaled_for_replicas_as_keras_does():
    values = tf.constant([1.0, 3.0])
    assert float(_keras.reduce_weighted_values(values, tf.constant([1.0, 0.5]))) == 1.25
    mask = tf.constant([True, False])
    assert float(_keras.reduce_weighted_values(values, mask=mask, dtype="float32")) == 1.0
    assert float(_keras.unscale_loss_for_distribution(tf.constant(2.0))) == 2.0
    assert _keras.to_snake_case("BatchNormalization") == "batch_normalization"


def test_what_is_built_before_draws_no_batch_under_a_strategy():
    drawn = tf.Variable(0)
    data = tf.data.Dataset.range(3).map(lambda n: (tf.ones((2, 4)), tf.ones((2, 2))))
    counted = tf.data.Dataset.range(1).map(lambda _: drawn.assign_add(1)).flat_map(lambda _: data)
    with tf.distribute.OneDeviceStrategy("CPU:0").scope():
        made = model()
        made.compile("sgd", "mse", metrics=["mae"])
    _keras.build_parts(made, data.element_spec)
    assert made._compile_loss.built and made._compile_metrics.built and made.optimizer.built
    made.fit(counted, steps_per_epoch=3, verbose=0)
    assert int(drawn) == 1


def test_one_process_is_not_over_workers():
    # That two are, and what becomes of their logs: tests/distributed.
    one = tf.distribute.MirroredStrategy(["CPU:0"])
    assert not _keras.over_workers(one) and not _keras.over_workers(tf.distribute.get_strategy())


def test_a_replica_gets_what_the_dataset_holds():
    # With several replicas: tests/distiller/test_replicas.py.
    strategy = tf.distribute.MirroredStrategy(["CPU:0"])
    data = tf.data.Dataset.from_tensor_slices({"a": np.zeros((4, 2), "float32")}).batch(2)
    distributed = strategy.experimental_distribute_dataset(data)
    assert _keras.spec_of_replica(distributed.element_spec) == data.element_spec
