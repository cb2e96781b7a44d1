"""A teacher cache's folder on a disk: whole files or none, within the folder, and room for them."""

import concurrent.futures
import contextlib
import errno
import hashlib
import math
import os
import shutil
import stat
import uuid
import weakref
from pathlib import Path

import filelock
import numpy as np

from tfkd.data.pipeline import AT_ONCE

_LOCK, _CLAIM, _PARTIAL = ".lock", ".claim-", ".partial-"
# What a file system without locks says.
_NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)
_CHUNK = 2**20  # bytes


class LocalFolder:
    """The files of a cache in a directory.

    Attributes:
        path: `pathlib.Path`.
        local: whether it is on a disk.
        at_once: batches that are read at the same time.
    """

    local = True
    at_once = AT_ONCE

    def __init__(self, path):
        self.path = Path(path)

    def __str__(self):
        return str(self.path)

    def sizes(self):
        """{name: bytes} of what is there but a builder's locks; None for what is no plain file."""
        try:
            names = os.listdir(self.path)
        except FileNotFoundError:
            return {}
        found = {}
        for name in names:
            if name != _LOCK and not name.startswith((_CLAIM, _PARTIAL)):
                with contextlib.suppress(FileNotFoundError):  # another builder removed it just now
                    own = os.lstat(self.path / name)
                    found[name] = own.st_size if stat.S_ISREG(own.st_mode) else None
        return found

    def open(self, name):
        """A file to read, in bytes."""
        return open(_open_plain(self.path / name), "rb")

    def read_all(self, names):
        """{name: content} of small files, without those that are not there."""
        found = {}
        for name in names:
            with contextlib.suppress(FileNotFoundError), self.open(name) as file:
                found[name] = file.read(_CHUNK)
        return found

    def reader(self, names):
        """A function that reads records of these files, see `_Reader`."""
        return _Reader([self.path / name for name in names])

    def write(self, name, content):
        """Writes a small file, whole or not at all."""
        with self._new_file(name) as file:
            file.write(content)

    def write_shard(self, name, parts):
        """Writes a file, whole or not at all.

        Args:
            name: of the file.
            parts: iterable of its bytes.

        Returns:
            Its sha256, in hexadecimal.
        """
        digest = hashlib.sha256()
        with self._new_file(name) as file:
            for part in parts:
                file.write(part)
                digest.update(part)
        return digest.hexdigest()

    def remove(self, names):
        for name in names:
            (self.path / name).unlink(missing_ok=True)

    def clear(self):
        """Removes what builders that are gone have left; called by who finishes the cache."""
        for left in [*self.path.glob(f"{_CLAIM}*"), *self.path.glob(f"{_PARTIAL}*")]:
            left.unlink(missing_ok=True)

    @contextlib.contextmanager
    def locked(self):
        """Makes the folder, and keeps other builders from changing what it belongs to meanwhile."""
        before = self.path.exists()
        self.path.mkdir(parents=True, exist_ok=True)
        try:
            lock = self._lock(_LOCK, wait=True)
            try:
                yield
            finally:
                _release(lock)
        finally:
            if not before:
                with contextlib.suppress(OSError):  # where something is stored
                    self.path.rmdir()

    @contextlib.contextmanager
    def claim(self, name, wait=False):
        """Holds a shard for one builder, until its process ends at the latest.

        The system's own lock: it knows of no time, and dies with who holds it. Where a file system
        has no locks, everybody is given every shard: the work is then done more than once, and its
        result is the same.

        Args:
            name: of the shard.
            wait: whether to wait for a builder that has it.

        Yields:
            Whether it is held.
        """
        lock = self._lock(f"{_CLAIM}{name}", wait)
        try:
            if lock is not None:
                for left in self.path.glob(f"{_PARTIAL}{name}.*"):  # by a builder that was killed
                    left.unlink(missing_ok=True)
            yield lock is not None
        finally:
            _release(lock)

    def in_use(self):
        """Whether a builder holds a shard."""
        for path in self.path.glob(f"{_CLAIM}*"):
            lock = self._lock(path.name)
            _release(lock)
            if lock is None:
                return True
        return False

    def check_space(self, needed, fitting=None):
        """Raises OSError where fewer than `needed` bytes are free.

        Args:
            needed: bytes.
            fitting: function (free bytes) -> what would fit, in words.
        """
        free = _free(self.path)
        if needed > free:
            raise NoRoom(
                errno.ENOSPC,
                f"The teacher cache needs {readable(needed)}, but there are {readable(free)} free. "
                "Make room, or store less: fewer views, fewer or smaller taps, top_k, float16"
                + (f"; of the same views would fit: {fitting(free)}" if fitting else ""),
                str(self.path),
            )

    @contextlib.contextmanager
    def full_explained(self, progress=None):
        """Says of a full disk what is finished, what is needed and how to go on.

        Args:
            progress: function that gives (finished shards, all shards, bytes that are missing).
        """
        try:
            yield
        except NoRoom:
            raise
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            done, count, missing = progress() if progress else (0, 0, 0)
            kept = f"{done} of {count} shards of the cache are finished and stay; " if done else ""
            needed = f"about {readable(missing)} more are needed, " if missing else ""
            raise NoRoom(
                error.errno,
                f"The disk is full. {kept}{needed}{readable(_free(self.path))} are free. Make room "
                "and call TeacherCache.build again with the same arguments, which goes on where it "
                "was stopped",
                str(self.path),
            ) from error

    @contextlib.contextmanager
    def _new_file(self, name):
        """A binary file to write, which stands at its name once it is whole and on the disk.

        What it is called meanwhile is nobody else's: where there are no locks, two builders may
        write the same shard.
        """
        partial = self.path / f"{_PARTIAL}{name}.{uuid.uuid4().hex}"
        try:
            with open(partial, "xb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.replace(partial, self.path / name)
        finally:
            partial.unlink(missing_ok=True)

    def _lock(self, name, wait=False):
        """A lock that is held; None where another builder has it."""
        timeout = -1 if wait else 0
        lock = filelock.FileLock(
            self.path / name, timeout, poll_interval=0.2, fallback_to_soft=False
        )
        try:
            lock.acquire()
        except filelock.Timeout:
            return None
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
            return contextlib.nullcontext()
        return lock


class _Reader:
    """Reads records with `pread`: nothing is held, not even as mapped pages, and a file that shrank
    is an error instead of a signal.

    Args:
        paths: of the files, which are opened at once.
    """

    def __init__(self, paths):
        self._files = np.array([_open_plain(path) for path in paths], int)
        weakref.finalize(self, _close, self._files.tolist())

    def __call__(self, files, offsets, fields):
        """Puts each record straight into its row of each field.

        Args:
            files, offsets: int arrays (batch,), positions of the file and in it.
            fields: list of uint8 arrays (batch, bytes of the field).

        Returns:
            How many bytes were there.
        """
        rows = zip(*fields, strict=True)
        return sum(map(os.preadv, self._files[files].tolist(), rows, offsets.tolist()))


class NoRoom(OSError):
    """A full disk that has been explained."""


def checksum(file):
    """The sha256 of an open file, in hexadecimal."""
    return hashlib.file_digest(file, "sha256").hexdigest()


def in_threads(function, items):
    """What a function gives for each item, in order; hashing and reading free the interpreter."""
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        yield from pool.map(function, items)


def readable(size):
    """A number of bytes as people write it: "12.3 MB"."""
    if size < 1000:
        return f"{size} bytes"
    power = min(int(math.log10(size)) // 3, 4)
    return f"{size / 1000**power:.1f} {'kMGT'[power - 1]}B"


def _open_plain(path):
    """A descriptor to read a plain file; OSError for a link, which may lead elsewhere."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "not a plain file", str(path))
    return descriptor


def _release(lock):
    if isinstance(lock, filelock.BaseFileLock):
        # While it is held: who opened this file meanwhile sees that it is gone, and tries again.
        Path(lock.lock_file).unlink(missing_ok=True)
        lock.release()


def _close(files):
    for file in files:
        os.close(file)


def _free(directory):
    """Bytes that are free where the directory is, or is to be."""
    directory = Path(directory).absolute()
    place = next(path for path in (directory, *directory.parents) if path.exists())
    return shutil.disk_usage(place).free
