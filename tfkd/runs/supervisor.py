"""Workers that train one run: started, watched, and all started again after any of them dies.

A worker that dies takes the others' steps with it, and one that is started again alone waits for
ever: so all end, and all go on from the last checkpoint. Every host has a supervisor of its own.
TensorFlow is not imported here.
"""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

import numpy as np

from tfkd import terminal
from tfkd.files import write_json, write_text
from tfkd.runs import children
from tfkd.runs.directory import SEEDS, WORK
from tfkd.runs.hosts import Hosts
from tfkd.runs.temporary import temporary_files_in
from tfkd.runs.worker import REFUSED
from tfkd.settings import SettingsError

MOST_DEATHS = 5  # without anything that was trained in between
POLL = 0.2  # seconds
ENDING = 10.0  # seconds that workers have to end after the chief
LOOPBACK = "127.0.0.1"
DEVICES = "CUDA_VISIBLE_DEVICES"  # which are dealt out among the workers of one machine
ERRORS = {own.__name__: own for own in (SettingsError, FileExistsError, FileNotFoundError, OSError)}


def run(settings, directory, cluster, how, overwrite=False, resume=False):
    """Trains a run by several workers.

    Args:
        settings: `DistillSettings`, with absolute paths.
        directory: `RunDirectory`.
        cluster: `tfkd.settings.workers.Cluster`.
        how: `tfkd.settings.workers.WorkerSettings`.
        overwrite, resume: as for `tfkd.runs.distill`.

    Returns:
        `Record`; None on a host that is not the chief's.

    Raises:
        TimeoutError: a worker of the cluster does not come.
        ChildProcessError: workers keep dying.
        ValueError, OSError: what a worker raises.
    """
    with temporary_files_in(directory.path):
        with directory.locked() if cluster.chief_is_here else contextlib.nullcontext():
            hosts = Hosts(directory, cluster)
            supervisor = Supervisor(settings, directory, cluster, how, hosts)
            try:
                supervisor.run(overwrite, resume)
            except BaseException as error:
                hosts.failed(str(error) or type(error).__name__)
                raise
            hosts.leave()
    return directory.record() if cluster.chief_is_here else None


class Supervisor:
    """The workers of this host; see `run`."""

    def __init__(self, settings, directory, cluster, how, hosts):
        self.directory, self.cluster, self.how, self.hosts = directory, cluster, how, hosts
        self._folder = Path(tempfile.mkdtemp(prefix="workers-"))
        write_text(self._folder / "settings.toml", settings.to_toml())
        self._begun, self._finished = self._folder / "begun", self._folder / "finished"
        own = range(cluster.size) if cluster.index is None else [cluster.index]
        self._own, self._processes, self._deaths, self._kept = own, {}, 0, None

    def run(self, overwrite, resume):
        """Starts all again and again, until the run is finished."""
        flags = {"overwrite": overwrite, "resume": resume}
        try:
            while True:
                if self._begun.exists():
                    flags = {"overwrite": False, "resume": self.directory.begun}
                self._start(flags)
                if self._watch():
                    return
                self._end()
        finally:
            self._end()

    def _start(self, flags):
        addresses = self.cluster.addresses or _free_addresses(self.cluster.size)
        environment = dict(os.environ)
        devices = [text for text in environment.get(DEVICES, "").split(",") if text]
        if not self.cluster.addresses:
            # TensorFlow would start a thread for every processor in every worker.
            threads = max(1, (os.cpu_count() or 1) // self.cluster.size)
            environment.setdefault("TF_NUM_INTRAOP_THREADS", str(threads))
        for index in self._own:
            if devices and not self.cluster.addresses:
                environment[DEVICES] = devices[index % len(devices)]
            told = {
                **flags,
                **{"addresses": list(addresses), "index": index, "parent": os.getpid()},
                **{"out": str(self.directory.path), "settings": self._path("settings.toml")},
                **{"begun": str(self._begun), "finished": str(self._finished)},
                **{"error": self._path(f"error-{index}")},
                "checkpoint_minutes": self.how.checkpoint_minutes,
            }
            write_json(self._path(f"{index}.json"), told)
            command = [sys.executable, "-m", "tfkd.runs.worker", self._path(f"{index}.json")]
            with contextlib.ExitStack() as stack:
                streams = {}
                if index != self._own[0]:
                    log = stack.enter_context(open(self._path(f"{index}.log"), "ab"))
                    streams = {"stdout": log, "stderr": log}
                self._processes[index] = subprocess.Popen(
                    # In a session of its own it does not hear Ctrl-C: this process ends it.
                    *(command,),
                    env=environment,
                    stdin=subprocess.DEVNULL,
                    start_new_session=True,
                    **streams,
                )

    def _path(self, name):
        return str(self._folder / name)

    def _watch(self):
        """Whether the run is finished, once it is or a worker has died."""
        waiting = {index for index in range(self.cluster.size) if index not in self._own}
        deadline = time.monotonic() + self.how.worker_timeout
        while True:
            time.sleep(POLL)
            codes = {index: process.poll() for index, process in self._processes.items()}
            first = self._own[0]
            if codes[first] == 0 or (first == 0 and codes[0] is not None and self._is_finished()):
                self._wait()
                return True
            self._raise_refused(codes)
            if self.hosts.over:
                return True
            if any(codes.values()):
                self._mourn(codes)
                self.hosts.again()
                return False
            if self.hosts.follow():
                terminal.say("A worker on another host died; all are started again.")
                return False
            waiting = {i for i in waiting if not _reachable(self.cluster.addresses[i])}
            if waiting and time.monotonic() > deadline:
                raise self._alone(waiting)

    def _is_finished(self):
        return self._finished.exists()

    def _wait(self):
        deadline = time.monotonic() + ENDING
        for process in self._processes.values():
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(max(0.0, deadline - time.monotonic()))

    def _raise_refused(self, codes):
        for index, code in codes.items():
            if code == REFUSED:
                kind, text = json.loads(Path(self._path(f"error-{index}")).read_text())
                raise ERRORS.get(kind, ValueError)(text)

    def _mourn(self, codes):
        """Says who died; ChildProcessError where workers die again and again."""
        # Who was killed comes before those that could not go on without it.
        code, index = min((code, index) for index, code in codes.items() if code)
        how = f"exit code {code}" if code > 0 else signal.Signals(-code).name
        kept = _kept(self.directory)
        self._deaths = self._deaths + 1 if kept == self._kept else 1
        self._kept = kept
        name = self.cluster.name(index)
        if self._deaths > MOST_DEATHS:
            words = "" if index == self._own[0] else children.last_words(self._path(f"{index}.log"))
            raise ChildProcessError(
                f"Workers died {self._deaths} times running without getting on, the last time "
                f"{name} with {how}. {words}".strip()
            )
        terminal.say(
            f"{name[0].upper()}{name[1:]} died ({how}). All workers are started again, and go on "
            "from the last checkpoint."
        )

    def _alone(self, waiting):
        names = " and ".join(self.cluster.name(index) for index in sorted(waiting))
        return TimeoutError(
            f"No answer within {self.how.worker_timeout:g} s from {names}. Start the same command "
            "there, with that --index (or TF_CONFIG); see that the address is right and that this "
            "host may connect to it. --worker-timeout waits longer."
        )

    def _end(self):
        for process in self._processes.values():
            if process.poll() is None:
                process.kill()  # whatever it writes is there whole or not at all
            process.wait()


def _free_addresses(count):
    """So many addresses of this machine where nobody listens."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for own in sockets:
            own.bind((LOOPBACK, 0))
        return [f"{LOOPBACK}:{own.getsockname()[1]}" for own in sockets]


def _reachable(address):
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), POLL).close()
    except OSError:
        return False
    return True


def _kept(directory):
    """How far the run's trainings are: those that are done, and where checkpoints are."""
    done = [*directory.path.glob("teacher*.json"), *(directory / SEEDS).glob("*/*.json")]
    found = {str(path) for path in done}
    for path in (directory / WORK).glob("*.npz"):
        with contextlib.suppress(OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            with np.load(path, allow_pickle=False) as stored:
                state = json.loads(str(stored["state"]))
            found.add((path.name, state["epochs"], state["steps"]))
    return found
