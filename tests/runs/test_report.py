"""Gains, their deviation and the sentences about them; what a record says of paths."""

import pytest

from tfkd.runs.measuring import best_seed, gains, summary
from tfkd.runs.record import Training
from tfkd.runs.report import gain_line, without_paths


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
    assert best_seed(trainings) == 2


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
