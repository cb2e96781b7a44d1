"""The models of a server: new versions are found, examined, loaded and switched to."""

import asyncio
import contextlib
import itertools
import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tfkd.runtime import graph_inspection
from tfkd.runtime.loaded_version import LoadedVersion
from tfkd.runtime.messages import INVALID_ARGUMENT, NOT_FOUND, UNAVAILABLE, LoaderError
from tfkd.runtime.versions import list_versions

logger = logging.getLogger(__name__)

WATCH_SECONDS = 1.0  # between two looks at the loaders' processes
WAITING_PER_THREAD = 8


class ServingError(LoaderError):
    """A request that the server itself does not pass on to a model."""


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
            version = LoadedVersion(number, found[number], self._timeout)
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
