"""The cache's directory: one writer, files that are whole or not there, and what they belong to.

While a cache is built, `building.json` lists the finished shards; when it is complete,
`manifest.json` takes its place. Both hold no date and no path: equal caches are equal bytes.
"""

import concurrent.futures
import contextlib
import fcntl
import hashlib
import json
import os
from pathlib import Path

MANIFEST = "manifest.json"
BUILDING = "building.json"
FORMAT = 1

# What must be the same for stored knowledge to be right, and what a reader calls it.
_IDENTITY = {
    "format": "the cache format",
    "teacher": "the teacher, its weights or its config",
    "knowledge": "the tensors that the losses read",
    "temperature": "the temperature of the top-k storage",
    "examples": "the number of examples",
    "image": "the images' shape and dtype",
    "views": "the number of views",
    "augmentation": "the augmentation",
    "seed": "the seed of the augmentation",
}


@contextlib.contextmanager
def only_builder(directory):
    """Holds the directory for one builder; the kernel lets go of it when the process ends.

    Raises:
        RuntimeError: another builder has it.
    """
    handle = os.open(directory, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RuntimeError(
                f'Teacher cache "{directory}" is being built by another process. Wait for it, or '
                "build in another directory."
            ) from None
        yield
    finally:
        os.close(handle)


def read(directory, name=MANIFEST):
    """The manifest as a dict, None if there is none.

    Raises:
        ValueError: it cannot be read.
    """
    path = Path(directory) / name
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        return None
    except ValueError:
        raise ValueError(
            f'Teacher cache: "{path}" is damaged. Delete "{directory}" and build it anew.'
        ) from None


def write(directory, name, content):
    """Writes a JSON file beside, then moves it into place."""
    path = Path(directory) / name
    beside = path.with_suffix(".partial")
    with open(beside, "w") as file:
        json.dump(content, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    os.replace(beside, path)


def check_same(directory, stored, wanted, keys=tuple(_IDENTITY)):
    """Raises ValueError that names what differs between a stored manifest and what is asked for."""
    different = [
        f"{_IDENTITY.get(key, key)} (built with {_short(stored.get(key))}, now "
        f"{_short(wanted[key])})"
        for key in keys
        if stored.get(key) != wanted[key]
    ]
    if different:
        raise ValueError(
            f'Teacher cache "{directory}" belongs to something else. What differs: '
            + "; ".join(different)
            + ". Go back to what it was built with, or build another cache in another directory."
        )


def sound_shards(directory, manifest):
    """For each shard whether its file is whole: there, and of the checksum that the manifest says.

    Args:
        directory: the cache's.
        manifest: dict with "shards", a list of {"file", "sha256"}; sha256 is None where unwritten.
    """

    def sound(shard):
        path = Path(directory) / shard["file"]
        return shard["sha256"] is not None and path.is_file() and checksum(path) == shard["sha256"]

    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:  # hashing frees the GIL
        return list(pool.map(sound, manifest["shards"]))


def checksum(path):
    """The sha256 of a file, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _short(value):
    text = value if isinstance(value, str) else json.dumps(value)
    return text[:19] + "…" if text.startswith("sha256:") else text
