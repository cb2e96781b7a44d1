"""A search that takes no time: tiny models, random numbers as data."""

import keras
import numpy as np
import pytest

from tfkd import losses, tuning

CLASSES = 4


def make_dense(width=4, dropout=0.0):
    inputs = keras.Input((8,))
    hidden = keras.layers.Dense(width, activation="relu", name="hidden")(inputs)
    hidden = keras.layers.BatchNormalization()(hidden)
    hidden = keras.layers.Dropout(dropout)(hidden)
    return keras.Model(inputs, keras.layers.Dense(CLASSES)(hidden))


@pytest.fixture(scope="session")
def dense_model():
    """Makes a student of `width` hidden units and a rate of dropout."""
    return make_dense


@pytest.fixture(scope="session")
def teacher():
    """A fixed linear map that names the classes of `examples` without an error."""
    model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(CLASSES, name="features")])
    random = np.random.default_rng(0)
    model.set_weights([random.normal(size=(8, CLASSES)), np.zeros(CLASSES)])
    return model


@pytest.fixture(scope="session")
def examples(teacher):
    """(training arrays, validation arrays)."""
    x = np.random.default_rng(1).normal(size=(96, 8)).astype("float32")
    y = np.argmax(teacher.predict(x, verbose=0), axis=1)
    return (x[:64], y[:64]), (x[64:], y[64:])


@pytest.fixture
def hypermodel(teacher):
    """Makes a hypermodel of dense students; keyword arguments as the class's own."""

    def make(student=lambda: make_dense(dropout=0.3), given=None, **settings):
        given = [losses.LogitsDistillation(2.0)] if given is None else given
        settings.setdefault("student_loss_weight", tuning.Range(0.0, 1.0))
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        taught_by = settings.pop("teacher", teacher)
        return tuning.DistillationHyperModel(student, taught_by, given, loss=loss, **settings)

    return make


@pytest.fixture
def tuner(tmp_path):
    """Makes a tuner of a hypermodel, a random search by default, in the test's own directory."""

    def make(hypermodel, kind=tuning.RandomSearch, objective="val_accuracy", **settings):
        if kind not in (tuning.Hyperband, tuning.GridSearch):
            settings.setdefault("max_trials", 4)
        settings = {"project_name": "search", "directory": tmp_path, "seed": 0, **settings}
        return kind(hypermodel, objective=objective, **settings)

    return make


@pytest.fixture
def search(examples):
    """Runs a tuner on `examples`, and returns it."""

    def run(tuner, epochs=2):
        (x, y), validation = examples
        settings = {"epochs": epochs, "batch_size": 32, "verbose": 0}
        tuner.search(x, y, validation_data=validation, **settings)
        return tuner

    return run
