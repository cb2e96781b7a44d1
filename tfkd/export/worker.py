"""A fresh process that holds one SavedModel in TensorFlow's C++ loader, for the checks and for the
local server."""

import itertools
import os
import socket
import subprocess
import sys
import tempfile
import threading
from concurrent.futures import Future
from multiprocessing.connection import Connection

from tfkd.export import loader


class WorkerDied(RuntimeError):
    """The loader's process ended before it answered."""


class Worker:
    """Runs the signatures of one version directory in another process; safe to call from several
    threads.

    Args:
        path: the version directory.
        threads: threads of the TensorFlow session; None leaves the choice to TensorFlow.
        script: what the process runs; `keras_process.py` holds a `.keras` file instead.

    Attributes:
        signatures: as `loader.SavedModel.signatures`.
        compiled_functions: as `loader.SavedModel.compiled_functions`.

    Raises:
        loader.LoaderError: the C++ loader refused the directory.
        WorkerDied: the process ended while loading (its last words are in the message).
    """

    def __init__(self, path, threads=None, script=loader.__file__):
        ours, theirs = socket.socketpair()
        self._log = tempfile.TemporaryFile()
        command = [sys.executable, "-I", script, str(theirs.fileno()), os.fspath(path)]
        with theirs:
            self._process = subprocess.Popen(
                [*command, str(threads or 0)],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=self._log,
                stderr=self._log,
                env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2"},
            )
        self._connection = Connection(ours.detach())
        self._numbers = itertools.count()
        self._waiting = {}
        self._lock = threading.Lock()
        self._alive = True
        try:
            _, offer, problem = self._connection.recv()
        except (EOFError, OSError):
            self._process.wait()
            message = self._last_words()
            self.close()
            raise WorkerDied(message) from None
        if problem:
            self.close()
            raise loader.LoaderError(*problem)
        self.signatures, self.compiled_functions = offer
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def pid(self):
        """Process id of the loader's process."""
        return self._process.pid

    @property
    def alive(self):
        """False as soon as the process was found to have ended."""
        return self._alive

    def submit(self, signature, feeds, repeats=0):
        """Send one request; returns a `concurrent.futures.Future` of {output name: array}.

        With `repeats`, of the list of seconds that so many runs took in the loader's process.
        """
        future = Future()
        with self._lock:
            if not self._alive:
                raise WorkerDied("The loader's process has ended.")
            number = next(self._numbers)
            self._waiting[number] = future
            try:
                self._connection.send((number, signature, feeds, repeats))
            except OSError:
                pass  # the reader notices the broken pipe and fails every waiting future
        return future

    def run(self, signature, feeds, timeout=120.0):
        """Run one signature and wait, at most `timeout` seconds.

        Raises:
            loader.LoaderError: the request was wrong.
            TimeoutError: no answer in time.
            WorkerDied: the process ended.
        """
        return self.submit(signature, feeds).result(timeout)

    def close(self):
        """End the process; requests still waiting fail with `WorkerDied`."""
        self._process.kill()
        self._process.wait()
        if hasattr(self, "_reader"):
            self._reader.join()
        self._connection.close()
        self._log.close()

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.close()

    def _read(self):
        try:
            while True:
                number, result, problem = self._connection.recv()
                future = self._waiting.pop(number)
                if problem:
                    future.set_exception(loader.LoaderError(*problem))
                else:
                    future.set_result(result)
        except (EOFError, OSError):
            with self._lock:
                self._alive = False
                waiting, self._waiting = self._waiting, {}
            for future in waiting.values():
                future.set_exception(WorkerDied("The loader's process has ended."))

    def _last_words(self):
        self._log.seek(0)
        text = self._log.read()[-2000:].decode("utf-8", "replace").strip()
        return f"The loader's process ended with status {self._process.returncode}: {text}"
