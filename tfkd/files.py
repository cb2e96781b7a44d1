"""Files that are there whole or not at all, one process at a time, and what a full disk says."""

import contextlib
import errno
import json
import os
import shutil
from pathlib import Path

import filelock

FULL = (errno.ENOSPC, errno.EDQUOT)
_FULL_SAID = ("No space left on device", "Disk quota exceeded")  # TensorFlow's errors have no errno
# Less than this is no room for any model: whatever failed to write, failed for that.
NO_ROOM = 1_000_000  # bytes


class DiskFullError(OSError):
    """There is no room left to write."""

    def __init__(self, path, told=None):
        self.path = Path(path)
        super().__init__(
            errno.ENOSPC,
            told
            or f'The disk of "{self.path.parent}" is full: "{self.path.name}" was not written, and '
            "what was there before is as it was. Free some space and go on with the same "
            "command.",
        )

    def __str__(self):
        return self.strerror

    def __reduce__(self):  # it may come from another process
        return type(self), (self.path, self.strerror)


def is_disk_full(error):
    """Whether an error, or what caused it, says that a disk or a quota is used up."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in FULL:
            return True
        if any(said in str(error) for said in _FULL_SAID):
            return True
        error = error.__cause__ or error.__context__
    return False


@contextlib.contextmanager
def written(path):
    """Gives a hidden path beside `path` (same suffix) to write to, then renames it to `path`.

    After an error nothing is left; what a kill leaves is overwritten by the next attempt.

    Raises:
        DiskFullError: there is no room; whatever the writing library made of that.
    """
    path = Path(path)
    partial = path.with_name(f".partial-{path.name}")
    try:
        with full_disk_named(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            yield partial
            os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


@contextlib.contextmanager
def full_disk_named(path):
    """Turns what a library raises on a full disk into `DiskFullError`.

    HDF5 and others do not pass the system's error on: the disk itself is asked.
    """
    try:
        yield
    except DiskFullError:
        raise
    except Exception as error:
        if is_disk_full(error) or free_bytes(path) < NO_ROOM:
            raise DiskFullError(path) from error
        raise


def free_bytes(path):
    """Bytes that are free where `path` is or will be."""
    folder = Path(path).absolute().parent
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free


def write_text(path, text):
    with written(path) as partial:
        partial.write_text(text, encoding="utf-8")


def write_json(path, content):
    write_text(path, json.dumps(content, indent=2) + "\n")


def copy(source, path):
    with written(path) as partial:
        shutil.copyfile(source, partial)


@contextlib.contextmanager
def locked(folder):
    """Makes a folder and keeps other tfkd processes out of it meanwhile.

    Raises:
        FileExistsError: another process writes there.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(folder / ".lock")
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        raise FileExistsError(
            f'Another tfkd process is writing into "{folder}". Wait for it, or give another --out.'
        ) from None
    try:
        yield
    finally:
        # While it is held: who opened this file meanwhile sees that it is gone, and tries again.
        Path(lock.lock_file).unlink(missing_ok=True)
        lock.release()
