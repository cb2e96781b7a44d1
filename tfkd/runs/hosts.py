"""What the supervisors of several hosts tell each other: that all workers are to start again.

Each keeps one file in a folder of the run directory, with the number of the attempt that its worker
is in; whoever sees a higher one follows. No host's clock has a say in it.
"""

import contextlib
import json
import os
import shutil

FOLDER = ".cluster"


class Hosts:
    """The other hosts of a cluster; of workers that are all on this machine there are none.

    Args:
        directory: `RunDirectory`.
        cluster: `tfkd.settings.workers.Cluster`.
    """

    def __init__(self, directory, cluster):
        self._folder, self._cluster = directory / FOLDER, cluster
        self.attempt = 0
        if cluster.index is None:
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        before = self._read()
        self.attempt = max((own["attempt"] for own in before.values()), default=0)
        # A supervisor that comes back, or comes after a failure, begins an attempt of its own.
        last = [index for index, own in before.items() if own["attempt"] == self.attempt]
        if cluster.index in last or any(before[index]["failed"] for index in last):
            self.attempt += 1
        self._write()

    @property
    def over(self):
        """Whether the chief's supervisor has said that the run is finished."""
        return self._cluster.index is not None and not self._folder.exists()

    def again(self):
        """Has all hosts start their workers again."""
        if self._cluster.index is not None:
            self.attempt += 1
            self._write()

    def follow(self):
        """Whether another host has started an attempt that is new here, which becomes this one's.

        Raises:
            ChildProcessError: another host has given up.
        """
        if self._cluster.index is None:
            return False
        found = self._read()
        for index, own in found.items():
            if own["failed"] and own["attempt"] >= self.attempt and index != self._cluster.index:
                raise ChildProcessError(f"{self._cluster.name(index)} gave up: {own['failed']}")
        latest = max((own["attempt"] for own in found.values()), default=0)
        if latest <= self.attempt:
            return False
        self.attempt = latest
        self._write()
        return True

    def failed(self, why):
        """Has all hosts give up."""
        if self._cluster.index is not None:
            self._write(why)

    def leave(self):
        """Says that the run is finished, which is the chief's to say."""
        if self._cluster.index == 0:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _write(self, failed=None):
        path = self._folder / f"{self._cluster.index}.json"
        partial = path.with_suffix(".partial")
        with contextlib.suppress(FileNotFoundError):  # the run is over
            partial.write_text(json.dumps({"attempt": self.attempt, "failed": failed}))
            os.replace(partial, path)

    def _read(self):
        found = {}
        for index in range(self._cluster.size):
            with contextlib.suppress(OSError, ValueError):
                found[index] = json.loads((self._folder / f"{index}.json").read_text())
        return found
