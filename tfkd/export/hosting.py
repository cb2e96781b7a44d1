"""Models and their versions in loader processes: new versions are found, loaded, warmed up and
switched to."""

import contextlib
import itertools
import logging
import threading
from pathlib import Path

from tfkd.export import warmup
from tfkd.export.versions import list_versions
from tfkd.export.worker import Worker, WorkerDied

logger = logging.getLogger(__name__)

# gRPC's status codes, which are TensorFlow's too.
INVALID_ARGUMENT, DEADLINE_EXCEEDED, NOT_FOUND = 3, 4, 5
FAILED_PRECONDITION, UNIMPLEMENTED = 9, 12
INTERNAL, UNAVAILABLE = 13, 14


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
    """

    def __init__(self, name, base, *, loaded=1, labels=None, poll_seconds=1.0, timeout=30.0):
        self.name = name
        self.labels = dict(labels or {})
        self._base = Path(base)
        self._loaded = loaded
        self._timeout = timeout
        self._lock = threading.Lock()
        self._versions = {}
        self._failed = {}
        self._stop = threading.Event()
        self.refresh()
        self._poller = threading.Thread(target=self._poll, args=(poll_seconds,), daemon=True)
        self._poller.start()

    def refresh(self):
        """Read the base directory once: load what is new, close what is not wanted any more."""
        found = list_versions(self._base)
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
            ServingError: NOT_FOUND.
        """
        with self._lock:
            if label is not None:
                if label not in self.labels:
                    raise ServingError(NOT_FOUND, f"Model {self.name} has no label {label!r}.")
                version = self.labels[label]
            number = max(self._versions, default=None) if version is None else version
            if number not in self._versions:
                wanted = "any version" if number is None else f"version {number}"
                raise ServingError(NOT_FOUND, f"Model {self.name} does not serve {wanted}.")
            chosen = self._versions[number]
            chosen.acquire()
        try:
            yield chosen
        finally:
            chosen.release()

    def states(self):
        """{version number: (state, error message)}, newest first; state "AVAILABLE" or "END"."""
        states = {number: ("END", error) for number, error in self._failed.items()}
        states |= {number: ("AVAILABLE", "") for number in self._versions}
        return dict(sorted(states.items(), reverse=True))

    def close(self):
        """Stop polling and end every loader process."""
        self._stop.set()
        self._poller.join()
        for version in self._versions.values():
            version.retire()

    def _load(self, number, found):
        """Whether a version is loaded, after an attempt if there was none."""
        if number in self._versions:
            return number in found
        if number not in found or number in self._failed:
            return False
        try:
            version = _Version(number, found[number], self._timeout)
        except Exception as error:  # whatever is wrong with it must not stop the others
            logger.warning("Version %d of %s does not load: %s", number, self.name, error)
            self._failed[number] = str(error)
            return False
        with self._lock:
            self._versions[number] = version
        return True

    def _poll(self, seconds):
        while not self._stop.wait(seconds):
            try:
                self.refresh()
            except Exception:
                logger.exception("Reading %s failed", self._base)


class _Version:
    """A loader process and how many requests use it; revived once a request killed it."""

    def __init__(self, number, path, timeout):
        self.number = number
        self._path = path
        self._timeout = timeout
        self._lock = threading.Lock()
        self._reviving = threading.Lock()
        self._retired = False
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
        try:
            return self._worker.run(signature, feeds, self._timeout)
        except WorkerDied:
            pass
        except TimeoutError:
            message = f"No answer within {self._timeout:g} s."
            raise ServingError(DEADLINE_EXCEEDED, message) from None
        # One at a time, so that a request that kills the process takes no other down with it.
        with self._reviving:
            try:
                if not self._worker.alive:
                    self._worker.close()
                    self._worker = Worker(self._path)
                return self._worker.run(signature, feeds, self._timeout)
            except (WorkerDied, TimeoutError) as error:
                raise ServingError(UNAVAILABLE, "The loader's process ended twice.") from error

    def acquire(self):
        with self._lock:
            self._users += 1

    def release(self):
        with self._lock:
            self._users -= 1
            self._close_if_unused()

    def retire(self):
        """Close as soon as nobody uses it."""
        with self._lock:
            self._retired = True
            self._close_if_unused()

    def _close_if_unused(self):
        if self._retired and not self._users:
            self._worker.close()
