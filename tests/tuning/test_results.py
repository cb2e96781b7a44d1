"""What trials ended in, as files; Pareto fronts of them."""

import itertools
import json
import math

import numpy as np
import pytest

from tfkd.tuning import mean_and_std, pareto, trials
from tfkd.tuning.results import Executions


def trial(directory, name, status="COMPLETED", score=0.5, message=None):
    path = directory / f"trial_{name}"
    path.mkdir()
    values = {"temperature": 4.0, "tuner/epochs": 3}
    state = {"trial_id": name, "status": status, "score": score, "message": message}
    state["hyperparameters"] = {"space": [], "values": values}
    (path / "trial.json").write_text(json.dumps(state))
    return Executions(path)


def test_mean_and_deviation_over_executions(tmp_path):
    executions = trial(tmp_path, "0", score=0.75)
    for number, accuracies in enumerate([[0.5, 0.25], [0.75, 1.0]]):
        history = {"val_accuracy": accuracies}
        executions.add(number, 7 + number, history, 1.5, 42, epoch=number + 1)
    (row,) = trials(tmp_path)
    assert row["mean"] == {"val_accuracy": 0.75}
    assert row["std"]["val_accuracy"] == pytest.approx(math.sqrt(0.125))
    assert [execution["seed"] for execution in row["executions"]] == [7, 8]
    assert (row["parameters"], row["seconds"], row["score"]) == (42, 3.0, 0.75)
    assert row["values"] == {"temperature": 4.0}


def test_a_repeated_trial_starts_anew(tmp_path):
    executions = Executions(tmp_path)
    for accuracy in (0.1, 0.2):
        executions.add(0, 0, {"val_accuracy": [accuracy]}, 1.0, 42, epoch=1)
        executions.add(1, 1, {"val_accuracy": [accuracy]}, 1.0, 42, epoch=1)
    assert [entry["metrics"]["val_accuracy"] for entry in executions.read()] == [0.2, 0.2]


def test_failed_running_and_half_written_trials(tmp_path):
    failed = trial(tmp_path, "0", "FAILED", score=None, message="Traceback\n  x\nErr.Error: late")
    failed.add(0, 0, {"loss": [math.nan]}, 1.0, 42, failure="it diverged")
    trial(tmp_path, "1", "INVALID", score=math.nan, message="Traceback\n  x\nKeyError: late")
    trial(tmp_path, "2", "RUNNING", score=None)
    trial(tmp_path, "3")
    (tmp_path / "trial_3" / "trial.json").write_text('{"trial')
    rows = trials(tmp_path)
    assert [row["status"] for row in rows] == ["FAILED", "INVALID", "RUNNING"]
    assert [row["message"] for row in rows] == ["it diverged", "late", None]
    assert [row["score"] for row in rows] == [None] * 3
    assert rows[0]["mean"] == {} and rows[2]["parameters"] is None
    assert json.loads(failed.path.read_text())[0]["history"] == {"loss": [None]}


def test_mean_and_std():
    assert mean_and_std([2.0]) == (2.0, None)
    assert mean_and_std([1.0, 3.0]) == (2.0, pytest.approx(math.sqrt(2)))


def row(accuracy, parameters):
    return {"accuracy": accuracy, "parameters": parameters}


def test_what_nothing_beats_stays_the_smallest_first():
    rows = [row(0.9, 300), row(0.8, 100), row(0.85, 400), row(0.7, 100), row(0.8, 200)]
    assert pareto(rows, "accuracy", "parameters") == [row(0.8, 100), row(0.9, 300)]


def test_of_equal_rows_the_first_stays():
    rows = [{**row(0.8, 100), "trial": name} for name in "ab"]
    assert pareto(rows, "accuracy", "parameters") == rows[:1]


def test_rows_without_a_figure_are_left_out():
    rows = [row(None, 1), row(float("nan"), 2), row(0.5, None), row(0.4, 9), {}]
    assert pareto(rows, "accuracy", "parameters") == [row(0.4, 9)]
    assert pareto([], "accuracy", "parameters") == []


def test_agrees_with_the_definition_on_random_rows():
    random = np.random.default_rng(0)
    rows = [row(int(a), int(p)) for a, p in random.integers(0, 12, size=(60, 2))]

    def beats(one, other):
        no_worse = one["accuracy"] >= other["accuracy"] and one["parameters"] <= other["parameters"]
        return no_worse and one != other

    front = pareto(rows, lambda r: r["accuracy"], lambda r: r["parameters"])
    expected = [r for r in rows if not any(beats(other, r) for other in rows)]
    assert {tuple(r.values()) for r in front} == {tuple(r.values()) for r in expected}
    assert all(a["parameters"] < b["parameters"] for a, b in itertools.pairwise(front))
