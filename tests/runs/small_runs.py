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
    # Dropout draws random numbers while it trains, BatchNormalization has statistics that move.
    "student": "small_runs:staged",
    "student_options": {"dropout": 0.3},
    "teacher": "small_runs:staged",
    "teacher_options": {"units": 16},
    "train_teacher": True,
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


def staged(shape, classes, units=4, dropout=0.0):
    """A quick network with a stage, for `--student small_runs:staged`."""
    image = keras.Input(shape, name="image")
    x = keras.layers.Rescaling(1 / 16)(image)
    x = keras.layers.Conv2D(units, 3, strides=2, use_bias=False, name="conv1")(x)
    x = keras.layers.ReLU(name="stage1_out")(keras.layers.BatchNormalization(name="norm1")(x))
    x = keras.layers.Dropout(dropout)(keras.layers.Flatten()(x))
    return keras.Model(image, keras.layers.Dense(classes, name="logits")(x), name="staged")


def net(shape, classes, units=4):
    """A quick network, for `--student small_runs:net`."""
    image = keras.Input(shape, name="image")
    x = keras.layers.Flatten(name="flat")(image)
    x = keras.layers.Dense(units, "relu", name="hidden")(x)
    return keras.Model(image, keras.layers.Dense(classes, name="logits")(x), name="net")
