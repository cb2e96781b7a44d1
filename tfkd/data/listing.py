"""The listing of a folder: every image with its size, time and header, measured once and kept.

It is kept in a file named for the folder, in the user's cache directory or where the caller says.
What is read there is only used for files whose name, size and time of change are the same; a file
that is damaged, of another folder or of another version is ignored and written anew. The format is
NumPy's npz, uncompressed, without pickled objects.
"""

import contextlib
import hashlib
import json
import os
import tempfile
import time
import warnings
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tfkd.data.headers import Header, read_header

# Of what is kept and of how files are decoded: another number, and all is measured anew.
VERSION = 1
# A file changed within so many ns before it was read may change again without a newer time.
CLOCK_STEP = 2 * 10**9
_COLUMNS = len(Header._fields)
_UNREAD = np.full(_COLUMNS, -1, np.int64)
# Files are opened one by one where that is quick: threads would wait for each other, not a disk.
_TRIED, _QUICK_SECONDS, _THREADS = 64, 2e-4, 16
_REFUSED_SHOWN = 20
_FINGERPRINTS_KEPT = 64


class Listing(NamedTuple):
    """Files of a folder, in order.

    Attributes:
        root: the folder.
        names: list of str, paths from the root.
        stats: int64 (n, 2): size in bytes, time of change in ns.
        headers: int64 (n, 5): the fields of `Header`.
        fingerprints: {what was made of the files: its fingerprint}; empty as soon as one of them
            changed.
        path: where it is kept, or None.
    """

    root: str
    names: list
    stats: np.ndarray
    headers: np.ndarray
    fingerprints: dict
    path: Path | None

    def paths(self, indices=None):
        """The paths of all files, or of some, as the file system has them: list of bytes."""
        names = self.names if indices is None else [self.names[index] for index in indices]
        root = os.fsencode(self.root) + b"/"
        return [root + name for name in os.fsencode("\0".join(names)).split(b"\0") if names]

    def digest(self):
        """sha256 of names, sizes and times."""
        return _digest(_blob(self.names), self.stats)


def cache_directory():
    """The user's cache directory of tfkd: $XDG_CACHE_HOME/tfkd, else ~/.cache/tfkd."""
    home = os.environ.get("XDG_CACHE_HOME", "")
    # The XDG specification: a relative path is ignored.
    base = Path(home) if os.path.isabs(home) else Path.home() / ".cache"
    return base / "tfkd"


def measured(root, names, stats, directory=None):
    """Measures files: from what is kept where they are unchanged, else from their headers.

    Args:
        root: the folder.
        names: list of str, paths from the root.
        stats: int64 array (n, 2): size and time; -1 for what is no file.
        directory: where the listing is kept; None for `cache_directory()` / "listings".

    Returns:
        (`Listing`, {index: why it is no image} of the files whose headers cannot be read; these
        are -1).
    """
    directory = Path(directory) if directory is not None else cache_directory() / "listings"
    real = os.path.realpath(root)
    path = directory / f"{hashlib.sha256(os.fsencode(real)).hexdigest()[:32]}.npz"
    kept = _read(path, real)
    listing = Listing(root, names, stats, np.tile(_UNREAD, (len(names), 1)), {}, path)
    if kept is not None:
        if kept[0] == _blob(names) and np.array_equal(kept[1], stats):
            listing.headers[:] = kept[2]
            listing.fingerprints.update(kept[3])
        else:
            _take_over(listing, *kept[:3])
    missing, refused = np.flatnonzero(listing.headers[:, 0] < 0), []
    if len(missing):
        trusted = listing.headers[:, 0] >= 0
        # The oldest first: a file that was changed just now is read as late as possible.
        missing = missing[np.argsort(stats[missing, 1], kind="stable")]
        refused = _measure(listing, missing, trusted)
        if len(refused) < len(missing):  # else all is as it was: what was no image is none
            listing.fingerprints.clear()
            keep(listing, trusted)
    return listing, dict(sorted(refused))


def keep(listing, trusted=None):
    """Writes a listing down, beside and renamed; a warning where that fails.

    Args:
        trusted: bool array (n,) of headers that stay true as long as the files' times do; None for
            all.
    """
    headers = listing.headers
    if trusted is not None:
        headers = np.where(trusted[:, np.newaxis], headers, _UNREAD)
    blob = _blob(listing.names)
    known = dict(list(listing.fingerprints.items())[-_FINGERPRINTS_KEPT:])
    about = {
        "version": VERSION,
        "root": os.fsencode(os.path.realpath(listing.root)).hex(),
        "fingerprints": known,
        "sum": _digest(blob, listing.stats, headers, json.dumps(known).encode()),
    }
    arrays = {
        "about": np.frombuffer(json.dumps(about).encode(), np.uint8),
        "names": np.frombuffer(blob, np.uint8),
        "stats": listing.stats,
        "headers": headers,
    }
    beside = None
    try:
        listing.path.parent.mkdir(parents=True, exist_ok=True)
        file, beside = tempfile.mkstemp(dir=listing.path.parent, prefix=".listing-")
        with os.fdopen(file, "wb") as opened:
            np.savez(opened, **arrays)
        os.replace(beside, listing.path)
    except OSError as error:
        if beside is not None:
            with contextlib.suppress(OSError):
                os.remove(beside)
        warnings.warn(
            f'Could not keep the listing of "{listing.root}" in "{listing.path.parent}": '
            f"{error.strerror or error}. The folder will be measured again next time. Free some "
            "space there, or set XDG_CACHE_HOME to a directory that can be written.",
            stacklevel=5,
        )


def fresh(listing, when):
    """Whether no file changed so shortly before `when` (time.time_ns()) that it may change again
    with the same time."""
    return not len(listing.stats) or int(listing.stats[:, 1].max()) <= when - CLOCK_STEP


def refuse(listing, bad):
    """Raises ValueError for files that cannot be read, if there are any.

    Args:
        listing: `Listing`.
        bad: {index: why}.
    """
    if not bad:
        return
    way_out = "or leave out what cannot be read: --skip-damaged, skip_damaged=True in Python"
    paths = [
        (os.path.join(listing.root, listing.names[index]), bad[index]) for index in sorted(bad)
    ]
    if len(paths) == 1:
        path, why = paths[0]
        raise ValueError(
            f'Cannot read the image "{path}": {why}. Replace or remove the file, {way_out}.'
        )
    lines = [f'  "{path}": {why}' for path, why in paths[:_REFUSED_SHOWN]]
    if len(paths) > _REFUSED_SHOWN:
        lines.append(f"  and {len(paths) - _REFUSED_SHOWN} more (tfkd data names them all)")
    raise ValueError(
        f"Cannot read {len(paths)} images:\n"
        + "\n".join(lines)
        + f"\nReplace or remove these files, {way_out}."
    )


def _measure(listing, indices, trusted):
    """Reads headers into the listing; list of (index, reason) of files that have none.

    `trusted` is set for those that stay true as long as the file's time does.
    """
    paths = listing.paths(indices)

    def one(position):
        index = indices[position]
        try:
            if listing.stats[index, 0] < 0:
                return index, "it is no file, or a link to nowhere"
            when = time.time_ns()
            listing.headers[index] = read_header(paths[position])
            trusted[index] = listing.stats[index, 1] <= when - CLOCK_STEP
        except OSError as error:
            return index, error.strerror or str(error)
        except ValueError as error:
            return index, str(error)
        return None

    started = time.perf_counter()
    tried = [one(position) for position in range(min(_TRIED, len(paths)))]
    each = (time.perf_counter() - started) / len(tried)
    rest = range(len(tried), len(paths))
    if each < _QUICK_SECONDS:
        tried += map(one, rest)
    else:
        with ThreadPoolExecutor(_THREADS) as threads:
            tried += threads.map(one, rest, chunksize=1)
    return [found for found in tried if found is not None]


def _take_over(listing, blob, stats, headers):
    """Headers of files that are in a kept listing with the same name, size and time."""
    names = blob.decode(errors="surrogateescape").split("\0")
    known = {
        (name, *stat): row for name, stat, row in zip(names, stats.tolist(), headers, strict=True)
    }
    for index, (name, stat) in enumerate(zip(listing.names, listing.stats.tolist(), strict=True)):
        row = known.get((name, *stat))
        if row is not None:
            listing.headers[index] = row


def _read(path, root):
    """(names, stats, headers, fingerprints) as kept, or None for whatever is not sound."""
    try:
        with zipfile.ZipFile(path) as archive:
            if any(item.compress_type != zipfile.ZIP_STORED for item in archive.infolist()):
                return None
        with np.load(path, allow_pickle=False) as kept:
            about = json.loads(kept["about"].tobytes())
            names, stats, headers = kept["names"].tobytes(), kept["stats"], kept["headers"]
        known = about["fingerprints"]
        count = names.count(b"\0") + 1
        sound = (
            about["version"] == VERSION
            and about["root"] == os.fsencode(root).hex()
            and about["sum"] == _digest(names, stats, headers, json.dumps(known).encode())
            and stats.dtype == headers.dtype == np.int64
            and stats.shape == (count, 2)
            and headers.shape == (count, _COLUMNS)
            and all(isinstance(text, str) for pair in known.items() for text in pair)
        )
    except Exception:  # bytes of strangers: nothing of them may stop a load
        return None
    return (names, stats, headers, known) if sound else None


def _blob(names):
    return "\0".join(names).encode(errors="surrogateescape")


def _digest(*pieces):
    digest = hashlib.sha256()
    for piece in pieces:
        digest.update(np.ascontiguousarray(piece).data if isinstance(piece, np.ndarray) else piece)
    return digest.hexdigest()
