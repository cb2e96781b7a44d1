"""Whole searches on few digits: what they leave, rerunning, going on after a kill, workers."""

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

import forked
import keras
import pytest
import small_runs
from page_reader import Page

from tfkd.runs import DistillSettings, RunDirectory, SearchSettings, distill, engine
from tfkd.runs.rows import search_table
from tfkd.runs.search import running, search, trials

VARIABLES = ("KERASTUNER_TUNER_ID", "KERASTUNER_ORACLE_IP", "KERASTUNER_ORACLE_PORT")


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """Settings of three quick trials that race, with a teacher from a file."""
    keras.utils.set_random_seed(0)
    image = keras.Input((8, 8, 1))
    pixels = keras.layers.Rescaling(1 / 16)(keras.layers.Flatten()(image))
    path = tmp_path_factory.mktemp("teacher") / "teacher.keras"
    keras.Model(image, keras.layers.Dense(10)(pixels)).save(path)
    return SearchSettings(
        teacher=str(path),
        any_teacher=True,  # it was never trained
        student="small_runs:net",
        student_options={"units": 6},
        limit=128,
        epochs=5,
        seeds=1,
        seed=3,
        trials=4,
        executions=3,
        hints="none",
        augment="none",
        learning_rate=0.01,
    )


@pytest.fixture(scope="module")
def searched(small, tmp_path_factory):
    """(directory, record) of an undisturbed search."""
    out = tmp_path_factory.mktemp("searches") / "searched"
    return out, search(small, out)


@pytest.fixture
def elsewhere(monkeypatch):
    """Lets other processes find the student."""
    folders = [str(Path(small_runs.__file__).parent), *filter(None, sys.path)]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(folders))


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
        elif path.suffix in (".md", ".html"):  # full of latencies; figures are those of run.json
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


def figures(record):
    """What trials tried and what came of it."""
    names = ("trial", "status", "values", "epochs", "seeds", "mean", "error")
    return [[row[name] for name in names] for row in record["search"]["trials"]]


def lines(out):
    with open(out / "results.csv", newline="") as file:
        return list(csv.DictReader(file))


def trained(settings, out):
    """(rows of all trials, directory) of a search that comes to the end of its trials."""
    directory, table = RunDirectory(out), search_table(settings)
    with engine.opened(table, directory) as trainings:
        trainings.prepared.lessons[0].check(trials.trial_row(settings))
        trainings.begin()
        trainings.train_teachers()
        setup = trials.prepare(settings, trainings)
        return running.train_trials(setup, directory), directory


def test_a_search_leaves_what_it_promises(searched, small):
    out, record = searched
    found = record["search"]
    names = {path.name for path in out.iterdir()}
    assert names == {
        *("run.toml", "run.json", "student.keras", "seeds", "history.csv", "figures.csv"),
        *("table.md", "curves.png", "report.html", "report.json", "teacher.keras", "teacher.json"),
        *("search.json", "results.csv", "search.png", "best.toml", "trials", "tensorboard"),
    }
    assert SearchSettings.from_toml(out / "run.toml", trust=True) == small
    assert json.loads((out / "search.json").read_text()) == found
    assert {**json.loads((out / "run.json").read_text()), "search": found} == record
    first, *others = found["trials"]
    start = {name: getattr(small, name) for name in ("student_loss_weight", "softness")}
    assert first["values"] == start
    # Four begin, the best two go on and the defaults with them; the best of these and the defaults
    # get two further seeds.
    assert (first["epochs"], len(first["seeds"])) == (5, 3)
    raced = sorted((row["epochs"], len(row["seeds"])) for row in others)
    assert raced in ([(2, 1), (2, 1), (5, 3)], [(2, 1), (5, 1), (5, 3)])
    seeds = {own["seed"] for row in found["trials"] for own in row["seeds"]}
    assert seeds == {4, 5, 6} and record["seeds"] == [3]  # no final student had a trial's seed
    assert [line["trial"] for line in lines(out)] == ["0000", "0001", "0002", "0003"]
    for line, row in zip(lines(out), found["trials"], strict=True):
        assert float(line["softness"]) == row["values"]["softness"]
        assert float(line["val_accuracy"]) == row["mean"]["val_accuracy"] == row["score"]
    assert record["main"] in ("defaults", f"searched (trial {found['kept']})")
    assert {"teacher", "alone", "defaults", record["main"]} == set(record["figures"])
    trainings = list((out / "trials").glob("*/checkpoint.npz"))
    assert len(trainings) == len(list((out / "tensorboard").glob("*/events.*")))
    # The teacher's weights are in no checkpoint of a trial.
    assert len({path.stat().st_size for path in trainings}) == 1


def test_its_page_shows_trials_race_and_verdict(searched):
    out, record = searched
    page = Page((out / "report.html").read_text("utf-8")).check()
    found = record["search"]
    assert found["said"] in page.text
    lines = page.table("Trials, the kept one and the defaults first")[1:]
    assert {line[0] for line in lines} == {row["trial"] for row in found["trials"]}
    scores = {row["trial"]: row["score"] for row in found["trials"]}
    column = len(lines[0]) - 3
    assert all(line[column] == f"{100 * scores[line[0]]:.2f}" for line in lines)
    states = [line[-1] for line in lines]
    assert states[0].startswith("kept") and states.count("stopped after 2 epochs") >= 1
    assert all(len(found["race"][row["trial"]]) == row["epochs"] for row in found["trials"])
    assert "4 trials with a result are too few to tell which value mattered" in page.text
    assert page.source.count("<title>trial 000") == 4  # in the race a dot a trial


def test_best_toml_trains_the_final_students_again(searched, tmp_path):
    out, record = searched
    again = distill(DistillSettings.from_toml(out / "best.toml", trust=True), tmp_path / "again")
    (reported,), (found,) = record["figures"][record["main"]], again["figures"]["distilled"]
    exact = ("accuracy", "gain", "cross_entropy", "agreement", "validation_accuracy")
    assert [found[name] for name in exact] == [reported[name] for name in exact]


def test_the_same_command_again_changes_nothing_and_another_is_refused(searched, small, tmp_path):
    out, record = searched
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file()}
    assert search(small, out) == record
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file()} == before
    with pytest.raises(ValueError, match="other settings: epochs: 5, not 6.*--overwrite"):
        search(small.replace(epochs=6), out)
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="no run"):
        search(small, tmp_path)
    (tmp_path / "run.toml").write_text(DistillSettings().to_toml())
    with pytest.raises(FileExistsError, match="a run that is no search"):
        search(small, tmp_path)


def test_killed_at_random_moments_and_continued_it_leaves_the_same(
    searched, small, tmp_path, monkeypatch, kills
):
    """TFKD_KILLS says how often; every file is that of an undisturbed search, times apart."""
    out, temporary = tmp_path / "killed", tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    config = tmp_path / "settings.toml"
    config.write_text(small.to_toml())
    chance = random.Random(os.getpid())
    for kill in range(kills):
        # The first one falls into the race, the others anywhere.
        awaited = out / ("trials/trial_0005/trial.json" if kill == 0 else "run.toml")
        said = tmp_path / "said.txt"
        words = ("search", "--config", config, "--out", out, "--trust")
        process = forked.command(words, said=said, TMPDIR=str(temporary))
        deadline = time.monotonic() + 240
        while not awaited.exists() and process.is_alive() and time.monotonic() < deadline:
            time.sleep(0.005)
        if kill:
            process.join(chance.uniform(1, 25))
        assert process.exitcode in (None, 0), Path(f"{said}.err").read_text()
        process.kill()
        process.join()
    record = search(small, out)
    assert figures(record) == figures(searched[1])
    assert differences(out, searched[0]) == []
    assert list(temporary.iterdir()) == []


def test_damaged_files_are_named_and_searched_past_to_the_same(searched, small, tmp_path, capsys):
    out = tmp_path / "damaged"
    shutil.copytree(searched[0], out)
    half = {name: (out / name).read_bytes()[:50] for name in ("run.json", "search.json")}
    half["teacher.keras"] = (out / "teacher.keras").read_bytes()[:-100]
    for name in ("trials/trial_0001/trial.json", "trials/trial_0004/checkpoint.npz"):
        half[name] = (out / name).read_bytes()[:50]
    for name, content in half.items():
        (out / name).write_bytes(content)
    record = search(small, out)
    said = capsys.readouterr().out
    assert all(str(out / name) in said for name in half if name != "run.json")
    assert figures(record) == figures(searched[1])
    assert differences(out, searched[0]) == []


def test_a_search_means_the_same_elsewhere_and_refuses_another_teacher(searched, small, tmp_path):
    out, teacher = tmp_path / "moved", tmp_path / "elsewhere/teacher.keras"
    shutil.copytree(searched[0], out)
    for name in ("run.json", "search.json", "seeds/begun.json"):
        text = (out / name).read_text()
        assert str(searched[0]) not in text and os.path.dirname(small.teacher) not in text
    teacher.parent.mkdir()
    shutil.copyfile(small.teacher, teacher)
    here = small.replace(teacher=str(teacher))
    assert search(here, out) == searched[1]
    other = keras.models.load_model(teacher)
    other.set_weights([weights + 1 for weights in other.get_weights()])
    other.save(teacher)
    with pytest.raises(ValueError, match="the teacher teacher.keras changed"):
        search(here.replace(trials=5), out)


def test_more_trials_join_the_race(searched, small, tmp_path):
    out = tmp_path / "more"
    shutil.copytree(searched[0], out)
    before = {path: path.read_bytes() for path in out.glob("trials/*/trial.json")}
    record = search(small.replace(trials=5), out)
    rows, were = record["search"]["trials"], searched[1]["search"]["trials"]
    assert [row["values"] for row in rows[:4]] == [row["values"] for row in were]
    assert len(rows) == 5 and rows[4]["epochs"] in (2, 5)
    assert all(path.read_bytes() == content for path, content in before.items())


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
    with pytest.raises(OSError, match="is full.*go on with the same command"):
        search(small, out)
    names = {path.name for path in out.rglob("*") if path.name.startswith(".")}
    assert names <= {".work", ".lock"}
    small_disk(20_000)
    search(small, out)
    assert differences(out, searched[0]) == []


def test_a_student_that_moves_and_trials_that_diverge(small, tmp_path):
    """A grid over rate and size, the teacher live: what fails is recorded, and nothing stops."""
    settings = small.replace(
        tuner="grid",
        epochs=1,
        executions=1,
        cache_gb=0.0,
        student_options={},
        search={"learning_rate": "0.01,1e30"},
        search_student_options={"units": "16,32"},
    )
    rows, directory = trained(settings, tmp_path / "grid")
    tried = {(r["values"]["learning_rate"], r["values"]["student_units"]): r for r in rows}
    assert {key: own["status"] for key, own in tried.items()} == {
        (0.01, 16): "COMPLETED",
        (0.01, 32): "COMPLETED",
        (1e30, 16): "FAILED",
        (1e30, 32): "FAILED",
    }
    assert rows[0]["values"] == {"learning_rate": 0.01, "student_units": 16}
    assert "no longer finite" in tried[1e30, 16]["message"]
    assert tried[0.01, 16]["parameters"] < tried[0.01, 32]["parameters"]
    assert [line["status"] for line in lines(directory.path)].count("FAILED") == 2


def test_two_workers_one_of_them_killed_finish_all_trials(searched, small, tmp_path, elsewhere):
    out, killed = tmp_path / "shared", []

    def kill_one():
        deadline = time.monotonic() + 240
        while not killed and time.monotonic() < deadline:
            time.sleep(0.005)
            if (out / "trials/trial_0001/trial.json").exists():  # both are at work, or were
                for pid in children():
                    os.kill(pid, signal.SIGKILL)
                    killed.append(pid)
                    break

    killer = threading.Thread(target=kill_one)
    killer.start()
    rows, _ = trained(small.replace(workers=2), out)
    killer.join()
    assert len(killed) == 1
    assert children() == []
    # As one process does it, whoever trained what.
    expected = searched[1]["search"]["trials"]
    for own, other in zip(rows, expected, strict=True):
        assert [own[n] for n in ("trial", "status", "values", "epochs")] == [
            other[n] for n in ("trial", "status", "values", "epochs")
        ]
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
