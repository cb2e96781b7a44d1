"""A fresh process that holds one SavedModel in TensorFlow's C++ loader, for the checks and for the
local server."""

import itertools
import os
import queue
import socket
import subprocess
import sys
import threading
from concurrent.futures import Future
from multiprocessing.connection import Connection

from tfkd.runtime import loader, messages
from tfkd.runtime.messages import INVALID_ARGUMENT, LoaderError

_LAST_WORDS = 2000  # bytes of what the process printed that are kept


class WorkerDied(RuntimeError):
    """The loader's process ended before it answered."""


class Worker:
    """Runs the signatures of one version directory in another process; safe to call from several
    threads.

    No call waits for a process that does not read: requests are sent by a thread of their own.

    Args:
        path: the version directory.
        threads: threads of the TensorFlow session; None leaves the choice to TensorFlow.
        script: what the process runs; `keras_process.py` holds a `.keras` file instead.
        loading_seconds: how long loading may take.

    Attributes:
        signatures: as `loader.SavedModel.signatures`.
        compiled_functions: as `loader.SavedModel.compiled_functions`.

    Raises:
        LoaderError: the C++ loader refused the directory.
        WorkerDied: the process ended while loading (its last words are in the message), or took too
            long.
    """

    def __init__(self, path, threads=None, script=loader.__file__, loading_seconds=600.0):
        ours, theirs = socket.socketpair()
        command = [sys.executable, "-I", script, str(theirs.fileno()), os.fspath(path)]
        with theirs:
            self._process = subprocess.Popen(
                [*command, str(threads or 0)],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2"},
            )
        self._connection = Connection(ours.detach())
        self._printed = b""
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()
        self._threads = [self._listener]
        self._numbers = itertools.count()
        self._waiting = {}
        self._given_up = set()
        self._pings = {}
        self._lock = threading.Lock()
        self._alive = True
        self._outbox = queue.SimpleQueue()
        offer = self._first_message(loading_seconds)
        if offer["problem"]:
            self.close()
            raise LoaderError(*offer["problem"])
        self.signatures = {name: _tuples(s) for name, s in offer["signatures"].items()}
        self.compiled_functions = offer["compiled_functions"]
        for work in (self._read, self._write):
            self._threads.append(threading.Thread(target=work, daemon=True))
            self._threads[-1].start()

    @property
    def pid(self):
        """Process id of the loader's process."""
        return self._process.pid

    @property
    def alive(self):
        """False as soon as the process was found to have ended."""
        return self._alive

    @property
    def stuck(self):
        """Whether everything it can work on at once is work that nobody waits for any more."""
        return len(self._given_up) >= messages.CONCURRENCY

    def submit(self, signature, feeds, repeats=0, seconds=None):
        """Send one request; returns a `concurrent.futures.Future` of {output name: array}.

        With `repeats`, of the list of seconds that so many runs took in the loader's process. After
        `seconds` the process need not answer any more.

        Raises:
            LoaderError: feeds that are no arrays. WorkerDied: the process has ended.
        """
        return self._submit(signature, feeds, repeats, seconds)[1]

    def run(self, signature, feeds, timeout=120.0):
        """Run one signature and wait, at most `timeout` seconds.

        Raises:
            LoaderError: the request was wrong.
            TimeoutError: no answer in time.
            WorkerDied: the process ended.
        """
        number, future = self._submit(signature, feeds, 0, timeout)
        try:
            return future.result(timeout)
        except TimeoutError:
            with self._lock:
                if self._waiting.pop(number, None):
                    self._given_up.add(number)
            raise

    def responds(self, seconds):
        """Whether the process reads its messages: it answers a ping within so many seconds."""
        answered = threading.Event()
        with self._lock:
            number = next(self._numbers)
            self._pings[number] = answered
        self._outbox.put((None, messages.pack({"ping": number}, {})))
        found = answered.wait(seconds)
        self._pings.pop(number, None)
        return found

    def kill(self):
        """End the process, without waiting for it."""
        self._process.kill()

    def close(self):
        """End the process; requests still waiting fail with `WorkerDied`."""
        self._process.kill()
        self._process.wait()
        self._outbox.put(None)
        for thread in self._threads:
            thread.join()
        self._connection.close()
        self._process.stdout.close()

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.close()

    def _submit(self, signature, feeds, repeats, seconds):
        with self._lock:
            number = next(self._numbers)
        head = {"number": number, "signature": signature, "repeats": repeats, "seconds": seconds}
        try:
            packed = messages.pack(head, feeds)
        except (TypeError, ValueError) as error:
            raise LoaderError(INVALID_ARGUMENT, f"{type(error).__name__}: {error}") from None
        future = Future()
        with self._lock:
            if not self._alive:
                raise WorkerDied("The loader's process has ended.")
            self._waiting[number] = future
        self._outbox.put((number, packed))
        return number, future

    def _first_message(self, seconds):
        try:
            if self._connection.poll(seconds):
                return messages.receive(self._connection)[0]
            problem = f"The loader's process did not load the model within {seconds:g} s."
        except (EOFError, OSError):
            problem = None
        self.close()
        raise WorkerDied(problem or self._last_words())

    def _write(self):
        while (item := self._outbox.get()) is not None:
            number, packed = item
            if number is not None:
                with self._lock:
                    if number not in self._waiting:  # given up before its turn came
                        self._given_up.discard(number)
                        continue
            try:
                messages.send(self._connection, packed)
            except OSError:
                pass  # the reader notices the broken pipe and fails every waiting future

    def _read(self):
        try:
            while True:
                self._take(*messages.receive(self._connection))
        except (EOFError, OSError):
            with self._lock:
                self._alive = False
                waiting, self._waiting = self._waiting, {}
            for future in waiting.values():
                future.set_exception(WorkerDied("The loader's process has ended."))

    def _take(self, head, found):
        if "ping" in head:
            if answered := self._pings.get(head["ping"]):
                answered.set()
            return
        with self._lock:
            future = self._waiting.pop(head["number"], None)
            self._given_up.discard(head["number"])
        if future is None:
            return
        if head["problem"]:
            future.set_exception(LoaderError(*head["problem"]))
        else:
            future.set_result(head["seconds"] or found)

    def _listen(self):
        while chunk := os.read(self._process.stdout.fileno(), 65536):
            self._printed = (self._printed + chunk)[-_LAST_WORDS:]

    def _last_words(self):
        text = self._printed.decode("utf-8", "replace").strip()
        return f"The loader's process ended with status {self._process.returncode}: {text}"


def _tuples(signature):
    """A signature as it was before JSON made lists of its tuples."""

    def tensors(described):
        return {
            name: (kind, None if shape is None else tuple(shape))
            for name, (kind, shape) in described.items()
        }

    kinds = {"inputs": tensors(signature["inputs"]), "outputs": tensors(signature["outputs"])}
    return {**signature, **kinds}
