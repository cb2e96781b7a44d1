"""What a search says of its trials: the best, the table, the front, the picture."""

import csv
import io

import keras
import pytest
from matplotlib.image import imread

from tfkd.runs import SearchSettings
from tfkd.runs.search import report
from tfkd.runs.search.picture import plot_search


def row(name, accuracy=None, entropy=0.5, status="COMPLETED", width=0.25, **more):
    mean = {} if accuracy is None else {"val_accuracy": accuracy, "val_cross_entropy": entropy}
    return {
        "trial": name,
        "status": status,
        "score": accuracy,
        "values": {"temperature": 4.0, "student_width": width},
        "mean": mean,
        "std": dict.fromkeys(mean, 0.01),
        "executions": [{}] * 2,
        "parameters": int(10_000 * width),
        "seconds": 1.25,
        "message": None,
        **more,
    }


@pytest.fixture
def settings():
    return SearchSettings(search_student_options={"width": "0.125,0.25,0.5"}, pareto="parameters")


def test_the_best_has_the_best_objective_then_the_lower_cross_entropy_then_came_first(settings):
    rows = [row("0", 0.8, 0.3), row("1", 0.9, 0.5), row("2", 0.9, 0.4), row("3", 0.9, 0.4)]
    rows.append(row("4", status="FAILED"))
    assert report.best(rows, settings)["trial"] == "2"
    lowest = SearchSettings(objective="val_cross_entropy")
    assert report.best(rows, lowest)["trial"] == "0"


def test_without_a_finished_trial_there_is_no_best(settings):
    rows = [row(name, status="FAILED", message="loss is no longer finite.") for name in "01"]
    with pytest.raises(ValueError, match="None of 2 trials has a val_accuracy.*longer finite"):
        report.best(rows, settings)


def test_the_front_and_the_csv(settings):
    rows = [
        row("0", 0.90, width=0.25),
        row("1", 0.80, width=0.125),
        row("2", 0.85, width=0.25),
        row("3", 0.88, width=0.5),
        row("4", 0.95, width=0.5),
        row("5", status="FAILED", width=0.125, message="diverged"),
    ]
    front = report.front_of(rows, settings, info=None)
    assert [own["trial"] for own in front] == ["1", "0", "4"]
    lines = list(csv.DictReader(io.StringIO(report.results_csv(rows, settings, front))))
    assert [line["pareto"] for line in lines] == ["1", "1", "0", "0", "1", "0"]
    assert lines[4]["val_accuracy"] == "0.95" and lines[4]["val_accuracy_std"] == "0.01"
    assert (lines[5]["status"], lines[5]["val_accuracy"]) == ("FAILED", "")
    assert lines[5]["message"] == "diverged" and lines[0]["executions"] == "2"


def test_latencies_are_measured_once_for_each_architecture(settings):
    class Info:
        image_shape, num_classes = (8, 8, 1), 10

    settings = SearchSettings(
        student="resnet",
        student_options={"depth": 8},
        search_student_options={"width": "0.25,1.0"},
        pareto="latency",
    )
    rows = [row("0", 0.8, width=0.25), row("1", 0.9, width=1.0), row("2", 0.7, width=0.25)]
    front = report.front_of(rows, settings, Info)
    assert rows[0]["latency_ms"] == rows[2]["latency_ms"] > 0
    assert front[-1]["trial"] == "1" or front == [rows[1]]
    keras.backend.clear_session()


def test_the_picture_has_a_panel_for_each_weight_and_the_front(settings, tmp_path):
    rows = [row("0", 0.9), row("1", 0.8, width=0.125), row("2", status="FAILED", width=0.5)]
    rows[1]["values"]["temperature"] = 1.5
    plot_search(rows, settings, settings.space, rows[:1], tmp_path / "search.png")
    height, width, _ = imread(tmp_path / "search.png").shape
    assert width > height  # four panels, three in the first line
    assert report.difference_line(None).startswith("The defaults themselves")
    paired = {"accuracy": [0.01, -0.02], "mean": -0.005, "std": 0.0212}
    said = report.difference_line(paired)
    assert said.startswith("Searched minus defaults, paired by seed: -0.50 ± 2.12 points")
