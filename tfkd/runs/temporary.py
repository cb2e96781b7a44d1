"""Temporary files of libraries, kept beside what they are for, so that a kill leaves none behind.

TensorFlow's AutoGraph writes each function that it converts into the system's folder for temporary
files, and removes it only when the process ends by itself.
"""

import contextlib
import os
import shutil
import socket
import tempfile
from pathlib import Path

PREFIX = ".temporary-"


@contextlib.contextmanager
def temporary_files_in(directory):
    """Has Python's temporary files lie in a hidden folder of `directory`, removed at the end.

    Folders that killed processes of this host left there are removed as well. Where `directory`
    was not there and nothing else came into it, it is removed, too.
    """
    directory = Path(directory)
    remove_abandoned(directory)
    own = directory / f"{PREFIX}{socket.gethostname()}-{os.getpid()}"
    own.mkdir(parents=True, exist_ok=True)
    before, tempfile.tempdir = tempfile.tempdir, str(own)
    try:
        yield
    finally:
        tempfile.tempdir = before
        shutil.rmtree(own, ignore_errors=True)
        with contextlib.suppress(OSError):
            directory.rmdir()  # does so only if it is empty


def remove_abandoned(directory):
    """Removes what killed processes of this host left in a run directory."""
    for path in directory.glob(f"{PREFIX}{socket.gethostname()}-*"):
        number = path.name.rpartition("-")[2]
        if number.isdecimal() and not _alive(int(number)):
            shutil.rmtree(path, ignore_errors=True)


def _alive(process):
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OverflowError, PermissionError):
        pass
    return True
