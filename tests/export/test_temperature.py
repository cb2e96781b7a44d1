"""A student at a temperature: the same answers, the probabilities of softmax(z / T)."""

import keras
import numpy as np
import pytest

from tfkd.export import calibrated

TEMPERATURE = 2.5


def network(ending):
    """(model, its logits as a model) of three classes."""
    image = keras.Input((4, 4, 1), name="image")
    flat = keras.layers.Rescaling(1 / 255)(keras.layers.Flatten()(image))
    dense = keras.layers.Dense(3, kernel_initializer=keras.initializers.RandomNormal(0, 3, seed=1))
    logits = dense(flat)
    output = {
        "logits": lambda: logits,
        "softmax": lambda: keras.layers.Softmax()(logits),
        "activation": lambda: keras.layers.Activation("softmax", name="told")(logits),
        "kept": lambda: keras.layers.Identity()(keras.layers.Softmax()(logits)),
    }
    if ending == "dense":
        whole = keras.layers.Dense(3, activation="softmax")
        model = keras.Model(image, whole(flat), name="net")
        whole.set_weights(dense.get_weights())
        return model, keras.Model(image, logits)
    return keras.Model(image, output[ending](), name="net"), keras.Model(image, logits)


def softmax(logits):
    exponents = np.exp(logits - logits.max(axis=1, keepdims=True))
    return exponents / exponents.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("ending", ["logits", "softmax", "activation", "dense", "kept"])
def test_probabilities_are_those_of_the_divided_logits(ending):
    model, bare = network(ending)
    images = np.random.default_rng(0).integers(0, 256, (6, 4, 4, 1)).astype("float32")
    before, logits = np.asarray(model(images)), np.asarray(bare(images), "float64")
    found = calibrated(model, TEMPERATURE)
    answers = np.asarray(found(images), "float64")
    assert found.name == "net" and found.count_params() == model.count_params()
    if ending == "logits":
        np.testing.assert_allclose(answers, logits / TEMPERATURE, rtol=1e-6)
    else:
        np.testing.assert_allclose(answers, softmax(logits / TEMPERATURE), rtol=1e-4, atol=1e-7)
    np.testing.assert_array_equal(answers.argmax(axis=1), logits.argmax(axis=1))
    np.testing.assert_array_equal(model(images), before)  # the student itself stays as it is


def test_a_subclassed_student():
    class Own(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = keras.layers.Dense(3)

        def call(self, images):
            return self.dense(keras.ops.reshape(images, (-1, 4)))

    student = Own()
    images = np.arange(8, dtype="float32").reshape(2, 2, 2)
    expected = np.asarray(student(images)) / TEMPERATURE
    np.testing.assert_allclose(calibrated(student, TEMPERATURE)(images), expected, rtol=1e-6)


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("nan"), float("inf")])
def test_a_temperature_is_above_0_and_finite(temperature):
    with pytest.raises(ValueError, match="above 0 and finite; given"):
        calibrated(network("logits")[0], temperature)


def test_outputs_of_independent_labels_are_refused():
    image = keras.Input((3,))
    model = keras.Model(image, keras.layers.Dense(2, activation="sigmoid")(image))
    with pytest.raises(ValueError, match="independent_probabilities.*exclude each other"):
        calibrated(model, TEMPERATURE)
