"""What a search says of its trials: which to take, the table, the front, the picture."""

import csv
import io

import keras
import pytest
from matplotlib.image import imread
from rich.console import Console

from tfkd.runs import SearchSettings
from tfkd.runs.search import record, report
from tfkd.runs.search.picture import plot_search

METRIC = "val_accuracy"


def row(name, *accuracies, status="COMPLETED", width=0.25, epochs=5, **more):
    """A trial whose seeds 0, 1, ... ended in some accuracies."""
    seeds = [
        {"seed": 10 + n, "epochs": epochs, "metrics": {METRIC: own}, "history": {METRIC: [own]}}
        for n, own in enumerate(accuracies)
    ]
    mean = {METRIC: sum(accuracies) / len(accuracies)} if accuracies else {}
    return {
        "trial": name,
        "status": status,
        "score": mean.get(METRIC),
        "values": {"temperature": 4.0, "student_width": width},
        "mean": mean,
        "error": dict.fromkeys(mean, 0.01),
        "epochs": epochs if accuracies else 0,
        "seeds": seeds,
        "parameters": int(10_000 * width),
        "seconds": 1.25,
        "message": None,
        **more,
    }


@pytest.fixture
def settings():
    return SearchSettings(search_student_options={"width": "0.125,0.25,0.5"}, pareto="parameters")


def test_tied_trials_leave_the_defaults():
    rows = [row(name, 0.8, 0.81, 0.79, 0.8) for name in ("0000", "0001", "0002")]
    found = report.decide(rows, METRIC)
    assert (found["best"], found["kept"], found["differences"]) == ("0000", "0000", [0.0] * 3)
    assert found["said"] == (
        "Over 3 further seeds no trial was better than the defaults: the defaults are kept."
    )


@pytest.mark.parametrize(
    ("gains", "kept"),
    [
        ((0.02, 0.03, 0.04), "0001"),  # mean 0.03, standard error 0.01/√3: beyond three of them
        ((0.00, 0.03, 0.06), "0000"),  # the same mean, three times the error
        ((-0.02, -0.03, -0.04), "0000"),
    ],
)
def test_a_trial_is_taken_where_it_differs_beyond_the_spread_of_the_seeds(gains, kept):
    # The first seed chose the trial: it says nothing.
    rows = [row("0000", 0.1, 0.7, 0.8, 0.75), row("0001", 0.9, *(0.7, 0.8, 0.75))]
    for own, gain in zip(rows[1]["seeds"][1:], gains, strict=True):
        own["metrics"][METRIC] += gain
    found = report.decide(rows, METRIC)
    assert found["kept"] == kept
    assert found["best"] == ("0001" if gains[1] > 0 else "0000")
    if gains == (0.00, 0.03, 0.06):
        assert "+3.00 ± 1.73 points of validation accuracy" in found["said"]
        assert found["said"].endswith("not beyond chance: the defaults are kept.")


def test_a_difference_that_the_split_cannot_show_is_none():
    rows = [row("0000", 0.5, 0.5, 0.5, 0.5), row("0001", 0.5, 0.51, 0.51, 0.51)]
    assert report.decide(rows, METRIC, resolution=0.02)["kept"] == "0000"
    assert report.decide(rows, METRIC, resolution=0.005)["kept"] == "0001"


def test_a_low_entropy_is_good():
    rows = [row("0000", 0.5, 0.5, 0.6, 0.7), row("0001", 0.5, 0.3, 0.4, 0.5)]
    for own in (seed for one in rows for seed in one["seeds"]):
        own["metrics"]["val_cross_entropy"] = own["metrics"].pop(METRIC)
    found = report.decide(rows, "val_cross_entropy")
    assert found["kept"] == "0001" and "-0.20 ± 0.00 nats" in found["said"]


def test_among_equals_the_smaller_then_the_cheaper_is_taken():
    rows = [row("0000", 0.8, 0.8, 0.8, 0.8), row("0001", 0.8, 0.81, 0.79, 0.8, width=0.125)]
    assert report.decide(rows, METRIC)["kept"] == "0001"
    rows = [row("0000", 0.8, 0.8, 0.8, 0.8), row("0001", 0.8, 0.81, 0.79, 0.8)]
    costs = {"0000": 2, "0001": 1}
    assert report.decide(rows, METRIC, cost=lambda own: costs[own["trial"]])["kept"] == "0001"


def test_what_was_not_trained_to_the_end_is_not_compared():
    rows = [row("0000", 0.5, 0.5, 0.5), row("0001", 0.9, epochs=2), row("0002", 0.9)]
    assert report.decide(rows, METRIC)["best"] == "0000"


def test_with_one_seed_nothing_is_told_apart():
    found = report.decide([row("0000", 0.5), row("0001", 0.9)], METRIC)
    assert (found["best"], found["kept"]) == ("0001", "0000")
    assert "Give --executions 3 or more" in found["said"]


def test_defaults_that_fail_are_no_measure():
    failed = row("0000", status="FAILED", message="loss is no longer finite.")
    found = report.decide([failed, row("0001", 0.5), row("0002", 0.6)], METRIC)
    assert found["kept"] == "0002"
    assert found["said"].startswith("The defaults failed (loss is no longer finite.)")
    with pytest.raises(ValueError, match="None of 2 trials has a val_accuracy.*longer finite"):
        report.decide([failed, failed], METRIC)


def test_the_front_and_the_csv(settings):
    rows = [
        row("0", 0.90, width=0.25),
        row("1", 0.80, width=0.125),
        row("2", 0.85, width=0.25),
        row("3", 0.88, width=0.5),
        row("4", 0.95, width=0.5),
        row("5", status="FAILED", width=0.125, message="diverged"),
        row("6", 0.99, width=0.125, epochs=2),  # left the race: not to be compared
    ]
    front = report.front_of(rows, settings, info=None)
    assert [own["trial"] for own in front] == ["1", "0", "4"]
    lines = list(csv.DictReader(io.StringIO(report.results_csv(rows, settings, front))))
    assert [line["pareto"] for line in lines] == ["1", "1", "0", "0", "1", "0", "0"]
    assert lines[4]["val_accuracy"] == "0.95" and lines[4]["val_accuracy_error"] == "0.01"
    assert (lines[5]["status"], lines[5]["val_accuracy"]) == ("FAILED", "")
    assert lines[5]["message"] == "diverged" and lines[0]["seeds"] == "1"


def test_latencies_are_measured_once_for_each_architecture():
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


@pytest.mark.parametrize(("width", "values"), [(80, True), (40, False)])
def test_a_narrow_terminal_gets_the_trials_without_what_moved(width, values, monkeypatch):
    own = Console(width=width, file=io.StringIO())
    monkeypatch.setattr(report.terminal, "console", lambda: own)
    moved = {"student_loss_weight": 0.3, "softness": 0.8, "hint_weight": 0.1}
    rows = [{**row(name, 0.9, 0.8), "values": moved} for name in ("0000", "0001")]
    report._print(rows, SearchSettings(hints="auto"))
    lines = own.file.getvalue().splitlines()
    assert all(len(line) <= width for line in lines) and "…" not in own.file.getvalue()
    assert any("softness" in line for line in lines) == values and "0.8500 ± 0.0100" in lines[-1]


def test_the_picture_has_a_panel_for_race_finalists_each_value_and_the_front(settings, tmp_path):
    rows = [row("0", 0.9, 0.8), row("1", 0.8, width=0.125), row("2", status="FAILED", width=0.5)]
    rows[1]["values"]["temperature"] = 1.5
    plot_search(rows, settings, rows[:1], rows[1], tmp_path / "search.png")
    height, width, _ = imread(tmp_path / "search.png").shape
    assert (width, height) == (3 * 630, 2 * 510)  # five panels, three in the first line


@pytest.mark.parametrize("damage", ["", '{"format": 2}', "[]", '{"format": 1}', "\x00"])
def test_a_record_that_is_damaged_foreign_or_older_is_named(damage, tmp_path):
    (tmp_path / record.FILE).write_text(damage)
    said = []
    assert record.read(tmp_path, said.append) is None
    assert len(said) == 1 and str(tmp_path / record.FILE) in said[0]
