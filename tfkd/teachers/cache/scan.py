"""Reading a cache's shards from end to end: checksums, fingerprints, and whether they fit."""

import hashlib
from typing import NamedTuple

import numpy as np

from tfkd.teachers.cache import disk
from tfkd.teachers.cache.layout import FINGERPRINT_BYTES, Layout
from tfkd.teachers.cache.manifest import shard_header, shard_range

_CHUNK = 2**24  # bytes


class Scanned(NamedTuple):
    """What was found in a shard's file.

    Attributes:
        sha256: of the file, in hexadecimal.
        fingerprints: those of the examples, 8 bytes each, in order.
        wrong: what is wrong with a record, in words, or None.
    """

    sha256: str
    fingerprints: bytes
    wrong: str | None


def scanned(folder, manifest, numbers=None, careful=False):
    """Reads shards, several at a time.

    Args:
        folder, manifest: the cache's.
        numbers: of the shards; by default all.
        careful: whether to look at every number of every record, too.

    Yields:
        `Scanned` of each, in order.

    Raises:
        OSError: a file that is missing, or no plain file.
    """
    numbers = range(len(manifest["shards"])) if numbers is None else numbers
    layout = Layout(manifest["knowledge"])
    return disk.in_threads(lambda n: _scan(folder, manifest, n, layout, careful), numbers)


def _scan(folder, manifest, number, layout, careful):
    (first, _), views = shard_range(manifest, number), manifest["views"]
    header, left = shard_header(manifest, number)
    digest, marks, wrong = hashlib.sha256(), [], None
    whole = max(1, _CHUNK // (views * layout.dtype.itemsize)) * views * layout.dtype.itemsize
    with folder.open(manifest["shards"][number]["file"]) as file:
        begins = file.read(len(header))
        digest.update(begins)
        if begins != header:
            wrong = "its header is not that of the manifest"
        while left:
            part = file.read(min(whole, left))
            digest.update(part)
            if len(part) < min(whole, left):
                wrong = wrong or "it is too short"
                break
            records = np.frombuffer(part, np.uint8).reshape(-1, views, layout.dtype.itemsize)
            own = records[:, :, :FINGERPRINT_BYTES]
            wrong = wrong or _wrong(records, own, first, layout, careful)
            marks.append(own[:, 0].tobytes())
            first += len(records)
            left -= len(part)
        rest = file.read(1)
    if rest:
        wrong = wrong or "it is too long"
    digest.update(rest)
    return Scanned(digest.hexdigest(), b"".join(marks), wrong)


def _wrong(records, marks, first, layout, careful):
    """What is wrong with some records, in words, or None."""
    other = np.any(marks != marks[:, :1], axis=2)
    if other.any():
        example, view = np.argwhere(other)[0]
        return (
            f"the record of example {first + example}, view {view}, belongs to another example: "
            "its fingerprint is not that of the other views"
        )
    if careful:
        bad = layout.first_not_finite(records.reshape(-1, layout.dtype.itemsize))
        if bad is not None:
            views = records.shape[1]
            return (
                f'"{bad[1]}" of example {first + bad[0] // views}, view {bad[0] % views}, is not '
                "finite"
            )
    return None
