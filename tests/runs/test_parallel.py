"""Students trained several at once: the figures of one after the other, whatever becomes of jobs.

The last test is for a machine where Dask is installed.
"""

import os
import pickle
import shutil
import socket
import threading
import time
from collections import Counter
from types import SimpleNamespace

import joblib
import pytest
import small_jobs
from small_runs import exact

from tfkd import _extras, recipes
from tfkd.files import DiskFullError
from tfkd.runs import (
    ChainSettings,
    CompareSettings,
    DistillSettings,
    RunDirectory,
    SettingsError,
    distill,
    job,
    parallel,
)
from tfkd.runs.rows import chain_table, compare_table, recipe_table


@pytest.fixture
def untrained(finished, tmp_path):
    """A copy of the finished run, its teacher trained and its two students not."""
    out = tmp_path / "run"
    shutil.copytree(finished[0], out)
    for name in ("seeds/3/alone.json", "seeds/3/distilled.json", "run.json", "history.csv"):
        (out / name).unlink()
    return out


def test_two_at_once_are_what_they_are_one_after_the_other(finished, small, untrained, capsys):
    record = distill(small.replace(jobs=3), untrained, resume=True)
    said = capsys.readouterr().out
    assert "Of 3 jobs 2 have a student to train at once." in said
    assert exact(record) == exact(finished[1])
    assert list(record["trainings"]) == list(finished[1]["trainings"])
    assert record["command"] == finished[1]["command"]
    for name in ("history.csv", "seeds/begun.json"):
        assert (untrained / name).read_bytes() == (finished[0] / name).read_bytes()
    for row in ("alone", "distilled"):  # trained, and not found
        seconds = [own["trainings"][f"3/{row}"]["seconds"] for own in (record, finished[1])]
        assert seconds[0] != seconds[1]
    assert not (untrained / ".work").exists() and not list(untrained.glob(".jobs*"))


class Trainings:
    """Trainings whose outcomes are files; what they are is no matter of how jobs are run."""

    def __init__(self, folder):
        self.directory, self.taken, self.said = RunDirectory(folder), [], []
        self.prepared = SimpleNamespace(table=None)

    def whole(self, part):
        path = self.directory / part
        return path.read_text() if path.exists() else None

    def take(self, part, name, outcome):
        self.taken.append(part)

    def say(self, text, style=None):
        self.said.append(text)


@pytest.fixture
def rounds(tmp_path, monkeypatch):
    """(function of names that runs them in two jobs, the trainings)."""
    monkeypatch.setattr(job, "work", small_jobs.work)
    jobs, trainings = parallel.Jobs("loky", 2), Trainings(tmp_path)
    jobs.begin(RunDirectory(tmp_path))
    students = [SimpleNamespace(part=n, name=f"Student {n}", about="") for n in "abcd"]
    step = SimpleNamespace(advance=lambda: None)
    yield parallel._Round(jobs, trainings, students, step).train, trainings
    jobs.close()


def test_a_job_that_is_killed_is_repeated(rounds, tmp_path):
    train, trainings = rounds
    (tmp_path / "b.kills").write_text("1")
    train()
    assert sorted(trainings.taken) == ["a", "b", "c", "d"]
    (died,) = [text for text in trainings.said if text.startswith("A job died")]
    assert "Student b" in died and "Student d" not in died
    begun = Counter(text for text in trainings.said if not text.startswith("A job"))
    assert begun["Student b"] == 2 and begun["Student d"] == 1


def test_a_job_that_is_killed_again_is_named(rounds, tmp_path):
    train, trainings = rounds
    (tmp_path / "c.kills").write_text("9")
    with pytest.raises(ChildProcessError, match='"c" died twice.*Fewer --jobs.*--resume goes on'):
        train()
    assert "c" not in trainings.taken
    assert (tmp_path / "c.kills").read_text() == "7"


def test_what_a_training_raises_is_raised_and_ends_the_others(rounds, tmp_path):
    train, trainings = rounds
    (tmp_path / "a.raises").write_text("The disk is full.")
    with pytest.raises(DiskFullError, match="^The disk is full.$"):
        train()
    assert "Student a failed" in trainings.said
    assert "d" not in trainings.taken


def test_a_cluster_that_begins_a_dead_job_anew_does_so_once(tmp_path):
    told = job.Told(str(tmp_path), "token", 1, (), {})
    (tmp_path / ".jobs").write_text("token")
    for _ in range(2):
        job._count_attempt(told, "0/alone")
    with pytest.raises(job.FailedError) as failed:
        job.work(told, None, "0/alone")
    part, error = failed.value.args
    assert part == "0/alone" and isinstance(error, ChildProcessError)
    again = told._replace(token="of the command with --resume")
    job._count_attempt(again, "0/alone")


def test_a_job_writes_only_for_the_command_that_began_it(tmp_path):
    told = job.Told(str(tmp_path), "token", 1, (), {})
    for written in (None, "another"):
        if written:
            (tmp_path / ".jobs").write_text(written)
        assert not job.may_write(told)
        with pytest.raises(job.FailedError) as failed:
            job.work(told, None, "0/alone")
        assert "does not see the run in" in str(failed.value.args[1])
    assert [path.name for path in tmp_path.iterdir()] == [".jobs"]
    with pytest.raises(job.FailedError) as failed:
        job.work(told._replace(parent=(socket.gethostname(), os.getpid())), None, "0/alone")
    assert "would train in the one that runs the experiment" in str(failed.value.args[1])


@pytest.mark.parametrize(("cores", "shares"), [(8, 3), (2, 2), (16, 16), (7, 1)])
def test_shares_of_the_cores_are_all_of_them_once(cores, shares):
    every = list(range(10, 10 + cores))
    own = [job.share_of(every, number, shares) for number in range(shares)]
    assert sum(own, []) == every
    assert max(map(len, own)) - min(map(len, own)) <= 1


def test_of_fewer_cores_than_jobs_each_job_has_one():
    assert Counter(core for n in range(6) for core in job.share_of([4, 5], n, 6)) == {4: 3, 5: 3}


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="The system has no such call.")
def test_a_job_keeps_to_a_share_that_no_other_process_has(tmp_path, monkeypatch):
    (tmp_path / ".work").mkdir()
    every = os.sched_getaffinity(0)
    told = job.Told(str(tmp_path), "token", 1, (), {}, shares={socket.gethostname(): 2})
    with job._own_cores(told):
        assert os.sched_getaffinity(0) == set(job.share_of(sorted(every), 0, 2))
        number, other = job._free_share(told, 2)
        assert number == 1
        monkeypatch.setattr(job, "PATIENCE", 0.2)
        assert job._free_share(told, 2) == (None, None)
    assert os.sched_getaffinity(0) == every
    other.release()
    job._leave_share()
    assert job._free_share(told, 1)[0] == 0


def test_rows_are_begun_after_those_that_teach_them():
    def names(table):
        return [sorted(group) for group in parallel._groups(table.rows)]

    several = chain_table(ChainSettings(generations=3))
    first = ["alone", "generation 1"]
    assert names(several) == [first, ["generation 2"], ["generation 3"]]
    between = chain_table(ChainSettings(assistant=("resnet depth=8", "resnet depth=14")))
    assert names(between) == [
        ["alone", "assistant resnet depth=8", "distilled"],
        ["assistant resnet depth=14"],
        ["through assistants"],
    ]
    compared = compare_table(CompareSettings(student=("resnet depth=8", "modified_alexnet")))
    assert list(map(len, names(compared))) == [4]


def test_tables_of_recipes_reach_another_process():
    """Their rows hold functions, some without a name."""
    cloudpickle = pytest.importorskip("cloudpickle")

    table = recipe_table(recipes.get("xu2022"), recipes.get("xu2022").settings(), ablate=True)
    there = pickle.loads(cloudpickle.dumps(table))
    assert [(row.name, row.settings) for row in there.rows] == [
        (row.name, row.settings) for row in table.rows
    ]


def test_how_many_jobs_is_said_as_joblib_users_say_it():
    settings = DistillSettings()
    assert parallel.jobs_of(settings) is None
    assert parallel.jobs_of(settings.replace(jobs=1)) is None
    assert parallel.jobs_of(settings.replace(jobs=4)).count == 4
    with joblib.parallel_config(n_jobs=3):
        assert parallel.jobs_of(settings).count == 3
        assert parallel.jobs_of(settings.replace(jobs=2)).count == 2
    with joblib.parallel_config(n_jobs=-1):
        one = parallel.jobs_of(settings)
        assert (one.count if one else 1) == joblib.cpu_count()
    with joblib.parallel_config(backend="threading", n_jobs=2):
        with pytest.raises(ValueError, match="at once by joblib's ThreadingBackend"):
            parallel.jobs_of(settings)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"jobs": 0}, "jobs is 0; it should be greater than or equal to 1"),
        ({"jobs": -1}, "jobs is -1; it should be"),
        ({"scheduler": "localhost:8786"}, "'localhost:8786'; expected .* tcp://HOST:PORT"),
        ({"scheduler": "tcp://10.0.0.1"}, "expected the address of a Dask scheduler"),
    ],
)
def test_jobs_that_cannot_be(values, message):
    with pytest.raises(SettingsError, match=message):
        DistillSettings(**values)


def test_how_it_is_trained_makes_no_other_run():
    settings = DistillSettings(jobs=4, scheduler="tcp://node:8786")
    assert DistillSettings().differences(settings) == []
    assert DistillSettings(epochs=4).differences(settings) == ["epochs: 4, not 30"]


@pytest.mark.parametrize(("scheme", "extra"), [("tcp", "dask"), ("ray", "ray")])
def test_a_scheduler_that_does_not_answer(monkeypatch, scheme, extra):
    monkeypatch.setitem(_extras.EXTRAS, extra, ())
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        address = f"{scheme}://127.0.0.1:{closed.getsockname()[1]}"
        with pytest.raises(TimeoutError, match=f"No scheduler answers at {address} within 10 s"):
            parallel.jobs_of(DistillSettings(scheduler=address))


@pytest.fixture
def workers(monkeypatch):
    """Two workers of Dask on this machine, which have the tests' path."""
    distributed = pytest.importorskip("distributed")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(os.sys.path))
    options = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None}
    with distributed.LocalCluster(**options) as cluster:
        yield cluster


def test_the_same_by_dask_where_a_worker_is_killed(finished, small, untrained, workers, tmp_path):
    pids = [worker.process.process.pid for worker in workers.workers.values()]
    attempts = untrained / ".work" / "3-distilled.attempts"

    def kill():
        while not attempts.exists():
            time.sleep(0.05)
        os.kill(pids[0], 9)

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    address = workers.scheduler_address
    record = distill(small.replace(scheduler=address), untrained, resume=True)
    killer.join(1)
    assert not killer.is_alive()
    assert exact(record) == exact(finished[1])
