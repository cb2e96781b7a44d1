"""What tests of runs share: small settings, and what of a record must not change."""

import json

import keras

SMALL = {
    "limit": 200,
    "epochs": 3,
    "teacher_epochs": 2,
    "seeds": 1,
    "seed": 3,
    "learning_rate": 0.01,
    # Dropout draws random numbers while it trains.
    "student_options": {"width": 0.05, "head": "fc", "dropout": 0.3},
    "teacher_options": {"depth": 8, "width": 0.25},
}
# Unlike latency and wall time these are the same whenever they are measured.
EXACT = (
    "accuracy",
    "gain",
    "validation_accuracy",
    "cross_entropy",
    "calibration_error",
    "agreement",
)


def exact(record):
    """The figures of a record that no machine's mood changes, and the weights it started from."""
    rows = record["figures"].items()
    figures = {
        row: [{k: own[k] for k in EXACT if k in own} for own in seeds] for row, seeds in rows
    }
    trainings = {
        part: {name: value for name, value in own.items() if name != "seconds"}
        for part, own in record["trainings"].items()
    }
    return figures, trainings


def read_record(out):
    return json.loads((out / "run.json").read_text(encoding="utf-8"))


def normalized(shape, classes, units=4):
    """A quick network with BatchNormalization, for `--student small_runs:normalized`."""
    image = keras.Input(shape, name="image")
    x = keras.layers.Flatten()(keras.layers.Rescaling(1 / 16)(image))
    x = keras.layers.Dense(units, use_bias=False)(x)
    x = keras.layers.ReLU()(keras.layers.BatchNormalization()(x))
    return keras.Model(image, keras.layers.Dense(classes)(x), name="normalized")


def net(shape, classes, units=4):
    """A quick network, for `--student small_runs:net`."""
    image = keras.Input(shape, name="image")
    x = keras.layers.Flatten(name="flat")(image)
    x = keras.layers.Dense(units, "relu", name="hidden")(x)
    return keras.Model(image, keras.layers.Dense(classes, name="logits")(x), name="net")
