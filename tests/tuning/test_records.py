"""What trials ended in, as files."""

import json
import math

import pytest

from tfkd.tuning import mean_and_std, trials
from tfkd.tuning.records import Executions


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
