"""Whole searches on few digits: what they leave, rerunning, going on after a kill, workers."""

import contextlib
import csv
import hashlib
import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
from pathlib import Path

import keras
import pytest

from tfkd import evaluation
from tfkd.runs import DistillSettings, SearchSettings, distill
from tfkd.runs.search import running, search
from tfkd.runs.search.directory import SearchDirectory
from tfkd.runs.search.trials import prepare
from tfkd.runs.tasks import load_data

VARIABLES = ("KERASTUNER_TUNER_ID", "KERASTUNER_ORACLE_IP", "KERASTUNER_ORACLE_PORT")


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """Settings of three quick trials, with a teacher from a file."""
    keras.utils.set_random_seed(0)
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


# What no two runs have in common: times, and where they were.
TIMES = {"seconds", "seconds_of_trials", "finished", "latency_ms", "latency_p95_ms"}


def timeless(content):
    if isinstance(content, dict):
        return {name: timeless(value) for name, value in content.items() if name not in TIMES}
    return [timeless(value) for value in content] if isinstance(content, list) else content


def contents(out):
    """{file: what it holds}, without times: two searches of the same settings have the same."""
    paths, found = sorted(path for path in out.rglob("*") if path.is_file()), {}
    # Keras writes the time into every file: its hash stands for its weights, compared below.
    models = {
        hashlib.sha256(path.read_bytes()).hexdigest(): str(path.relative_to(out))
        for path in paths
        if path.suffix == ".keras"
    }

    def text_of(path):
        text = re.sub('"/[^"]*/', '"', path.read_text())  # without folders
        for digest, name in models.items():
            text = text.replace(digest, name)
        return text

    for path in paths:
        name = str(path.relative_to(out))
        if ".tfevents." in name:  # its name and every entry hold a time
            found[str(path.relative_to(out).parent)] = "events"
        elif path.suffix == ".json":
            found[name] = timeless(json.loads(text_of(path)))
        elif path.suffix == ".csv":
            rows = csv.DictReader(path.read_text().splitlines())
            found[name] = [timeless(row) for row in rows]
        elif path.suffix == ".toml":
            found[name] = text_of(path)
        elif path.suffix == ".md":  # full of latencies; its figures are those of run.json
            found[name] = "table"
        elif path.suffix == ".keras":
            with zipfile.ZipFile(path) as archive:
                weights = archive.read("model.weights.h5")
                # Keras names shared objects by their addresses in memory.
                config = re.sub(rb'"shared_object_id": \d+', b"", archive.read("config.json"))
                found[name] = weights, config
        else:
            found[name] = path.read_bytes()
    return found


def differences(out, other):
    own, others = contents(out), contents(other)
    return [name for name in sorted({*own, *others}) if own.get(name) != others.get(name)]


def figures(rows):
    """What trials tried and what came of it."""
    return [(row["trial"], row["status"], row["values"], row["mean"]) for row in rows]


def lines(out):
    with open(out / "results.csv", newline="") as file:
        return [{**line, "seconds": None} for line in csv.DictReader(file)]


def setup_of(settings, out):
    """(`TrialSetup`, `SearchDirectory`) of a search that has come to its trials."""
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
        *("teacher.keras", "teacher.json", "inputs.json", "trials", "tensorboard", "best"),
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


def test_killed_at_random_moments_and_continued_it_leaves_the_same(
    searched, small, tmp_path, monkeypatch
):
    """TFKD_KILLS says how often; every file is that of an undisturbed search, times apart."""
    out, temporary = tmp_path / "killed", tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    config = tmp_path / "settings.toml"
    config.write_text(small.to_toml())
    command = [sys.executable, "-m", "tfkd", "search", "--config", config, "--out", out]
    kills, chance = int(os.environ.get("TFKD_KILLS", 1)), random.Random(os.getpid())
    for kill in range(kills):
        # The first one falls into a trial, the others anywhere.
        awaited = out / ("trials/trial_0001/trial.json" if kill == 0 else "inputs.json")
        with open(tmp_path / "said.txt", "wb") as said:
            process = subprocess.Popen(command, stdout=said, stderr=said)
        deadline = time.monotonic() + 240
        while not awaited.exists() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.005)
        if kill:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(chance.uniform(2, 30))
        assert process.poll() in (None, 0), (tmp_path / "said.txt").read_text()
        process.send_signal(signal.SIGKILL)
        process.wait()
    record = search(small, out)
    assert figures(record["trials"]) == figures(searched[1]["trials"])
    assert differences(out, searched[0]) == []
    assert list(temporary.iterdir()) == []


def test_damaged_files_are_named_and_searched_past_to_the_same(searched, small, tmp_path, capsys):
    out = tmp_path / "damaged"
    shutil.copytree(searched[0], out)
    damaged = {
        "search.json": b"",
        "search.toml": b"",
        "teacher.keras": (out / "teacher.keras").read_bytes()[:-100],
        "trials/trial_0001/trial.json": (out / "trials/trial_0001/trial.json").read_bytes()[:50],
    }
    for name, content in damaged.items():
        (out / name).write_bytes(content)
    record = search(small, out)
    said = capsys.readouterr().out
    assert all(str(out / name) in said for name in damaged if name != "search.toml")
    assert figures(record["trials"]) == figures(searched[1]["trials"])
    # The final run knows the teacher by the hash of its file, which was written anew.
    assert set(differences(out, searched[0])) <= {"best/run.json", "best/seeds/begun.json"}


def test_a_search_means_the_same_elsewhere_and_refuses_another_teacher(searched, small, tmp_path):
    out, teacher = tmp_path / "moved", tmp_path / "elsewhere/teacher.keras"
    shutil.copytree(searched[0], out)
    for name in ("search.json", "inputs.json"):
        text = (out / name).read_text()
        assert str(searched[0]) not in text and os.path.dirname(small.teacher) not in text
    teacher.parent.mkdir()
    shutil.copyfile(small.teacher, teacher)
    here = small.replace(teacher=str(teacher))
    assert search(here, out) == searched[1]
    other = keras.models.load_model(teacher)
    other.set_weights([weights + 1 for weights in other.get_weights()])
    other.save(teacher)
    with pytest.raises(ValueError, match="the teacher changed"):
        search(here.replace(trials=4), out)


@pytest.fixture
def small_disk(tmp_path):
    """A function that mounts or enlarges a disk of so many kB; gives its path."""
    path = tmp_path / "disk"
    path.mkdir()

    def sized(kilobytes):
        again = "remount," if os.path.ismount(path) else ""
        options = f"{again}size={kilobytes}k"
        mount = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(path)]
        try:
            done = subprocess.run(mount, capture_output=True, text=True)
        except FileNotFoundError:
            pytest.skip("no mount command")
        if done.returncode:
            pytest.skip(f"nothing can be mounted here: {done.stderr}")
        return path

    yield sized
    if os.path.ismount(path):
        subprocess.run(["umount", "-l", str(path)], check=True)


def test_a_full_disk_is_said_and_the_same_command_goes_on(searched, small, small_disk):
    out = small_disk(200) / "out"
    with pytest.raises(OSError, match="is full. Free some space and go on with the same command"):
        search(small, out)
    names = {path.name for path in out.rglob("*") if path.name.startswith(".")}
    assert names <= {".work", ".lock"}
    small_disk(20_000)
    search(small, out)
    assert differences(out, searched[0]) == []


def test_a_student_that_moves_and_trials_that_diverge(small, tmp_path):
    """A grid over rate and width: what fails is recorded, and the search goes on."""
    settings = small.replace(
        tuner="grid",
        trials=4,
        student_options={"depth": 8},
        search={"learning_rate": "0.01,1e30"},
        search_student_options={"width": "0.25,0.5"},
    )
    setup, directory = setup_of(settings, tmp_path / "grid")
    rows = running.train_trials(setup, directory)
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
    setup, directory = setup_of(settings, tmp_path / "shared")
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
    rows = running.train_trials(setup, directory)
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
