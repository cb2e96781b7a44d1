"""What can go wrong in an export: a failed check, a full disk, something odd."""

import contextlib
from pathlib import Path

from tfkd.files import DiskFullError, free_bytes, is_disk_full

__all__ = ["DiskFullError", "ExportCheckError", "ExportWarning", "is_disk_full", "on_disk"]


class ExportCheckError(RuntimeError):
    """What was exported does not do what the student does; nothing was published.

    The message says what differed.
    """


class ExportWarning(UserWarning):
    """Something about an export, or what it was checked with, that its owner should know."""


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
    if free_bytes(path) < needed:
        raise DiskFullError(path, _message(path, needed))
    try:
        yield
    except Exception as error:
        if not is_disk_full(error):
            raise
        raise DiskFullError(path, _message(path, needed)) from error


def _message(path, needed):
    return (
        f'The disk that holds "{path}" is full: {_megabytes(free_bytes(path))} are free, and the '
        f"export needs {_megabytes(needed)} at least. Nothing of it was kept. Free some space "
        "there, for example by deleting old versions or exports, or export to another disk; the "
        "same call or command then starts the export again."
    )


def _megabytes(size):
    return f"{size / 1e6:,.1f} MB"
