"""What the engine asks of a kind of task, and a run of one that is no classification."""

import csv
from typing import ClassVar

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfkd import losses, tasks
from tfkd.data.pipeline import index_batches
from tfkd.data.splits import DataInfo, Splits
from tfkd.evaluation.tables import Measure
from tfkd.recipes.base import System
from tfkd.runs import RunDirectory, engine, evaluate_run, report_run
from tfkd.runs.rows import Row, Table
from tfkd.settings import DistillSettings, SettingsError
from tfkd.tasks import get
from tfkd.tasks.base import Task


class Line(Task):
    """A number for two numbers, judged by the mean square error in thousandths."""

    name = "line"
    things = "points"
    figures: ClassVar = {"error": Measure("error (thousandths)", 1000, 1, True)}
    lower_is_better = True
    unit = "thousandths of error"
    names = ("wide", "narrow")

    def load(self, settings, limit=None):
        x = np.random.default_rng(0).normal(size=(90, 2)).astype("float32")
        y = np.sin(x.sum(axis=1, keepdims=True))
        parts = [
            tf.data.Dataset.from_tensor_slices((x[own], y[own]))
            for own in (slice(0, 50), slice(50, 70), slice(70, 90))
        ]
        sizes = {"train": 50, "validation": 20, "test": 20}
        return Splits(*parts, DataInfo("line", (), 0, (), sizes, "sha256:line"))

    def build(self, role, settings, info):
        units = {"wide": 8, "narrow": 3}[getattr(settings, role)]
        point = keras.Input((2,))
        hidden = keras.layers.Dense(units, "tanh", name="hidden")(point)
        return keras.Model(point, keras.layers.Dense(1, name="value")(hidden), name=role)

    def batches(self, dataset, settings, seed, info):
        x, y = (np.stack(own) for own in zip(*dataset.as_numpy_iterator(), strict=True))
        indexed = index_batches(len(x), settings.batch_size, shuffle=True, seed=seed)
        return indexed.map(lambda at, epoch: (tf.gather(x, at), tf.gather(y, at)))

    def loss(self, info, settings, judge):
        return keras.losses.MeanSquaredError()

    def judge(self, model, dataset, info, output=None):
        x, y = (np.stack(own) for own in zip(*dataset.as_numpy_iterator(), strict=True))
        return lambda: {"error": float(np.mean((model(x, training=False) - y) ** 2))}


class LineSettings(DistillSettings):
    learns: ClassVar = "line"
    teacher: str = "wide"
    student: str = "narrow"


def taught(settings, teacher, student):
    return System(student, [losses.FeatureDistillation("mse", "value", "value")], [0.5], 0.5)


@pytest.fixture
def line(monkeypatch):
    monkeypatch.setattr(tasks, "get", lambda name: Line() if name == "line" else get(name))


def test_a_task_that_is_no_classification_runs_whole(line, tmp_path, capsys):
    """Epochs, gains and words follow its own figure, of which less is better."""
    settings = LineSettings(epochs=3, teacher_epochs=4, seeds=2, batch_size=16, learning_rate=0.05)
    rows = [Row("alone", settings), Row("distilled", settings, taught, baseline="alone")]
    directory = RunDirectory(tmp_path / "run")
    record = engine.run(Table("distill", settings, rows, "distilled", command="x"), directory)
    task, points = Line(), Line().load(settings).test
    for seed in (0, 1):
        alone, own = (record.figures[row][seed]["error"] for row in ("alone", "distilled"))
        assert record.figures["distilled"][seed]["gain"] == alone - own
        model = keras.saving.load_model(directory.model_path(f"{seed}/distilled"))
        assert task.judge(model, points, None)()["error"] == pytest.approx(own, rel=1e-6)
        training = record.trainings[f"{seed}/distilled"]
        errors = _history(directory, "distilled", seed)
        assert training.figures["error"] == min(errors) == errors[training.epoch - 1]
    assert record.kept_seed == min(
        (0, 1), key=lambda seed: record.trainings[f"{seed}/distilled"].figures["error"]
    )
    assert record.gains["distilled"]["error"] == [
        own["gain"] for own in record.figures["distilled"]
    ]
    said = capsys.readouterr().out
    assert "alone minus distilled, paired by seed" in said and "thousandths of error" in said
    assert "50 training, 20 validation and 20 test points" in said and "accuracy" not in said
    page = report_run(directory.path).read_text(encoding="utf-8")
    assert "alone minus distilled" in page and "Calibration" not in page
    assert evaluate_run(directory.path) == record.figures


def _history(directory, row, seed):
    with open(directory / "history.csv", newline="", encoding="utf-8") as file:
        lines = [
            own for own in csv.DictReader(file) if (own["row"], own["seed"]) == (row, str(seed))
        ]
    return [float(own["val_error"]) for own in lines]


def test_names_of_models_are_those_of_the_task(line):
    with pytest.raises(SettingsError, match='"wider" for line. Did you mean "wide"'):
        LineSettings(teacher="wider")
    with pytest.raises(ValueError, match='Did you mean "classification"'):
        tasks.get("clasification")


def test_a_classifier_is_judged_by_accuracy_then_by_cross_entropy():
    task = tasks.get("classification")
    better, worse = ({"accuracy": 0.5, "cross_entropy": own} for own in (1.0, 2.0))
    assert task.score(better) > task.score(worse)
    assert task.gain(0.75, 0.5) == 0.25 and Line().gain(0.75, 0.5) == -0.25
    assert task.told(better) == "accuracy 50.00 %"
    assert Line().told({"error": 0.0123}) == "error 12.30 thousandths"
