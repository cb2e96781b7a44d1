import time

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfkd.evaluation import cost, costs, latencies


def small_model():
    return keras.Sequential(
        [
            keras.Input((2, 2, 1)),
            keras.layers.Flatten(),
            keras.layers.BatchNormalization(),
            keras.layers.Dense(3),
        ],
        name="small",
    )


class Recorder(keras.layers.Layer):
    """Passes its input through; notes each run (not each trace) under a name, and may sleep."""

    def __init__(self, name, journal, seconds=0.0):
        super().__init__(name=name)
        # Not the list itself: Keras would track a copy of it.
        self.write, self.seconds = journal.append, seconds

    def call(self, inputs):
        def note(values):
            self.write(self.name)
            time.sleep(self.seconds)
            return values

        outputs = tf.numpy_function(note, [inputs], tf.float32)
        outputs.set_shape(inputs.shape)
        return outputs

    def compute_output_shape(self, input_shape):
        return input_shape


def recording_model(name, journal, seconds=0.0):
    image = keras.Input((2, 2, 1))
    return keras.Model(image, Recorder(name, journal, seconds)(image), name=name)


def test_parameters_count_what_training_moves_and_what_not():
    # Dense: 4 x 3 + 3. BatchNorm of 4: gamma, beta, and two moving statistics.
    assert cost(small_model())["parameters"] == 15 + 16


def test_file_size_leaves_the_optimizer_out(tmp_path):
    model = small_model()
    plain = cost(model)["file_bytes"]
    model.compile("adam", "mse")
    model.fit(np.zeros((4, 2, 2, 1)), np.zeros((4, 3)), verbose=0)
    model.save(tmp_path / "with_optimizer.keras")
    assert cost(model)["file_bytes"] == plain
    assert plain < (tmp_path / "with_optimizer.keras").stat().st_size - 2000
    assert model.optimizer.iterations == 1


@keras.saving.register_keras_serializable("tfkd_tests")
class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.dense = keras.layers.Dense(3)

    def call(self, images):
        return self.dense(tf.reshape(tf.cast(images, tf.float32), (-1, 4)))

    def get_config(self):
        return {}


def test_a_subclassed_model_needs_the_image_shape_for_its_latency():
    model = Subclassed()
    model(np.zeros((1, 2, 2, 1), np.uint8))
    with pytest.raises(ValueError, match="give image_shape"):
        cost(model)
    figures = cost(model, image_shape=(2, 2, 1))
    assert figures["parameters"] == 15 and figures["file_bytes"] > 15 * 4


def test_an_open_input_size_needs_the_image_shape():
    image = keras.Input((None, None, 3))
    model = keras.Model(image, keras.layers.GlobalAveragePooling2D()(image), name="open")
    with pytest.raises(ValueError, match=r'"open" is open \(known: \(None, None, 3\)\)'):
        latencies({"open": model})
    assert set(latencies({"open": model}, (8, 8, 3))["open"]) == {"latency_ms", "latency_p95_ms"}


def test_models_take_turns(monkeypatch):
    monkeypatch.setattr(costs, "SECONDS_PER_MODEL", 0.0)
    journal = []
    latencies({name: recording_model(name, journal) for name in "ab"})
    warm_up = costs.WARM_UP_RUNS
    assert journal[: 2 * warm_up] == ["a"] * warm_up + ["b"] * warm_up
    # An untimed and a timed run each, in all 30 turns, out of time though they are.
    assert journal[2 * warm_up :] == ["a", "a", "b", "b"] * costs.FEWEST_RUNS


def test_a_run_of_five_milliseconds_measures_as_such(monkeypatch):
    monkeypatch.setattr(costs, "MOST_RUNS", 40)
    figures = latencies({"slow": recording_model("slow", [], 0.005)})["slow"]
    assert 5.0 <= figures["latency_ms"] < 15.0
    assert figures["latency_ms"] <= figures["latency_p95_ms"]
