"""Whole searches on few digits: what they leave, rerunning, going on after a kill, workers."""

import csv
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import keras
import pytest

from tfkd import evaluation
from tfkd.runs import DistillSettings, SearchSettings, distill
from tfkd.runs.search import running, search
from tfkd.runs.search.directory import SearchDirectory
from tfkd.runs.search.trials import prepare
from tfkd.runs.tasks import load_data
from tfkd.tuning import trials

VARIABLES = ("KERASTUNER_TUNER_ID", "KERASTUNER_ORACLE_IP", "KERASTUNER_ORACLE_PORT")


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """Settings of three quick trials, with a teacher from a file."""
    image = keras.Input((8, 8, 1))
    pixels = keras.layers.Rescaling(1 / 16)(keras.layers.Flatten()(image))
    path = tmp_path_factory.mktemp("teacher") / "teacher.keras"
    keras.Model(image, keras.layers.Dense(10)(pixels)).save(path)
    return SearchSettings(
        teacher=str(path),
        any_teacher=True,  # it was never trained
        student="resnet",
        student_options={"depth": 8, "width": 0.25},
        limit=128,
        epochs=1,
        seeds=1,
        seed=3,
        trials=3,
        hints="none",
        learning_rate=0.01,
    )


@pytest.fixture(scope="module", autouse=True)
def short_timing():
    """Latencies are no subject here."""
    kept = evaluation.costs.SECONDS_PER_MODEL
    evaluation.costs.SECONDS_PER_MODEL = 0.0
    yield
    evaluation.costs.SECONDS_PER_MODEL = kept


@pytest.fixture(scope="module")
def searched(small, tmp_path_factory):
    """(directory, record) of an undisturbed search."""
    out = tmp_path_factory.mktemp("searches") / "searched"
    return out, search(small, out)


def figures(rows):
    """What trials tried and what came of it."""
    return [(row["trial"], row["status"], row["values"], row["mean"]) for row in rows]


def lines(out):
    with open(out / "results.csv", newline="") as file:
        return [{**line, "seconds": None} for line in csv.DictReader(file)]


def ground_of(settings, out):
    """(`Ground`, `SearchDirectory`) of a search that has come to its trials."""
    directory = SearchDirectory(out)
    directory.path.mkdir()
    (directory / "search.toml").write_text(settings.to_toml())
    (directory / "teacher.keras").write_bytes(Path(settings.teacher).read_bytes())
    return prepare(settings, directory, load_data(settings)), directory


def test_a_search_leaves_what_it_promises(searched, small):
    out, record = searched
    names = {path.name for path in out.iterdir()}
    assert names == {
        *("search.toml", "search.json", "results.csv", "search.png", "best.toml"),
        *("teacher.keras", "teacher.json", "trials", "tensorboard", "best"),
    }
    assert SearchSettings.from_toml(out / "search.toml") == small
    assert json.loads((out / "search.json").read_text()) == record
    rows = record["trials"]
    assert [row["status"] for row in rows] == ["COMPLETED"] * 3
    assert rows[0]["values"] == {"student_loss_weight": 0.1, "temperature": 4.0}
    assert [line["trial"] for line in lines(out)] == ["0000", "0001", "0002"]
    for line, row in zip(lines(out), rows, strict=True):
        assert float(line["temperature"]) == row["values"]["temperature"]
        assert float(line["val_accuracy"]) == row["mean"]["val_accuracy"] == row["score"]
    assert record["final_seeds"] == [4]  # the trials' seed was 3
    assert set(record["figures"]) <= {"teacher", "alone", "defaults", "searched"}
    executions = list((out / "tensorboard").glob("*/execution0/events.*"))
    assert len(executions) == 3
    # The teacher's weights are in no checkpoint of a trial.
    sizes = [path.stat().st_size for path in (out / "trials").glob("*/checkpoint.npz")]
    assert len(sizes) == 3 and max(sizes) == min(sizes)


def test_best_toml_reruns_to_the_reported_figures(searched, tmp_path):
    out, record = searched
    again = distill(DistillSettings.from_toml(out / "best.toml"), tmp_path / "again")
    (reported,) = record["figures"]["searched"]
    (found,) = again["figures"]["distilled"]
    assert reported == {name: found[name] for name in reported}


def test_the_same_command_again_changes_nothing_and_another_is_refused(searched, small, tmp_path):
    out, record = searched
    before = (out / "search.json").stat().st_mtime_ns
    assert search(small, out) == record
    assert (out / "search.json").stat().st_mtime_ns == before
    with pytest.raises(ValueError, match="another search: epochs: 1, not 2.*--overwrite"):
        search(small.replace(epochs=2), out)
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="no search"):
        search(small, tmp_path)


def test_killed_in_a_trial_and_continued_to_the_same_trials(searched, small, tmp_path):
    out = tmp_path / "killed"
    config = tmp_path / "settings.toml"
    config.write_text(small.to_toml())
    command = [sys.executable, "-m", "tfkd", "search", "--config", config, "--out", out]
    with open(tmp_path / "said.txt", "wb") as said:
        process = subprocess.Popen(command, stdout=said, stderr=said)
    deadline = time.monotonic() + 240
    while not (out / "trials/trial_0001/trial.json").exists() and time.monotonic() < deadline:
        assert process.poll() is None, (tmp_path / "said.txt").read_text()
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = trials(out / "trials")
    assert before[0]["status"] == "COMPLETED" and len(before) < 4
    assert not (out / "search.json").exists()
    record = search(small, out)
    assert record["trials"][0] == {**before[0], "executions": record["trials"][0]["executions"]}
    assert figures(record["trials"]) == figures(searched[1]["trials"])
    assert lines(out) == lines(searched[0])
    assert record["figures"] == searched[1]["figures"]
    assert not (out / ".work").exists()


def test_a_student_that_moves_and_trials_that_diverge(small, tmp_path):
    """A grid over rate and width: what fails is recorded, and the search goes on."""
    settings = small.replace(
        tuner="grid",
        trials=4,
        student_options={"depth": 8},
        search={"learning_rate": "0.01,1e30"},
        search_student_options={"width": "0.25,0.5"},
    )
    ground, directory = ground_of(settings, tmp_path / "grid")
    rows = running.train_trials(ground, directory)
    tried = {(r["values"]["learning_rate"], r["values"]["student_width"]): r for r in rows}
    assert {key: own["status"] for key, own in tried.items()} == {
        (0.01, 0.25): "COMPLETED",
        (0.01, 0.5): "COMPLETED",
        (1e30, 0.25): "FAILED",
        (1e30, 0.5): "FAILED",
    }
    assert rows[0]["values"] == {"learning_rate": 0.01, "student_width": 0.25}
    assert "no longer finite" in tried[1e30, 0.25]["message"]
    assert tried[0.01, 0.25]["parameters"] < tried[0.01, 0.5]["parameters"]
    assert [line["status"] for line in lines(directory.path)].count("FAILED") == 2


def test_two_workers_one_of_them_killed_finish_all_trials(searched, small, tmp_path):
    settings = small.replace(workers=2)
    ground, directory = ground_of(settings, tmp_path / "shared")
    killed = []

    def kill_one():
        deadline = time.monotonic() + 240
        while not killed and time.monotonic() < deadline:
            time.sleep(0.005)
            if (directory / "trials/trial_0001/trial.json").exists():  # both are at work, or were
                for pid in children():
                    os.kill(pid, signal.SIGKILL)
                    killed.append(pid)
                    break

    killer = threading.Thread(target=kill_one)
    killer.start()
    rows = running.train_trials(ground, directory)
    killer.join()
    assert len(killed) == 1
    assert children() == []
    # As one process does it, whoever trained what.
    expected = figures(searched[1]["trials"])
    assert [own[:3] for own in figures(rows)] == [own[:3] for own in expected]
    for own, other in zip(rows, searched[1]["trials"], strict=True):
        assert own["mean"] == pytest.approx(other["mean"], abs=1e-3)


def children():
    """Process numbers of this process's workers."""
    found = []
    for path in Path(f"/proc/{os.getpid()}/task").glob("*/children"):
        found += [int(pid) for pid in path.read_text().split()]
    return [pid for pid in found if b"search" in Path(f"/proc/{pid}/cmdline").read_bytes()]


def test_a_worker_without_a_chief_says_where_it_looked(small, tmp_path, monkeypatch):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    for name, value in zip(VARIABLES, ("tuner0", "127.0.0.1", str(port)), strict=True):
        monkeypatch.setenv(name, value)
    with pytest.raises(TimeoutError, match=f"No chief answers at 127.0.0.1:{port} within 0.5 s"):
        search(small.replace(worker_timeout=0.5), tmp_path / "out")
    monkeypatch.delenv("KERASTUNER_ORACLE_PORT")
    with pytest.raises(ValueError, match="but not KERASTUNER_ORACLE_PORT"):
        search(small, tmp_path / "out")
    assert not (tmp_path / "out").exists()
