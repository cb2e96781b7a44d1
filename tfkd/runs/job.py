"""One job: the training of one student in a process of its own.

A process that joblib's loky has started does it itself. A worker of Dask or Ray starts another one:
their own threads draw from Python's random numbers, which Keras takes its seeds from, and students
would start from other weights.
"""

import contextlib
import json
import os
import pickle
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import filelock

from tfkd.files import write_json
from tfkd.runs import children
from tfkd.runs.directory import JOBS, WORK, RunDirectory
from tfkd.runs.temporary import temporary_files_in
from tfkd.runs.tensorflow_output import import_tensorflow

ATTEMPTS = 2  # of one training under one command
PATIENCE = 5.0  # seconds until a process that was killed has left its share of the cores


class Told(NamedTuple):
    """What a job is told.

    Attributes:
        directory: of the run, an absolute path.
        token: what stands in the run's file `JOBS` while jobs of this command may write.
        threads: of TensorFlow, for one operation.
        parent: (host, process) that runs the experiment.
        policy: config of Keras's global dtype policy there.
        apart: whether the worker that is told trains in another process.
        shares: {host: into how many shares its cores are divided}; where it is not there they are
            not.
    """

    directory: str
    token: str
    threads: int
    parent: tuple
    policy: dict
    apart: bool = False
    shares: dict | None = None


class FailedError(Exception):
    """A training failed: (its name, the error)."""


class AbandonedError(RuntimeError):
    """The command that this job belongs to has ended."""


_settled = []  # the parent, once this process ends with it
_trainings = {}  # {token: `tfkd.runs.engine.Trainings`}, at most one
_share = {}  # {token: (number of a share of the cores, its lock)}, at most one


def work(told, table, part):
    """Trains one student; its files are what comes of it.

    Args:
        told: `Told`.
        table: `tfkd.runs.rows.Table`.
        part: name of the training.

    Returns:
        The name.

    Raises:
        FailedError: the training failed.
    """
    try:
        check_place(told)
        if told.apart:
            _train_apart(told, table, part)
        else:
            _count_attempt(told, part)
            _train(told, table, part)
    except Exception as error:
        raise FailedError(part, error) from error
    return part


def check_place(told):
    """Whether this process can train for the one that runs the experiment.

    Raises:
        ValueError: it is that one itself.
        FileNotFoundError: it does not see the run as that one does.
    """
    if (socket.gethostname(), os.getpid()) == told.parent:
        raise ValueError(
            "Each student needs a process of its own, but joblib would train in the one that runs "
            "the experiment: it is a daemon of multiprocessing, or Dask's workers are its threads "
            "(LocalCluster(processes=False)). Leave out jobs, or the cluster."
        )
    if not may_write(told):
        raise FileNotFoundError(
            f'The worker {socket.gethostname()}, process {os.getpid()}, does not see the run in "'
            f'{told.directory}". All workers share the run directory: give an --out on a file '
            "system that every host has under the same path."
        )


def may_write(told):
    """Whether the command that a job belongs to still runs."""
    with contextlib.suppress(FileNotFoundError):
        return (Path(told.directory) / JOBS).read_text(encoding="utf-8") == told.token
    return False


def died_twice(directory, part):
    """The error of a training whose process died again."""
    return ChildProcessError(
        f'The process of the training "{part}" died twice: it was killed, perhaps for want of '
        f'memory. What it said is in "{_file(directory, part, "log")}". Fewer --jobs need less '
        "memory; the same command with --resume goes on."
    )


def cores():
    """The cores that this process may use, list of int."""
    if hasattr(os, "sched_getaffinity"):  # not on macOS
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count()))


def share_of(cores, number, shares):
    """One of so many equal shares of a list of cores; of at least one core."""
    begin, end = (len(cores) * n // shares for n in (number, number + 1))
    return cores[begin:end] or [cores[begin % len(cores)]]


def _file(directory, part, suffix):
    return Path(directory) / WORK / f"{part.replace('/', '-')}.{suffix}"


def _count_attempt(told, part):
    """Dask begins the job of a worker that died anew, without asking."""
    path, before = _file(told.directory, part, "attempts"), {}
    with contextlib.suppress(FileNotFoundError):
        before = json.loads(path.read_text(encoding="utf-8"))
    attempts = before.get(told.token, 0)
    if attempts >= ATTEMPTS:
        raise died_twice(told.directory, part)
    write_json(path, {told.token: attempts + 1})


def _train_apart(told, table, part):
    """Trains in a new process, and in another one if that dies; ends it with the command."""
    import cloudpickle  # which Dask, Ray and newer versions of joblib bring along

    code = "from tfkd.runs import job; job.child()"
    told = told._replace(apart=False, parent=(socket.gethostname(), os.getpid()))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    log = _file(told.directory, part, "log")
    while True:
        _count_attempt(told, part)
        with open(log, "ab") as errors:
            pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": errors}
            child = subprocess.Popen([sys.executable, "-c", code], env=environment, **pipes)
        answer = _answer(child, cloudpickle.dumps((told, table, part)), told)
        if child.returncode == 0:
            if answer:
                raise pickle.loads(answer)
            return
        if child.returncode > 0:
            raise ChildProcessError(
                f'The process of the training "{part}" ended with exit code {child.returncode}. '
                f'What it said is in "{log}".'
            )


def _answer(child, given, told):
    """What a child answers; it is killed when the command that it belongs to has ended."""
    while True:
        try:
            return child.communicate(given, timeout=1)[0]
        except subprocess.TimeoutExpired:
            given = None
            if not may_write(told):
                child.kill()
                child.communicate()
                raise AbandonedError(f'The run in "{told.directory}" has ended.') from None


def child():
    """The process that `_train_apart` starts: what it is to do comes on stdin, an error goes back
    on stdout."""
    with os.fdopen(os.dup(1), "wb") as answer:
        os.dup2(2, 1)
        try:
            _train(*pickle.load(sys.stdin.buffer))
        except Exception as error:
            answer.write(pickle.dumps(error))


@contextlib.contextmanager
def _own_cores(told):
    """Keeps the threads that are begun meanwhile on this process's share of the host's cores."""
    shares, every = (told.shares or {}).get(socket.gethostname()), cores()
    if not shares or not hasattr(os, "sched_setaffinity"):
        yield
        return
    if told.token not in _share:
        _leave_share()
        _share[told.token] = _free_share(told, shares)
    number, _ = _share[told.token]
    if number is not None:
        os.sched_setaffinity(0, share_of(every, number, shares))
    try:
        yield
    finally:
        os.sched_setaffinity(0, every)


def _free_share(told, shares):
    """(number, lock) of a share that no other process of this host has, until this one ends.

    (None, None) where there are more processes than shares, as in a cluster that grows.
    """
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        for number in range(shares):
            path = Path(told.directory) / WORK / f"cores-{socket.gethostname()}.{number}"
            lock = filelock.FileLock(path, thread_local=False)
            with contextlib.suppress(filelock.Timeout):
                lock.acquire(timeout=0)
                return number, lock
        time.sleep(0.1)
    return None, None


def _leave_share():
    for _, lock in _share.values():
        if lock is not None:
            lock.release()
    _share.clear()


@contextlib.contextmanager
def _output_into(path):
    with open(path, "a", buffering=1, encoding="utf-8") as log:
        with contextlib.redirect_stdout(log), contextlib.redirect_stderr(log):
            yield


def _train(told, table, part):
    if not _settled:
        _settled.append(told.parent)
        children.end_with_parent(told.parent[1])
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent's Ctrl-C: it ends this process
    with _own_cores(told), _output_into(_file(told.directory, part, "log")):
        if told.token not in _trainings:
            _trainings.clear()
            _trainings[told.token] = _followed(told, table)
        trainings = _trainings[told.token]
        with temporary_files_in(told.directory):
            trainings.train(next(own for own in trainings.students if own.part == part))


def _followed(told, table):
    """The run as this process sees it: its data read, its models looked at."""
    import_tensorflow()
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(told.threads)
    import keras

    keras.config.set_dtype_policy(keras.dtype_policies.deserialize(told.policy))
    from tfkd.runs import engine, lessons
    from tfkd.runs.checkpoints import Checkpoint

    class Watched(Checkpoint):
        """Ends the training with the command that it belongs to."""

        def save(self, model, progress):
            self._check()
            super().save(model, progress)

        def write(self, model, progress):
            self._check()
            super().write(model, progress)

        def _check(self):
            if not may_write(told):
                raise AbandonedError(f'The run in "{told.directory}" has ended.')

    class Followed(engine.Trainings):
        checkpoint = Watched

    with temporary_files_in(told.directory):
        trainings = Followed(RunDirectory(told.directory), lessons.Prepared(table))
    trainings.follow()
    return trainings
