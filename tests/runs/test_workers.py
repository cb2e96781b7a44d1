"""Several workers train one run: the figures of one process, whatever dies on the way.

TFKD_KILLS=10 makes the test of random kills do so many.
"""

import csv
import os
import random
import signal
import socket
import sys
import threading
import time
from pathlib import Path

import keras
import numpy as np
import pytest
from small_runs import normalized, read_record

from tfkd.runs import DistillSettings, RunDirectory, WorkerSettings, distill
from tfkd.runs.hosts import Hosts
from tfkd.runs.lessons import Prepared
from tfkd.runs.rows import distill_table
from tfkd.runs.team import differences, identity
from tfkd.settings import SettingsError
from tfkd.settings.workers import Cluster

ROOT = Path(__file__).parents[2]
# The last of three batches holds 21 examples, which two workers cannot share evenly.
TINY = {
    "limit": 149,
    "epochs": 2,
    "teacher_epochs": 2,
    "seeds": 1,
    "teacher": "small_runs:normalized",
    "teacher_options": {"units": 16},
    "train_teacher": True,
    "any_teacher": True,
    "student": "small_runs:normalized",
    "tensorboard": False,
}
FIGURES = ("accuracy", "validation_accuracy")


@pytest.fixture(scope="module", autouse=True)
def found_by_workers():
    """Workers are processes of their own: what they import must be on their path, too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), str(Path(__file__).parent)]))
        patch.delenv("TF_CONFIG", raising=False)
        yield


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    """With a teacher that is given: students are trained as teachers are."""
    keras.utils.set_random_seed(1)
    path = tmp_path_factory.mktemp("teacher") / "teacher.keras"
    normalized((8, 8, 1), 10, units=16).save(path)
    given = {"teacher": str(path), "teacher_options": {}, "train_teacher": False}
    return DistillSettings(**TINY | given)


@pytest.fixture(scope="module")
def alone(settings, tmp_path_factory):
    """The directory of a run by this process alone."""
    out = tmp_path_factory.mktemp("runs") / "alone"
    distill(settings, out)
    return out


def workers_of(process):
    """{index: process number} of a supervisor's workers."""
    found = {}
    for path in Path(f"/proc/{process}/task").glob("*/children"):
        for child in path.read_text().split():
            try:
                words = Path(f"/proc/{child}/cmdline").read_text().split("\0")
            except OSError:
                continue
            if "tfkd.runs.worker" in words:
                found[int(Path(words[-2]).stem)] = int(child)
    return found


class Killer(threading.Thread):
    """Kills workers of this process in turn.

    Args:
        when: function (how many were killed before), True once the next one is to be killed.
        kills: how many.
        first: index of the first one.
    """

    def __init__(self, when, kills, first=1):
        super().__init__(daemon=True)
        self.when, self.kills, self.next, self.killed = when, kills, first, []
        self.over = threading.Event()

    def run(self):
        while len(self.killed) < self.kills and not self.over.wait(0.01):
            own = workers_of(os.getpid())
            if len(own) == 2 and self.when(len(self.killed)):
                os.kill(own[self.next], signal.SIGKILL)
                self.killed.append(own[self.next])
                self.next = 1 - self.next
                while any(Path(f"/proc/{child}").exists() for child in own.values()):
                    time.sleep(0.01)


def history(out):
    """[{column: number}] of the epochs of all trainings."""
    with open(out / "history.csv", newline="", encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    return [{k: float(v) for k, v in line.items() if v and k != "row"} for line in lines]


def same(one, other, tolerance):
    """Compares two runs' figures, their histories and the weights of all their models."""
    own, others = read_record(one), read_record(other)
    for row, seeds in own["figures"].items():
        for figures, compared in zip(seeds, others["figures"][row], strict=True):
            assert [figures[n] for n in FIGURES] == [compared[n] for n in FIGURES]
            assert figures["cross_entropy"] == pytest.approx(compared["cross_entropy"], rel=1e-5)
    for line, compared in zip(history(one), history(other), strict=True):
        assert line == pytest.approx(compared, rel=1e-5, abs=1e-5)
    for part, training in own["trainings"].items():
        assert training["epoch"] == others["trainings"][part]["epoch"]
        assert training.get("start") == others["trainings"][part].get("start")
        models = [
            keras.saving.load_model(RunDirectory(out).model_path(part), compile=False)
            for out in (one, other)
        ]
        for weight, compared in zip(*(model.get_weights() for model in models), strict=True):
            np.testing.assert_allclose(weight, compared, atol=tolerance)


def left_over(out):
    """What a finished run has no use for."""
    hidden = [path.name for path in out.iterdir() if path.name.startswith(".")]
    return hidden + [path.name for path in out.rglob(".partial*")]


def test_two_workers_one_of_them_killed_train_what_one_process_trains(
    settings, alone, tmp_path, capfd
):
    """The worker dies once the first checkpoint is there, which is within an epoch."""
    out = tmp_path / "shared"
    killer = Killer(lambda killed: any((out / ".work").glob("*.npz")), kills=1)
    killer.start()
    how = WorkerSettings(workers=2, checkpoint_minutes=1e-6)
    record = distill(settings, out, workers=how)
    killer.over.set()
    killer.join()
    assert len(killer.killed) == 1
    said = capfd.readouterr().out
    assert "Worker 1 died (SIGKILL). All workers are started again, and go on from the" in said
    assert "Going on from the last checkpoint: epoch " in said
    same(alone, out, tolerance=1e-5)
    assert record == read_record(out)
    assert "Trained by 2 workers, each batch shared out among them." in record["findings"]
    assert left_over(out) == [] and workers_of(os.getpid()) == {}
    # What they made is a run as any other: one process finds nothing left to do.
    assert distill(settings, out, resume=True) == record


def test_workers_that_die_again_and_again_end_the_run(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("sys.executable", "/bin/false")
    with pytest.raises(ChildProcessError, match=r"died 6 times running without getting on"):
        distill(DistillSettings(**TINY), tmp_path / "run", workers=WorkerSettings(workers=2))
    assert capsys.readouterr().out.count("All workers are started again") == 5
    assert not (tmp_path / "run").exists()


def test_what_a_worker_raises_is_raised(tmp_path, monkeypatch):
    """Other workers would wait for it for ever; nothing is started again."""
    worker = tmp_path / "worker"
    worker.write_text(
        f"#!{sys.executable}\nimport json, sys, time\n"
        "told = json.load(open(sys.argv[-1]))\n"
        "time.sleep(0 if told['index'] else 600)\n"
        "json.dump(['FileNotFoundError', 'No data here.'], open(told['error'], 'w'))\n"
        "sys.exit(3)\n"
    )
    worker.chmod(0o755)
    monkeypatch.setattr("sys.executable", str(worker))
    with pytest.raises(FileNotFoundError, match="No data here."):
        distill(DistillSettings(**TINY), tmp_path / "run", workers=WorkerSettings(workers=2))
    assert not (tmp_path / "run").exists() and workers_of(os.getpid()) == {}


def test_jobs_and_workers_exclude_each_other(tmp_path):
    with pytest.raises(SettingsError, match="give one of them"):
        given = DistillSettings(**TINY, jobs=2)
        distill(given, tmp_path / "run", workers=WorkerSettings(workers=2))


def test_a_worker_that_never_comes_is_named(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        absent = f"127.0.0.1:{free.getsockname()[1]}"
    given = WorkerSettings(cluster=("127.0.0.1:9", absent), index=0, worker_timeout=0.1)
    with pytest.raises(TimeoutError, match=rf"No answer within 0.1 s from worker 1 \({absent}\)"):
        distill(DistillSettings(**TINY), tmp_path / "run", workers=given)
    assert workers_of(os.getpid()) == {}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"seed": 5}, ["setting seed is 5, not 0"]),
        ({"epochs": 3, "batch_size": 32}, ["setting batch_size is 32", "setting epochs is 3"]),
        ({"limit": 148}, ["setting limit is 148, not 149", "data digits is 'sha256:"]),
    ],
    ids=["seed", "settings", "data"],
)
def test_workers_that_differ_are_named(changes, said):
    chief, other = (
        identity(Prepared(distill_table(DistillSettings(**TINY | own)))) for own in ({}, changes)
    )
    assert differences(chief, chief) == []
    found = differences(chief, other)
    assert len(found) == len(said)
    assert all(text in own for text, own in zip(sorted(said), sorted(found), strict=True))


def test_another_version_of_the_code_differs(monkeypatch):
    prepared = Prepared(distill_table(DistillSettings(**TINY)))
    before = identity(prepared)
    monkeypatch.setattr("tfkd.__version__", "0.0.1")
    (found,) = differences(before, identity(prepared))
    assert found.startswith("tfkd is '0.0.1, ")


def test_where_files_lie_may_differ(tmp_path):
    for folder in ("one", "other"):
        (tmp_path / folder).mkdir()
    found = [
        identity(
            Prepared(
                distill_table(DistillSettings(**TINY, data_dir=str(own), cache=str(own / "c")))
            )
        )
        for own in (tmp_path / "one", tmp_path / "other")
    ]
    assert found[0] == found[1]


# Supervisors of several hosts.


@pytest.fixture
def host(tmp_path):
    """Function that gives what a host's supervisor sees of the others: of its index."""
    directory = RunDirectory(tmp_path)
    return lambda index: Hosts(directory, Cluster(2, ("a:1", "b:2"), index))


def test_all_hosts_follow_an_attempt(host):
    chief, other = host(0), host(1)
    assert not chief.follow() and not other.follow()
    other.again()
    assert not other.follow()  # its own
    assert chief.follow() and not chief.follow()
    assert chief.attempt == other.attempt == 1
    # Both see a death at the same time: one attempt, not two.
    chief.again()
    other.again()
    assert not chief.follow() and not other.follow()


def test_a_supervisor_that_comes_back_has_the_others_start_again(host):
    chief, other = host(0), host(1)
    other = host(1)  # it was killed, and its worker with it
    assert chief.follow() and chief.attempt == other.attempt == 1


def test_a_host_that_gives_up_is_named_and_a_new_start_forgets_it(host):
    chief, other = host(0), host(1)
    other.failed("no data")
    with pytest.raises(ChildProcessError, match=r"worker 1 \(b:2\) gave up: no data"):
        chief.follow()
    chief, other = host(0), host(1)
    assert not chief.follow() and not other.follow()
    assert chief.attempt == other.attempt


def test_the_chief_says_when_the_run_is_over(host, tmp_path):
    chief, other = host(0), host(1)
    other.leave()
    assert not chief.over and not other.over
    chief.leave()
    assert other.over and list(tmp_path.iterdir()) == []
    other.again()  # it has not looked yet
    assert list(tmp_path.iterdir()) == []


def test_no_clock_has_a_say(host, tmp_path):
    chief, other = host(0), host(1)
    chief.again()
    for path, year in zip(sorted(tmp_path.rglob("*.json")), (1971, 2099), strict=True):
        os.utime(path, (0, (year - 1970) * 365 * 86400))
    assert other.follow() and not chief.follow()


# Kills at random moments.


def test_killed_at_random_moments_workers_end_in_the_same_figures(tmp_path, kills):
    """Each worker and the chief in turn."""
    if kills < 2:
        pytest.skip("Workers are killed at random moments with TFKD_KILLS=2 or more.")
    settings = DistillSettings(**TINY | {"epochs": 12, "teacher_epochs": 12, "batch_size": 16})
    how = WorkerSettings(workers=2, checkpoint_minutes=0.02)
    undisturbed = tmp_path / "undisturbed"
    begun = time.monotonic()
    distill(settings, undisturbed, workers=how)
    seconds, moments = min(time.monotonic() - begun, 120.0), random.Random(kills)
    lines = (undisturbed / "history.csv").read_text().count("\n")
    assert lines == 1 + 3 * 12
    done, first = 0, 1
    while done < kills:
        out = tmp_path / f"killed{done}"
        killer = Killer(moment(seconds, moments), kills - done, first)
        killer.start()
        distill(settings, out, workers=how)
        killer.over.set()
        killer.join()
        same(undisturbed, out, tolerance=1e-5)
        assert (out / "history.csv").read_text().count("\n") == lines
        assert left_over(out) == []
        done, first = done + len(killer.killed), killer.next


def moment(seconds, moments):
    """For `Killer`: random moments within so many seconds since the start, or the last kill."""
    state = {"killed": -1, "at": 0.0}

    def reached(killed):
        if killed != state["killed"]:
            state.update(killed=killed, at=time.monotonic() + moments.uniform(0, seconds))
        return time.monotonic() >= state["at"]

    return reached
