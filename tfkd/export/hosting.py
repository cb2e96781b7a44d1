"""Models and their versions in loader processes: new versions are found, examined, loaded, warmed
up and switched to; processes that end or stop are replaced."""

import asyncio
import contextlib
import itertools
import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tfkd.export import graph_inspection, warmup
from tfkd.export.versions import list_versions
from tfkd.export.worker import Worker, WorkerDied

logger = logging.getLogger(__name__)

# gRPC's status codes, which are TensorFlow's too.
INVALID_ARGUMENT, DEADLINE_EXCEEDED, NOT_FOUND = 3, 4, 5
FAILED_PRECONDITION, UNIMPLEMENTED = 9, 12
INTERNAL, UNAVAILABLE = 13, 14

WATCH_SECONDS = 1.0  # between two looks at the loaders' processes
STOPPED_AFTER = 10.0  # seconds without an answer to a ping; never more than a request may take
WAITING_PER_THREAD = 8


class ServingError(Exception):
    """A request that cannot be answered; `code` is a gRPC status code."""

    def __init__(self, code, message):
        super().__init__(message)
        self.code = code


class Model:
    """The versions under one base directory, kept up to date by a thread of its own.

    A new version takes requests when it is loaded and every warm-up record went through; the old
    one is closed when its last request is answered. A version that fails is remembered with its
    error, and the old one goes on.

    Args:
        name: name in requests.
        base: base directory with the versions.
        loaded: how many of the newest versions are kept loaded.
        labels: {label: version number}; labelled versions stay loaded too.
        poll_seconds: how often the base directory is read.
        timeout: seconds that one request may take.
        concurrency: requests worked on at once; of more, some wait.
        trust: load versions whose graphs touch files or run Python too.
    """

    def __init__(
        self,
        name,
        base,
        *,
        loaded=1,
        labels=None,
        poll_seconds=1.0,
        timeout=30.0,
        concurrency=16,
        trust=False,
    ):
        self.name = name
        self._trust = trust
        # Of its own: requests for a model that does not answer keep no other model waiting.
        self._pool = ThreadPoolExecutor(concurrency)
        self._admitted = 0
        self._most_admitted = WAITING_PER_THREAD * concurrency
        self.labels = dict(labels or {})
        self._base = Path(base)
        self._loaded = loaded
        self._timeout = timeout
        self._lock = threading.Lock()
        self._versions = {}
        self._failed = {}
        self._stop = threading.Event()
        self.refresh()
        self._threads = [
            threading.Thread(target=self._repeat, args=work, daemon=True)
            for work in ((self.refresh, poll_seconds), (self._watch, WATCH_SECONDS))
        ]
        for thread in self._threads:
            thread.start()

    async def in_thread(self, function, *arguments):
        """Call a function in one of the model's threads; for an event loop.

        Raises:
            ServingError: UNAVAILABLE, because too many requests wait already.
        """
        if self._admitted >= self._most_admitted:
            message = f"{self._admitted} requests for {self.name} wait already; try again later."
            raise ServingError(UNAVAILABLE, message)
        self._admitted += 1  # only the event loop's thread counts
        try:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._pool, function, *arguments)
        finally:
            self._admitted -= 1

    def refresh(self):
        """Read the base directory once: load what is new, close what is not wanted any more."""
        found = list_versions(self._base)
        with self._lock:
            for number in set(self._failed) - set(found):
                del self._failed[number]  # removed: another attempt under that number is welcome
        wanted = {number for number in self.labels.values() if self._load(number, found)}
        newest = (number for number in sorted(found, reverse=True) if self._load(number, found))
        wanted |= set(itertools.islice(newest, self._loaded))
        if not wanted:
            return  # an empty directory, or only broken versions: what is loaded goes on
        for number in set(self._versions) - wanted:
            with self._lock:
                version = self._versions.pop(number)
            version.retire()

    @contextlib.contextmanager
    def using(self, version=None, label=None):
        """The version that answers a request: by number, by label, or the newest.

        Gives an object with `number`, `signatures` and `run(signature, feeds)`; it stays loaded
        inside the `with` statement, even if another version is published meanwhile.

        Raises:
            ServingError: NOT_FOUND, or INVALID_ARGUMENT for an unknown label, as TensorFlow
                Serving.
        """
        with self._lock:
            if label is not None:
                if label not in self.labels:
                    message = f"Unrecognized servable version label: {label}"
                    raise ServingError(INVALID_ARGUMENT, message)
                version = self.labels[label]
            number = max(self._versions, default=None) if version is None else version
            if number not in self._versions:
                asked = f"Latest({self.name})" if version is None else ""
                asked = asked or f"Specific({self.name}, {version})"
                message = f"Servable not found for request: {asked}"
                raise ServingError(NOT_FOUND, message)
            chosen = self._versions[number]
            chosen.acquire()
        try:
            yield chosen
        finally:
            chosen.release()

    def states(self, version=None, label=None):
        """{version number: (state, error message)}, newest first, of all versions or of one; state
        "AVAILABLE" or "END".

        Raises:
            ServingError: as `using`.
        """
        if label is not None:
            with self.using(label=label) as labelled:
                version = labelled.number
        with self._lock:
            states = {number: ("END", error) for number, error in self._failed.items()}
            states |= {number: ("AVAILABLE", "") for number in self._versions}
        if version is not None and version not in states:
            message = f"Could not find version {version} of model {self.name}"
            raise ServingError(NOT_FOUND, message)
        numbers = sorted(states, reverse=True) if version is None else [version]
        return {number: states[number] for number in numbers}

    def close(self):
        """Stop polling and end every loader process, whoever waits for it."""
        self._stop.set()
        for thread in self._threads:
            thread.join()
        for version in self._versions.values():
            version.close()
        self._pool.shutdown()

    def _load(self, number, found):
        """Whether a version is loaded, after an attempt if there was none."""
        if number in self._versions:
            return number in found
        if number not in found or number in self._failed:
            return False
        try:
            if not self._trust:
                graph_inspection.require_harmless(found[number])
            version = _Version(number, found[number], self._timeout)
        except Exception as error:  # whatever is wrong with it must not stop the others
            logger.warning("Version %d of %s does not load: %s", number, self.name, error)
            with self._lock:
                self._failed[number] = str(error)
            return False
        with self._lock:
            self._versions[number] = version
        return True

    def _watch(self):
        with self._lock:
            versions = list(self._versions.values())
        for version in versions:
            version.replace_if_stopped()

    def _repeat(self, work, seconds):
        while not self._stop.wait(seconds):
            try:
                work()
            except Exception:
                logger.exception("Looking after %s failed", self._base)


class _Version:
    """A loader process and how many requests use it; replaced once a request or anybody else
    killed or stopped it."""

    def __init__(self, number, path, timeout):
        self.number = number
        self._path = path
        self._timeout = timeout
        self._lock = threading.Lock()
        self._replacing = threading.Lock()
        self._retired = self._closed = False
        self._users = 0
        self._worker = Worker(path)
        self.signatures = {
            name: signature
            for name, signature in self._worker.signatures.items()
            if signature["inputs"]
        }
        try:
            warmup.replay(self._worker.run, path)
        except BaseException:
            self._worker.close()
            raise

    def run(self, signature, feeds):
        """{output name: array}.

        Raises:
            LoaderError: a wrong request. ServingError: no answer in time, or none at all.
        """
        worker = self._worker
        try:
            return worker.run(signature, feeds, self._timeout)
        except WorkerDied:
            pass
        except TimeoutError:
            raise self._too_late() from None
        # One at a time, so that a request that kills the process takes no other down with it.
        with self._replacing:
            try:
                self._replace(worker)
                return self._worker.run(signature, feeds, self._timeout)
            except TimeoutError:
                raise self._too_late() from None
            except WorkerDied as error:
                raise ServingError(UNAVAILABLE, "The loader's process ended twice.") from error

    def replace_if_stopped(self):
        """End the process if it does not read its messages any more, or works on nothing but
        requests that were given up, and start another one."""
        worker = self._worker
        patience = max(1.0, min(STOPPED_AFTER, self._timeout))
        if worker.alive and (worker.stuck or not worker.responds(patience)) and worker.alive:
            logger.warning("The loader of %s has stopped: it is started anew.", self._path)
            worker.kill()
            with self._replacing:
                self._replace(worker)

    def acquire(self):
        with self._lock:
            self._users += 1

    def release(self):
        with self._lock:
            self._users -= 1
            unused = self._retired and not self._users
        if unused:
            self.close()

    def retire(self):
        """Close as soon as nobody uses it."""
        with self._lock:
            self._retired = True
            unused = not self._users
        if unused:
            self.close()

    def close(self):
        """End the process; requests still waiting fail."""
        with self._lock:
            self._retired = True
            if self._closed:
                return
            self._closed = True
            worker = self._worker
        worker.close()

    def _replace(self, worker):
        if self._worker is not worker and self._worker.alive:
            return  # another request did it
        self._worker.close()
        new = Worker(self._path)
        with self._lock:
            if not self._closed:
                self._worker = new
                return
        new.close()
        raise ServingError(UNAVAILABLE, "The server is closing.")

    def _too_late(self):
        return ServingError(DEADLINE_EXCEEDED, f"No answer within {self._timeout:g} s.")
