"""Two replicas train as one device does: C9."""

import json

import forked
import pytest


def test_two_replicas_equal_one_device(tmp_path):
    """In a process of its own, as the number of logical devices is fixed at TensorFlow's start."""
    found = json.loads(forked.output_of(_REPLICAS, tmp_path).splitlines()[-1])
    assert found["replicas"] == 2
    assert found["weights"] < 1e-6
    for name, value in found["one"].items():
        assert found["two"][name] == pytest.approx(value, rel=1e-5), name
    assert found["epochs"] == [1, 1]  # counted from 0: no batch is drawn but those of the two


_REPLICAS = """
import contextlib, json
import numpy as np, tensorflow as tf, keras
from keras import layers
import tfkd
from tfkd.data import pipeline
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)

def network(width):
    image = keras.Input((8, 8, 3))
    x = layers.Conv2D(width, 3, strides=2, kernel_regularizer="l2", name="stage1_out")(image)
    x = layers.BatchNormalization(synchronized=True)(x)
    x = layers.GlobalAveragePooling2D()(layers.ReLU()(x))
    return keras.Model(image, layers.Dense(4, kernel_regularizer="l2")(x))

def train(strategy):
    keras.utils.set_random_seed(0)
    with strategy.scope() if strategy else contextlib.nullcontext():
        losses = [tfkd.losses.LogitsDistillation(2.0), tfkd.losses.FeatureDistillation(
            "mse", "stage1_out", "stage1_out", normalize=True)]
        made = tfkd.Distiller(network(6), network(3), losses, [1.0, 0.5])
        made.compile(keras.optimizers.SGD(0.1), keras.losses.SparseCategoricalCrossentropy(True))
    random = np.random.default_rng(0)
    # The last batch, of 7, is not cut evenly.
    x, y = random.normal(size=(31, 8, 8, 3)).astype("float32"), random.integers(0, 4, 31)
    data = tf.data.Dataset.from_tensor_slices((x, y, random.uniform(size=31))).batch(8)
    counted = pipeline._epochs()
    data = counted.flat_map(lambda epoch: data)
    if strategy:
        data = strategy.experimental_distribute_dataset(data)
    logs = {k: v[-1] for k, v in made.fit(data, epochs=2, verbose=0).history.items()}
    return logs, [w.numpy() for w in made.trainable_variables], int(counted._tfkd_epoch)

strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
one, two = train(None), train(strategy)
apart = max(float(np.abs(a - b).max()) for a, b in zip(one[1], two[1], strict=True))
print(json.dumps({"replicas": strategy.num_replicas_in_sync, "weights": apart,
                  "one": one[0], "two": two[0], "epochs": [one[2], two[2]]}))
"""
