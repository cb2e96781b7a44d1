"""One version of a model, kept in a loader's process: warmed up, watched, replaced if its process
ends or stops."""

import logging
import threading

from tfkd.runtime import warmup
from tfkd.runtime.messages import DEADLINE_EXCEEDED, UNAVAILABLE, LoaderError
from tfkd.runtime.worker import Worker, WorkerDied

logger = logging.getLogger(__name__)

STOPPED_AFTER = 10.0  # seconds without an answer to a ping; never more than a request may take


class LoadedVersion:
    """A version in a loader's process, and how many requests use it. The process is replaced once
    a request or anybody else killed or stopped it.

    Args:
        number: of the version.
        path: its directory.
        timeout: seconds that one request may take.

    Attributes:
        signatures: as `loader.SavedModel.signatures`, without those that take nothing.

    Raises:
        LoaderError, WorkerDied, TimeoutError, ValueError: it does not load, or one of its warm-up
            records fails.
    """

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
            LoaderError: a wrong request, no answer in time, or none at all.
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
                raise LoaderError(UNAVAILABLE, "The loader's process ended twice.") from error

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
        new = None
        if not self._closed:
            self._worker.close()
            new = Worker(self._path)
        with self._lock:
            if not self._closed:
                self._worker = new
                return
        if new is not None:
            new.close()
        raise LoaderError(UNAVAILABLE, "The server is closing.")

    def _too_late(self):
        return LoaderError(DEADLINE_EXCEEDED, f"No answer within {self._timeout:g} s.")
