"""Version directories the way TF Serving reads them: `base/1`, `base/2`, …; anything not a whole
number is ignored.

A version is written to a hidden sibling and renamed when it is whole and checked, so a server that
polls the base directory never sees half of one."""

import contextlib
import fcntl
import os
import re
import secrets
import shutil
from pathlib import Path

_HIDDEN = ".tmp-"
LARGEST_VERSION = 2**63 - 1
_NAME = re.compile(r"[^/:\x00-\x1f]+")  # what fits into TensorFlow Serving's addresses


def list_versions(base):
    """Version numbers under `base` with their directories: {number: path}, ascending; {} if there
    is no such directory."""
    found = {}
    with contextlib.suppress(FileNotFoundError), os.scandir(base) as entries:
        for entry in entries:
            if entry.name.isascii() and entry.name.isdecimal() and entry.is_dir():
                number = int(entry.name)
                if number <= LARGEST_VERSION:
                    found[number] = Path(entry.path)
    return dict(sorted(found.items()))


@contextlib.contextmanager
def new_version(base, version=None, keep=None):
    """Write a version: `with new_version(base) as version: write(version.directory)`; then
    `version.path` is published.

    Args:
        base: the model's base directory; made if missing.
        version: whole number ≥ 1; None takes the next one.
        keep: afterwards only the newest `keep` versions stay; None keeps all.

    Raises:
        ValueError, FileExistsError, NotADirectoryError: the arguments do not fit; before anything
        is written.
    """
    for name, value in (("version", version), ("keep", keep)):
        if value is not None and (type(value) is not int or value < 1):
            raise ValueError(
                f"{name} must be a whole number of at least 1, or None; given {value!r}."
            )
    base = Path(base)
    _require_base(base)
    if version in list_versions(base):
        raise FileExistsError(
            f"Version {version} exists already in {base}. Leave version=None for the next number."
        )
    base.mkdir(parents=True, exist_ok=True)
    _remove_abandoned(base)
    new = _NewVersion(base / f"{_HIDDEN}{secrets.token_hex(6)}", version)
    new.directory.mkdir()
    lock = os.open(new.directory, os.O_RDONLY)
    try:
        fcntl.flock(
            lock, fcntl.LOCK_EX
        )  # held by the living: what is unlocked was left by a killed exporter
        yield new
        new.publish(base)
    finally:
        os.close(lock)
        shutil.rmtree(new.directory, ignore_errors=True)
    if keep is not None:
        for number, path in list(list_versions(base).items())[:-keep]:
            if number != new.number:
                remove_version(path)


def require_names(models, labels):
    """Raise ValueError unless models and labels have names that requests can hold, and every label
    stands for a version of a model that is served."""
    for name in models:
        if not isinstance(name, str) or not _NAME.fullmatch(name) or name in (".", ".."):
            raise ValueError(f'A model cannot be called {name!r}: give a name without "/" and ":".')
    unknown = sorted(set(labels) - set(models))
    if unknown:
        raise ValueError(f"Labels are given for {unknown}, which are not among {sorted(models)}.")
    for name, versions in labels.items():
        for label, version in versions.items():
            if not isinstance(label, str) or not _NAME.fullmatch(label):
                raise ValueError(f'A label of {name} cannot be {label!r}: it has no "/" and ":".')
            if type(version) is not int or not 0 < version <= LARGEST_VERSION:
                raise ValueError(
                    f'Label "{label}" of {name} must stand for the number of a version; given '
                    f"{version!r}."
                )


def remove_version(path):
    """Take a version out of sight by one rename, then delete it."""
    hidden = Path(path).with_name(f"{_HIDDEN}{secrets.token_hex(6)}")
    os.rename(path, hidden)
    shutil.rmtree(hidden)


class _NewVersion:
    def __init__(self, directory, number):
        self.directory = directory
        self.number = number
        self.path = None

    def publish(self, base):
        asked = self.number
        while True:
            self.number = asked or max(list_versions(base), default=0) + 1
            target = base / str(self.number)
            try:
                os.rename(self.directory, target)
            except OSError as error:  # another exporter took the number meanwhile
                if asked or not target.exists():
                    raise FileExistsError(
                        f"Version {target} could not be made: {error}."
                    ) from error
            else:
                self.path = target
                return


def _require_base(base):
    if not base.exists():
        return
    if not base.is_dir():
        raise NotADirectoryError(
            f"{base} is a file; a directory for the model's versions is needed."
        )
    if (base / "saved_model.pb").exists():
        raise ValueError(
            f"{base} is itself a SavedModel. Give the directory above it: {base.parent}."
        )
    versions = set(list_versions(base).values())
    foreign = sorted(
        p.name for p in base.iterdir() if p not in versions and not p.name.startswith(".")
    )
    if foreign:
        raise ValueError(
            f'{base} is no base directory of a model: it holds "{foreign[0]}". Such a directory '
            "holds versions "
            "(1, 2, …) and nothing else; give a new or an empty one."
        )


def _remove_abandoned(base):
    for path in base.glob(f"{_HIDDEN}*"):
        with contextlib.suppress(OSError):
            descriptor = os.open(path, os.O_RDONLY)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(path, ignore_errors=True)
            finally:
                os.close(descriptor)
