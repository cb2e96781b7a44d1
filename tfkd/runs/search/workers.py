"""A search shared by several processes, on this machine or on several hosts.

KerasTuner's chief hands out the trials and its workers train them; they find each other through
KERASTUNER_TUNER_ID, KERASTUNER_ORACLE_IP and KERASTUNER_ORACLE_PORT. KerasTuner's own chief never
ends once a worker has died; here it ends with the last trial, and dead local workers are restarted.
"""

import contextlib
import os
import subprocess
import sys
import time

import grpc

from tfkd import terminal
from tfkd.runs import children
from tfkd.runs.directory import SETTINGS, WORK
from tfkd.tuning import tuners

LOOPBACK = "127.0.0.1"
VARIABLES = ("KERASTUNER_TUNER_ID", "KERASTUNER_ORACLE_IP", "KERASTUNER_ORACLE_PORT")
# The process that started this one: a worker ends with it.
PARENT = "TFKD_SEARCH_PARENT"
MOST_DEATHS = 3  # of workers, without a trial that ended in between
POLL = 0.2  # seconds


def tuner_id():
    """KERASTUNER_TUNER_ID of a search over several hosts; None without.

    Raises:
        ValueError: only some of the three variables are set.
    """
    given = [name for name in VARIABLES if os.environ.get(name)]
    if given and len(given) < len(VARIABLES):
        missing = [name for name in VARIABLES if name not in given]
        raise ValueError(
            f"{' and '.join(given)} is set, but not {' and '.join(missing)}: for a search over "
            "several hosts set all three, else none."
        )
    return os.environ["KERASTUNER_TUNER_ID"] if given else None


def serve(oracle, progress):
    """Is the chief of workers on other hosts, until all trials are over.

    Args:
        oracle: of one of `tfkd.tuning`'s tuners.
        progress: what shows the trials.
    """
    ip, port = os.environ["KERASTUNER_ORACLE_IP"], os.environ["KERASTUNER_ORACLE_PORT"]
    if oracle.over:
        return
    with _served(oracle, ip, port) as (_, all_left):
        terminal.say(f"Waiting for workers at {ip}:{port}.")
        while not all_left():
            time.sleep(POLL)
            progress.update()


def supervise(oracle, progress, directory, workers):
    """Starts workers on this machine and sees that all trials are finished.

    Args:
        oracle, progress: as for `serve`.
        directory: `RunDirectory`, whose run.toml the workers read.
        workers: how many.

    Raises:
        ChildProcessError: workers keep dying.
    """
    if oracle.over:
        return
    logs = directory / WORK / "workers"
    logs.mkdir(parents=True, exist_ok=True)
    deaths, ended = 0, 0
    with _served(oracle, LOOPBACK, 0) as (port, _), contextlib.ExitStack() as stack:
        team = {}
        stack.callback(lambda: children.end(team.values()))
        for number in range(workers):
            name = f"tuner{number}"
            team[name] = _start(name, port, directory, logs)
        while any(process.poll() is None for process in team.values()):
            time.sleep(POLL)
            progress.update()
            for name, process in team.items():
                if not process.poll():
                    continue
                deaths = deaths + 1 if len(oracle.end_order) == ended else 1
                ended = len(oracle.end_order)
                if deaths > MOST_DEATHS:
                    raise ChildProcessError(_last_words(name, process, logs))
                terminal.say(f"Worker {name} died (exit code {process.returncode}); restarted.")
                team[name] = _start(name, port, directory, logs)


def find_chief(timeout):
    """Waits until the chief answers.

    Raises:
        TimeoutError: it does not.
    """
    with grpc.insecure_channel(chief_address()) as channel:
        try:
            grpc.channel_ready_future(channel).result(timeout)
        except grpc.FutureTimeoutError:
            raise unreachable(timeout) from None


def unreachable(timeout):
    """The error of a worker without a chief."""
    return TimeoutError(
        f"No chief answers at {chief_address()} within {timeout:g} s. Start it (the same command "
        "with KERASTUNER_TUNER_ID=chief); see that KERASTUNER_ORACLE_IP and KERASTUNER_ORACLE_PORT "
        "are the chief's and that this host may connect there. --worker-timeout waits longer."
    )


def chief_address():
    return f"{os.environ['KERASTUNER_ORACLE_IP']}:{os.environ['KERASTUNER_ORACLE_PORT']}"


def end_with_parent():
    """Ends this process when the one that started it as a local worker is gone."""
    if PARENT in os.environ:
        children.end_with_parent(int(os.environ[PARENT]))


@contextlib.contextmanager
def _served(oracle, ip, port):
    """Answers workers meanwhile; gives (port, function: whether none is left)."""
    server, bound, left = tuners.serve(oracle, ip, port)
    try:
        yield bound, left
    finally:
        server.stop(grace=1).wait()


def _start(name, port, directory, logs):
    variables = dict(zip(VARIABLES, (name, LOOPBACK, str(port)), strict=True))
    command = [sys.executable, "-m", "tfkd", "search"]
    command += ["--config", str(directory / SETTINGS), "--out", str(directory.path), "--trust"]
    environment = {**os.environ, **variables, PARENT: str(os.getpid())}
    with open(logs / f"{name}.log", "ab") as log:
        return subprocess.Popen(
            command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )


def _last_words(name, process, logs):
    return (
        f"Worker {name} died {MOST_DEATHS} times running without finishing a trial, the last time "
        f"with exit code {process.returncode}. {children.last_words(logs / f'{name}.log')}"
    )
