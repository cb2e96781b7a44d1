"""What can go wrong in an export: a failed check, a full disk, something odd."""

import contextlib
import errno
import shutil
from pathlib import Path

_FULL = (errno.ENOSPC, errno.EDQUOT)
_FULL_SAID = ("No space left on device", "Disk quota exceeded")  # TensorFlow's errors have no errno


class ExportCheckError(RuntimeError):
    """What was exported does not do what the student does; nothing was published.

    The message says what differed.
    """


class ExportWarning(UserWarning):
    """Something about an export, or what it was checked with, that its owner should know."""


class DiskFullError(OSError):
    """The disk that an export is written to is full; nothing was published."""

    def __init__(self, message):
        super().__init__(errno.ENOSPC, message)

    def __str__(self):
        return self.strerror


@contextlib.contextmanager
def on_disk(path, needed):
    """Turns whatever a full disk causes into one plain message.

    Args:
        path: what is written, a file or directory that need not exist yet.
        needed: bytes that will be written at least; looked for before anything is done.

    Raises:
        DiskFullError: says which disk is full and how much is needed.
    """
    path = Path(path).absolute()
    if _free(path) < needed:
        raise DiskFullError(_message(path, needed))
    try:
        yield
    except Exception as error:
        if not is_disk_full(error):
            raise
        raise DiskFullError(_message(path, needed)) from error


def is_disk_full(error):
    """Whether an error, or what caused it, says that a disk or a quota is used up."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in _FULL:
            return True
        if any(said in str(error) for said in _FULL_SAID):
            return True
        error = error.__cause__ or error.__context__
    return False


def _free(path):
    for folder in (path, *path.parents):
        if folder.exists():
            return shutil.disk_usage(folder).free
    return 0


def _message(path, needed):
    return (
        f'The disk that holds "{path}" is full: {_megabytes(_free(path))} are free, and the export '
        f"needs {_megabytes(needed)} at least. Nothing of it was kept. Free some space there, for "
        "example by deleting old versions or exports, or export to another disk; the same call or "
        "command then starts the export again."
    )


def _megabytes(size):
    return f"{size / 1e6:,.1f} MB"
