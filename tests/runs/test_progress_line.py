"""One line a training on a terminal, one line an epoch in a log, at no cost for the step."""

import importlib.util
import io
import re
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

import tfkd
from tfkd.runs import progress_line

ROWS, BATCH, EPOCHS = 12, 4, 3


def screen_class():
    path = Path(__file__).parents[1] / "test_terminal.py"
    specification = importlib.util.spec_from_file_location("of_terminals", path)
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module.Screen


class Validated(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs):
        logs["val_accuracy"] = (epoch + 1) / 4


@pytest.fixture(scope="module")
def distiller():
    def net(width):
        image = keras.Input((6,))
        hidden = keras.layers.Dense(width, name="hidden")(image)
        return keras.Model(image, keras.layers.Dense(3)(hidden))

    given = [tfkd.losses.LogitsDistillation(), tfkd.losses.FeatureDistillation("mse", "hidden")]
    given[1].student_layer_name = "hidden"
    distiller = tfkd.Distiller(net(5), net(4), given)
    distiller.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return distiller


def fit(distiller, epochs=EPOCHS):
    random = np.random.default_rng(0)
    x, y = random.normal(size=(ROWS, 6)).astype("float32"), np.arange(ROWS) % 3
    with progress_line.training() as shown:
        own = [Validated(), shown]
        distiller.fit(x, y, batch_size=BATCH, epochs=epochs, callbacks=own, verbose=0)


def test_a_log_has_one_line_an_epoch(distiller, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    fit(distiller)
    lines = sys.stdout.getvalue().splitlines()
    assert len(lines) == EPOCHS and "\x1b" not in sys.stdout.getvalue()
    assert all(len(line) <= 80 for line in lines)
    for number, line in enumerate(lines, start=1):
        epoch, seconds, accuracy, loss, labels, logits, feature = line.split("  ")
        assert epoch == f"epoch {number}/3" and re.fullmatch(r"\d+ s", seconds)
        assert (
            accuracy.startswith(("val accuracy", "val acc", "acc")) and f"{25 * number}.0" in line
        )
        parts = {"loss": loss, "labels": labels, "logits": logits, "feature": feature}
        assert all(re.fullmatch(rf"{name} [\d.e-]+", part) for name, part in parts.items())


@pytest.mark.parametrize("width", [80, 40])
def test_a_terminal_has_one_line_that_fits(distiller, monkeypatch, width):
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(progress_line.terminal, "REFRESH", 1e-6)  # every step
    monkeypatch.setattr(sys, "stdout", screen_class()())
    fit(distiller)
    frames = sys.stdout.frames
    assert max(map(len, frames)) < width
    seen = [re.match(r"epoch (\d)/3 (\d/3|validating|first step)", line) for line in frames]
    states = list(dict.fromkeys(found.groups() for found in seen if found))
    expected = [(str(e), s) for e in (1, 2, 3) for s in ("1/3", "2/3", "validating")]
    assert states == [("1", "first step"), *expected]
    fitting = {80: ("loss", "labels", "logits"), 40: ("left",)}
    assert all(name in line for line in frames if "/3 2/3" in line for name in fitting[width])
    assert width == 40 or "acc 50.0%" in frames[-1]
    assert sys.stdout.getvalue().count("\n") <= 2  # the line is rewritten, not repeated


def test_more_than_three_parts_are_summed_up():
    line = progress_line.ProgressLine(None)
    model = keras.Sequential([keras.layers.Dense(1)])
    model.loss_trackers = [keras.metrics.Mean(name=f"hint_{n}") for n in range(3)]
    line.set_model(model)
    logs = {"loss": 1.0, "student_loss": 0.5, "distillation_loss": 0.25, "total_loss": 1.0}
    logs |= {"hint_0": 1.0, "hint_1": 1.0, "hint_2": 1.0, "val_loss": 1.0, "accuracy": 0.5}
    assert line._parts(logs) == ["loss 1", "labels 0.5", "distillation 0.25"]
    del logs["hint_2"]
    assert line._parts(logs) == ["loss 1", "labels 0.5", "hint 0 1", "hint 1 1"]
