"""Where a run trains: what is refused, even batches, two devices as one, and the loss's scale."""

import json
from types import SimpleNamespace

import forked
import keras
import numpy as np
import pytest
import tensorflow as tf

from tfkd.runs import DistillSettings, SearchSettings, devices
from tfkd.runs.checkpoints import Checkpoint, Progress
from tfkd.runs.lessons import load_data
from tfkd.settings import SettingsError


def test_what_is_refused(monkeypatch):
    settings = DistillSettings(strategy="mirrored", batch_size=9)
    with pytest.raises(ValueError, match="several GPUs, but there is one device here: .*CPU:0"):
        devices.check(settings)
    monkeypatch.setattr(devices, "local", lambda: ["GPU:0", "GPU:1"])
    with pytest.raises(ValueError, match="--batch-size 9 is no multiple of 2"):
        devices.check(settings)
    devices.check(settings.replace(batch_size=8))
    with pytest.raises(ValueError, match="for classes of images, not for segmentation"):
        devices.check(SimpleNamespace(strategy="mirrored", learns="segmentation"))
    with pytest.raises(ValueError, match="--jobs 2 several students at once"):
        devices.check(settings.replace(batch_size=8, jobs=2))
    with pytest.raises(SettingsError, match="whose layers have a precision of their own"):
        DistillSettings(student="mine.keras", precision="mixed_float16")
    for given in ({"precision": "mixed_bfloat16"}, {"strategy": "mirrored"}):
        with pytest.raises(SettingsError, match="A search trains in float32, on one device"):
            SearchSettings(**given)


def test_a_store_is_refused_by_tasks_that_read_none():
    with pytest.raises(ValueError, match="not of segmentation: leave --store out"):
        load_data(SimpleNamespace(learns="segmentation", store="here", limit=None))


def test_the_last_batch_is_cut_to_what_can_be_shared_out(monkeypatch):
    monkeypatch.setattr(devices, "_replicas", lambda: 4)
    for examples, sizes in (
        (16, [8, 8]),
        (20, [8, 8, 4]),
        (23, [8, 8, 4]),
        (19, [8, 8]),  # of a last batch of 3 nothing is left
        (3, []),
    ):
        data = tf.data.Dataset.range(examples).map(lambda n: (n, {"index": n})).batch(8)
        even = devices.even(data, examples, 8)
        seen = [(n.tolist(), own["index"].tolist()) for n, own in even.as_numpy_iterator()]
        assert [len(n) for n, _ in seen] == sizes and len(even) == len(sizes)
        assert sum((n for n, _ in seen), []) == list(range(sum(sizes)))
        assert all(n == index for n, index in seen)
    infos = [SimpleNamespace(name=f"d{n}", sizes={"train": n}) for n in (8, 23)]
    monkeypatch.setattr(devices, "local", lambda: list("abcd"))
    said = devices.findings(DistillSettings(strategy="mirrored"), infos)
    assert "over 4 devices" in said[0] and "leaves out 3 of d23, others" in said[1]
    assert devices.findings(DistillSettings(), infos) == []


def test_precision_is_set_and_set_back():
    keras.config.set_dtype_policy("mixed_bfloat16")
    with devices.used(DistillSettings()):
        assert keras.layers.Dense(1).compute_dtype == "float32"
    with devices.used(DistillSettings(precision="mixed_float16")):
        layer = keras.layers.Dense(1)
        assert (layer.compute_dtype, layer.variable_dtype) == ("float16", "float32")
    assert keras.config.dtype_policy().name == "mixed_bfloat16"


def test_a_checkpoint_holds_the_scale_of_the_loss(tmp_path):
    keras.config.set_dtype_policy("mixed_float16")

    def network():
        model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
        model.compile(keras.optimizers.Adam(0.1), "mse")
        model.optimizer.build(model.trainable_variables)
        return model

    model, other = network(), network()
    assert isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)
    model.optimizer.dynamic_scale.assign(64.0)
    model.optimizer.step_counter.assign(5)
    model.optimizer.inner_optimizer.iterations.assign(7)
    Checkpoint(tmp_path / "c.npz", "start").save(model, Progress(epochs=2))
    assert Checkpoint(tmp_path / "c.npz", "start").restore(other).epochs == 2
    optimizer = other.optimizer
    assert float(optimizer.dynamic_scale) == 64.0 and int(optimizer.step_counter) == 5
    assert int(optimizer.inner_optimizer.iterations) == 7
    np.testing.assert_array_equal(model.get_weights()[0], other.get_weights()[0])


def test_two_devices_train_as_one(tmp_path):
    """In a process of its own, as the number of logical devices is fixed at TensorFlow's start."""
    found = json.loads(forked.output_of(_MIRRORED, tmp_path).splitlines()[-1])
    assert found["replicas"] == [1, 2]
    assert found["start"] == 0  # the same first weights
    assert found["moved"] > 0.01 and found["apart"] < 1e-5
    assert found["history"][0] == pytest.approx(found["history"][1], rel=1e-5)
    assert found["synchronized"] == [False, True]


_MIRRORED = """
import json
from types import SimpleNamespace
import numpy as np, tensorflow as tf, keras
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
from tfkd.data.pipeline import from_arrays
from tfkd.runs import DistillSettings, devices
from tfkd.runs.checkpoints import Checkpoint
from tfkd.runs.team import Alone
from tfkd.runs.training import examples, train

random = np.random.default_rng(0)
x, y = random.integers(0, 256, (20, 4, 4, 1)).astype("uint8"), random.integers(0, 3, 20)

def trained(strategy):
    settings = DistillSettings(strategy=strategy, batch_size=8, augment="none", optimizer="sgd")
    devices.check(settings)
    with devices.used(settings):
        keras.utils.set_random_seed(0)
        image = keras.Input((4, 4, 1))
        hidden = keras.layers.Conv2D(4, 3, use_bias=False)(keras.layers.Rescaling(1 / 255)(image))
        hidden = keras.layers.ReLU()(keras.layers.BatchNormalization(name="norm")(hidden))
        hidden = keras.layers.Flatten()(hidden)
        model = keras.Model(image, keras.layers.Dense(3)(hidden))
        start = model.get_weights()
        data = from_arrays(x, y)
        batches = lambda context: examples(data, settings, 0, 1, context=context)
        splits = SimpleNamespace(validation=data, info=SimpleNamespace(num_classes=3))
        progress = train(model, model, batches, splits, settings, 2, 0, Checkpoint(None, ""),
                         Alone(), weights=1.0, classes=None)
        replicas = tf.distribute.get_strategy().num_replicas_in_sync
    return start, model.get_weights(), progress, replicas, model.get_layer("norm").synchronized

def apart(a, b):
    return max(float(np.abs(p - q).max()) for p, q in zip(a, b, strict=True))

one, two = trained("none"), trained("mirrored")
histories = [[v[-1] for k, v in sorted(own[2].history.items())] for own in (one, two)]
print(json.dumps({"start": apart(one[0], two[0]), "apart": apart(one[1], two[1]),
                  "moved": apart(one[0], one[1]), "history": histories,
                  "replicas": [one[3], two[3]], "synchronized": [one[4], two[4]]}))
"""
