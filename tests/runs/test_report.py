"""Gains, their deviation and the sentences about them; what a record says of paths."""

import keras
import numpy as np
import pytest

from tfkd import data, evaluation, tasks
from tfkd.runs import RunDirectory
from tfkd.runs.advice import advice
from tfkd.runs.measuring import best_seed, gains, summary
from tfkd.runs.record import Record, Training
from tfkd.runs.report import show
from tfkd.runs.wording import gain_line, without_paths


def figures(alone, distilled):
    taught = [{"accuracy": a, "gain": a - b} for a, b in zip(distilled, alone, strict=True)]
    return {"alone": [{"accuracy": value} for value in alone], "distilled": taught}


def test_gains_are_paired_by_seed():
    # Differences 0.01, 0.03, 0.02: mean 0.02, sample standard deviation 0.01.
    found = gains(figures([0.90, 0.80, 0.85], [0.91, 0.83, 0.87]))
    assert list(found) == ["distilled"]
    assert found["distilled"]["accuracy"] == pytest.approx([0.01, 0.03, 0.02])
    assert found["distilled"]["mean"] == pytest.approx(0.02)
    assert found["distilled"]["std"] == pytest.approx(0.01)
    line = gain_line("distilled", found["distilled"], "alone")
    assert line.startswith("distilled minus alone, paired by seed: +2.00 ± 1.00 points")


def test_a_loss_is_stated_like_a_gain():
    found = gains(figures([0.9, 0.9], [0.88, 0.9]))["distilled"]
    assert "-1.00 ± 1.41 points of accuracy (-2.00, +0.00)" in gain_line("x", found, "alone")
    found = gains(figures([0.9], [0.88]))["distilled"]
    assert "one seed" in gain_line("x", found, "alone")


def test_one_value_has_no_deviation():
    result = summary(
        {"teacher": [{"accuracy": 0.5}], "student": [{"accuracy": 0.5}, {"accuracy": 0.7}]}
    )
    assert result["teacher"]["accuracy"] == {"mean": 0.5}
    assert result["student"]["accuracy"]["mean"] == pytest.approx(0.6)
    assert result["student"]["accuracy"]["std"] == pytest.approx(0.02**0.5)


def test_the_kept_seed_is_chosen_on_validation():
    scores = {0: (0.90, 0.30), 1: (0.95, 0.30), 2: (0.95, 0.20)}
    trainings = {
        seed: Training(epoch=1, accuracy=accuracy, cross_entropy=loss, seconds=1.0)
        for seed, (accuracy, loss) in scores.items()
    }
    assert best_seed(trainings, tasks.get("classification")) == 2


def test_the_table_is_followed_by_what_it_says(finished, capsys):
    """A run of three epochs: its only seed tells nothing, and the paragraph says what to try."""
    out, content = finished
    record = Record(**content)
    show(record, RunDirectory(out))
    printed = capsys.readouterr().out
    said = advice(record, out)
    assert f"--config {out}/run.toml" in said and said in printed
    assert advice(record) in (out / "table.md").read_text()
    own = content["figures"]["distilled"][0]
    assert f"distilled {own['temperature']:.2f})." in printed
    assert "calibration error, calibrated (%)" in printed
    assert any("144 validation images" in text for text in content["findings"])


def test_figures_at_the_fitted_temperature_are_those_of_the_divided_logits(finished):
    out, content = finished
    student = keras.models.load_model(out / "student.keras")
    splits = data.load("digits", limit=200)
    (validation, known), (test, labels) = (
        next(own.batch(500).as_numpy_iterator()) for own in (splits.validation, splits.test)
    )
    temperature = evaluation.fitted_temperature(student(validation), known)
    expected = evaluation.quality(np.asarray(student(test), "float64") / temperature, labels)
    own = content["figures"]["distilled"][0]
    assert own["temperature"] == pytest.approx(temperature, rel=1e-4)
    assert own["calibrated_cross_entropy"] == pytest.approx(expected["cross_entropy"], rel=1e-5)
    assert own["calibrated_calibration_error"] == pytest.approx(
        expected["calibration_error"], abs=1e-5
    )


def test_a_record_names_data_and_models_not_where_they_lie():
    settings = {
        "data": "/home/me/photos",
        "data_dir": "/home/me/tfds",
        "cache": "/tmp/cache",
        "teacher": "/home/me/t.keras",
        "student": "resnet",
        "epochs": 3,
    }
    assert without_paths(settings) == {
        "data": "photos",
        "teacher": "t.keras",
        "student": "resnet",
        "epochs": 3,
    }
    assert without_paths({"data": ["/a/b", "digits"]}) == {"data": ["b", "digits"]}
