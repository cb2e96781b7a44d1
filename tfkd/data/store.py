"""Images decoded and resized once, kept on disk and read from there: what a run sees is the same.

A store is a folder of ArrayRecord files, each record the bytes of one image: any of them can be
read alone, as a full shuffle needs, and each has a checksum that is compared when it is read.
Records are not compressed: photos hardly get smaller without loss, and to unpack a PNG takes longer
than to decode the JPEG that it was made from (benchmarks/README.md, "Images").

What a store is of stands in its folder's name: names, sizes and times of the files, size of the
images, rule of resizing. Of other files or another size another store is built beside it. Files are
written beside and renamed; whatever is missing or cut off is built when the store is opened.
"""

import contextlib
import hashlib
import json
import os
import time
import warnings
from pathlib import Path

import filelock
import numpy as np

from tfkd import terminal
from tfkd._extras import needs_extra
from tfkd.data.listing import CLOCK_STEP, VERSION, fresh, refuse
from tfkd.files import DiskFullError, free_bytes, write_json, written

FORMAT = 1
ABOUT = "store.json"
# Into how many files a store is divided, at most, and how many images one holds at least: of a
# build that is killed one file is lost.
_FILES, _FEWEST = 64, 512
_WRITING = "group_size:1,uncompressed"
_READING = "readahead_buffer_size:0,max_parallelism:0"  # each record by itself
_RECORD_OVERHEAD = 512  # bytes; more than ArrayRecord adds to a record
_NAME_LENGTH = 100


class Store:
    """The stored images of a folder, complete.

    Args:
        path: the store's folder.
        numbers: sorted int64 array (n,), the files of a listing that it holds.
        shape: (height, width, channels).
    """

    def __init__(self, path, numbers, shape):
        self.path, self.shape = Path(path), tuple(shape)
        self._rows = np.full(numbers.max() + 1, -1, np.int64)
        self._rows[numbers] = np.arange(len(numbers))
        self._per_file, self._names = _per_file(len(numbers)), list(_files(len(numbers)))
        self._readers = [_reader(self.path / name) for name in self._names]

    def read(self, indices):
        """Images by their files' numbers in the listing.

        Args:
            indices: int64 array (n,).

        Returns:
            uint8 array (n, height, width, channels).

        Raises:
            ValueError: a record is damaged.
        """
        images = np.empty((len(indices), *self.shape), np.uint8)
        flat = images.reshape(len(indices), -1)
        rows = self._rows[indices]
        if len(rows) and rows.min() < 0:
            raise ValueError(f'The store "{self.path}" has no image of a file that was left out.')
        files, places = np.divmod(rows, self._per_file)
        for number in np.unique(files):
            own = np.flatnonzero(files == number)
            try:
                records = self._readers[number].read(places[own].tolist())
                for position, record in zip(own, records, strict=True):
                    flat[position] = np.frombuffer(record, np.uint8)
            except (RuntimeError, IndexError, ValueError) as error:
                raise ValueError(
                    f'The store of images is damaged: "{self.path / self._names[number]}" '
                    f"({error}). Delete this file: the next start builds it anew."
                ) from error
        return images


def opened(directory, images, numbers):
    """The store of a listing's files, built as far as it is not there yet.

    Args:
        directory: where stores are kept, each in a folder of its own.
        images: `tfkd.data.reading.Images`, which decodes what is to be stored.
        numbers: sorted int64 array (n,), the files that can be read.

    Returns:
        `Store`.

    Raises:
        ValueError: a file cannot be read, or changed meanwhile; something else is in the folder.
        DiskFullError: there is no room for it.
        MissingExtraError: without the extra "data".
    """
    needs_extra("data", "A store of images")
    about = _about(images, numbers)
    path = Path(directory).expanduser() / _name(images, about)
    if _missing(path, about):
        with _only_builder(path):
            _build(path, about, images, numbers)
    return Store(path, numbers, images.shape)


def _about(images, numbers):
    """What a store is of, as it stands in its `store.json`."""
    listing, files = images.listing, hashlib.sha256()
    for number in numbers:
        name, (size, changed) = listing.names[number], listing.stats[number]
        files.update(f"{name}\0{size}\0{changed}\0".encode(errors="surrogateescape"))
    return {
        "format": FORMAT,
        "decoding": VERSION,
        "files": f"sha256:{files.hexdigest()}",
        "images": len(numbers),
        "shape": list(images.shape),
        "resize": images.rule,
    }


def _name(images, about):
    """The name of a store's folder."""
    root = os.path.basename(os.path.realpath(images.listing.root))[:_NAME_LENGTH]
    size = "x".join(map(str, images.shape))
    digest = hashlib.sha256(json.dumps(about).encode()).hexdigest()[:16]
    return f"{root}-{size}-{images.rule or 'as_it_is'}-{digest}"


def _per_file(count):
    """How many of so many images stand in a file."""
    return max(_FEWEST, -(-count // _FILES))


def _files(count):
    """{name of a file: how many images it holds} of a store of so many images."""
    each = _per_file(count)
    files = -(-count // each)
    return {
        f"images-{number:05d}-of-{files:05d}.array_record": min(each, count - number * each)
        for number in range(files)
    }


def _reader(path):
    from array_record.python.array_record_module import ArrayRecordReader

    return ArrayRecordReader(str(path), _READING)


def _missing(path, about):
    """Names of a store's files that are not there, or not whole.

    Raises:
        ValueError: something else is in the folder.
    """
    try:
        found = json.loads((path / ABOUT).read_text())
    except FileNotFoundError:
        found = about
    except ValueError:
        found = None
    if found != about:
        raise ValueError(
            f'"{path / ABOUT}" is not what tfkd wrote there. Delete the folder "{path}", and the '
            "store is built anew; or give another --store."
        )
    # ArrayRecord takes a file that was cut off, or is not there, for an empty one.
    return [
        name
        for name, count in _files(about["images"]).items()
        if not (path / name).is_file() or _reader(path / name).num_records() != count
    ]


@contextlib.contextmanager
def _only_builder(path):
    """Keeps other processes from building the same store: they wait, and find it built."""
    path.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(path / ".lock")
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        with terminal.step(f'Waiting for another process, which builds "{path}"'):
            lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _build(path, about, images, numbers):
    """Writes what is missing of a store."""
    missing, sizes = _missing(path, about), _files(len(numbers))
    if not missing:  # another process built it meanwhile
        return
    count = sum(sizes[name] for name in missing)
    needed = count * (int(np.prod(images.shape)) + _RECORD_OVERHEAD)
    if needed > free_bytes(path):
        raise DiskFullError(
            path,
            f'The store of images "{path}" needs {needed / 1e9:.1f} GB more, but there are '
            f"{free_bytes(path) / 1e9:.1f} GB free. Make room, give a folder on another disk, or a "
            "smaller --image-size.",
        )
    _name_others(path)
    _let_settle(images.listing)
    write_json(path / ABOUT, about)
    each = _per_file(len(numbers))
    with terminal.step("Storing decoded images", total=count) as step:
        for position, name in enumerate(sizes):
            if name in missing:
                own = numbers[position * each : (position + 1) * each]
                _write(path / name, images, own, step)
                _refuse_changed(images.listing, own, path / name)


def _write(path, images, numbers, step):
    """Writes one file of a store."""
    from array_record.python.array_record_module import ArrayRecordWriter

    with written(path) as partial:
        writer, found = ArrayRecordWriter(str(partial), _WRITING), []
        try:
            for positions, some in images.decoded(numbers):
                for image in some:
                    writer.write(image.tobytes())
                found.append(positions)
                step.advance(len(positions))
        finally:
            writer.close()
        failed = np.delete(numbers, np.concatenate(found)) if found else numbers
        refuse(images.listing, images.whys(failed))
        if _reader(partial).num_records() != len(numbers):
            raise OSError(f'ArrayRecord could not write "{path}".')
        with open(partial, "rb") as file:
            os.fsync(file.fileno())


def _let_settle(listing):
    """Waits until no file is so new that it could change again without a newer time."""
    while not fresh(listing, now := time.time_ns()):
        newest = int(listing.stats[:, 1].max())
        if newest > now:  # a clock that is ahead: nothing to wait for
            break
        time.sleep((newest + CLOCK_STEP - now) / 1e9 + 0.01)


def _refuse_changed(listing, numbers, path):
    """Refuses files that changed while they were read; what was stored of them goes."""
    for number, file in zip(numbers, listing.paths(numbers), strict=True):
        status = os.stat(file)
        if (status.st_size, status.st_mtime_ns) != tuple(listing.stats[number].tolist()):
            path.unlink()
            raise ValueError(
                f'"{os.fsdecode(file)}" changed while it was read for the store. Start again when '
                "nothing writes into the folder any more."
            )


def _name_others(path):
    """Warns of stores of the same folder, size and rule as it was before: they take room."""
    start = path.name.rpartition("-")[0]
    others = [
        own.name
        for own in path.parent.iterdir()
        if own.name.startswith(f"{start}-") and own != path and any(own.glob("images-*"))
    ]
    if others:
        warnings.warn(
            f'"{path.parent}" holds a store of the same folder with other files: '
            f"{', '.join(others)}. Delete it unless these files are to come back.",
            stacklevel=2,
        )
