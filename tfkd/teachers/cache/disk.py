"""The disk under a teacher cache: whole files or none, within the directory, and room for them."""

import contextlib
import errno
import hashlib
import io
import itertools
import math
import os
import shutil
import stat
from pathlib import Path

import numpy as np

from tfkd.files import written


def open_plain(path):
    """A descriptor to read a plain file; OSError for a link, which may lead elsewhere."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "not a plain file", str(path))
    return descriptor


@contextlib.contextmanager
def new_file(path):
    """A binary file to write, which stands at `path` once it is whole and on the disk."""
    with written(path) as partial:
        partial.unlink(missing_ok=True)  # if it is a link, nothing is written where it leads
        with open(partial, "xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())


def header(shape, dtype):
    """The first bytes of a `.npy` file."""
    file = io.BytesIO()
    description = np.lib.format.dtype_to_descr(dtype)
    np.lib.format.write_array_header_2_0(
        file, {"descr": description, "fortran_order": False, "shape": shape}
    )
    return file.getvalue()


def write_shard(path, shape, dtype, parts):
    """Writes one `.npy` file.

    Args:
        path: `pathlib.Path` of the file.
        shape, dtype: of the array.
        parts: iterable of its bytes.

    Returns:
        The file's sha256, in hexadecimal.
    """
    digest = hashlib.sha256()
    with new_file(path) as file:
        for part in itertools.chain([header(shape, dtype)], parts):
            file.write(part)
            digest.update(part)
    return digest.hexdigest()


def checksum(file):
    """The sha256 of an open file, in hexadecimal."""
    return hashlib.file_digest(file, "sha256").hexdigest()


class NoRoom(OSError):
    """A full disk that has been explained."""


def check_space(directory, needed):
    """Raises OSError where fewer than `needed` bytes are free."""
    free = _free(directory)
    if needed > free:
        raise NoRoom(
            errno.ENOSPC,
            f"The teacher cache needs {readable(needed)}, but there are {readable(free)} free. "
            "Make room, or store less: fewer views, fewer or smaller taps, top_k, float16",
            str(directory),
        )


@contextlib.contextmanager
def full_explained(directory, progress=None):
    """Says of a full disk what is finished, what is needed and how to go on.

    Args:
        directory: the cache's.
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
            f"The disk is full. {kept}{needed}{readable(_free(directory))} are "
            "free. Make room and call TeacherCache.build again with the same arguments, which goes "
            "on where it was stopped",
            str(directory),
        ) from error


def _free(directory):
    """Bytes that are free where the directory is, or is to be."""
    directory = Path(directory).absolute()
    place = next(path for path in (directory, *directory.parents) if path.exists())
    return shutil.disk_usage(place).free


def readable(size):
    """A number of bytes as people write it: "12.3 MB"."""
    if size < 1000:
        return f"{size} bytes"
    power = min(int(math.log10(size)) // 3, 4)
    return f"{size / 1000**power:.1f} {'kMGT'[power - 1]}B"
