"""The disk under a teacher cache: whole files or none, and room for them."""

import contextlib
import errno
import hashlib
import io
import itertools
import math
import os
import shutil

import numpy as np


def write_shard(path, shape, dtype, parts):
    """Writes one `.npy` file beside and renames it.

    Args:
        path: `pathlib.Path` of the file.
        shape, dtype: of the array.
        parts: iterable of its bytes.

    Returns:
        The file's sha256, in hexadecimal.
    """
    header = io.BytesIO()
    description = np.lib.format.dtype_to_descr(dtype)
    np.lib.format.write_array_header_2_0(
        header, {"descr": description, "fortran_order": False, "shape": shape}
    )
    digest = hashlib.sha256()
    beside = path.with_suffix(".partial")
    try:
        with open(beside, "wb") as file:
            for part in itertools.chain([header.getvalue()], parts):
                file.write(part)
                digest.update(part)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    os.replace(beside, path)
    return digest.hexdigest()


def check_space(directory, needed):
    """Raises OSError where fewer than `needed` bytes are free."""
    free = shutil.disk_usage(directory).free
    if needed > free:
        raise OSError(
            errno.ENOSPC,
            f"The teacher cache needs {readable(needed)}, but there are {readable(free)} free. "
            "Make room, or store less: fewer views, fewer or smaller taps, top_k, float16",
            str(directory),
        )


@contextlib.contextmanager
def full_explained(directory, shards, shard_bytes):
    """Says of a full disk what is finished, what is needed and how to go on.

    Args:
        directory: the cache's.
        shards: the manifest's list of shards, of which the finished have a sha256.
        shard_bytes: of one shard, about.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        done = sum(shard["sha256"] is not None for shard in shards)
        raise OSError(
            error.errno,
            f"The disk is full. {done} of {len(shards)} shards of the teacher cache are finished "
            f"and stay; about {readable((len(shards) - done) * shard_bytes)} more are needed. Make "
            "room and call TeacherCache.build again with the same arguments",
            str(directory),
        ) from error


def readable(size):
    """A number of bytes as people write it: "12.3 MB"."""
    if size < 1000:
        return f"{size} bytes"
    power = min(int(math.log10(size)) // 3, 4)
    return f"{size / 1000**power:.1f} {'kMGT'[power - 1]}B"
