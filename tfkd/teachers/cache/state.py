"""What of a cache is built already, however many builders there are and wherever they run.

While a cache is built, `building.json` says what it belongs to, and a record beside each finished
shard holds its checksum and that of `building.json`. When all are there, whoever sees it first
writes `manifest.json` and removes the rest.

The result does not depend on locks: files are whole or not there, equal work gives equal bytes, a
record follows its shard and counts for one `building.json` alone, and every shard is read once more
before the manifest is written. Locks, where a file system has them, only save work.
"""

import hashlib
import json
import re
import warnings

from tfkd.teachers.cache import manifest
from tfkd.teachers.cache.folders import BUILDING, MANIFEST
from tfkd.teachers.cache.manifest import BUILDERS, IDENTITY
from tfkd.teachers.cache.scan import scanned

_RECORD = re.compile(r"shard-\d{5}\.json")


class State:
    """A cache that is being built.

    Args:
        folder: the cache's, in which `building.json` is.

    Attributes:
        manifest: dict, the content of `building.json`.
    """

    def __init__(self, folder):
        self.folder, self.manifest = folder, manifest.read(folder, BUILDING)
        self._belongs = self._building_now()

    @property
    def count(self):
        """Number of shards of the whole cache."""
        return len(self.manifest["shards"])

    def name(self, number):
        """The name of a shard's file."""
        return self.manifest["shards"][number]["file"]

    def finished(self, numbers=None):
        """{number: sha256} of the shards that are there, by their records and sizes.

        Args:
            numbers: of the shards to look for; by default all.
        """
        sizes = self.folder.sizes()
        there = [
            number
            for number in (range(self.count) if numbers is None else numbers)
            if sizes.get(self.name(number)) == manifest.shard_bytes(self.manifest, number)
            and _record(number) in sizes
        ]
        read = self.folder.read_all(map(_record, there))
        found = {number: self._checksum(read.get(_record(number))) for number in there}
        return {number: sha256 for number, sha256 in found.items() if sha256}

    def has(self, number):
        """Whether a shard is there by now.

        Raises:
            RuntimeError: the folder has become that of another cache.
        """
        if self.finished([number]):
            return True
        if manifest.read(self.folder) is not None:  # it is written before records are removed
            return True
        if self._building_now() != self._belongs:
            raise RuntimeError(
                f'Teacher cache "{self.folder}" was begun anew by another builder with other '
                "settings, data or teacher meanwhile. Build them in different directories."
            )
        return False

    def note(self, number, sha256):
        """Says that a shard is there."""
        content = json.dumps({"sha256": sha256, "building": self._belongs}).encode()
        try:
            self.folder.write(_record(number), content)
        except OSError:
            self.folder.remove([self.name(number)])
            raise

    def finish(self):
        """Writes the manifest, if all shards are there and as they were written.

        Returns:
            Numbers of the shards that are missing or damaged; none where the cache is complete.
        """
        with self.folder.locked():
            if manifest.read(self.folder) is not None:
                tidy(self.folder)
                return []
            done = self.finished()
            missing = sorted(set(range(self.count)) - set(done))
            if missing:
                return missing
            bad, data = [], hashlib.sha256()
            for number, found in enumerate(scanned(self.folder, self.manifest)):
                data.update(found.fingerprints)
                if found.sha256 != done[number]:
                    bad.append(number)
            if bad:
                self.folder.remove(map(_record, bad))
                return bad
            whole = {**self.manifest, "data": f"sha256:{data.hexdigest()}"}
            whole["shards"] = [
                {"file": self.name(number), "sha256": done[number]} for number in sorted(done)
            ]
            del whole["versions"], whole["sample"]
            self.folder.write(MANIFEST, manifest.encoded(whole))
            tidy(self.folder)
            self.folder.clear()
            return []

    def damaged(self):
        """Numbers of finished shards whose files are not what was written; they are missing now."""
        done = self.finished()
        shards = [{"file": self.name(n), "sha256": done.get(n)} for n in range(self.count)]
        sound = manifest.sound_shards(self.folder, {**self.manifest, "shards": shards})
        bad = [number for number in done if not sound[number]]
        self.folder.remove(map(_record, bad))
        return bad

    def _building_now(self):
        return _digest(self.folder.read_all([BUILDING]).get(BUILDING, b""))

    def _checksum(self, record):
        """The checksum in a record's bytes; None where it is no record of this cache."""
        try:
            content = json.loads(record or b"")
            return content["sha256"] if content["building"] == self._belongs else None
        except (ValueError, TypeError, KeyError, RecursionError):
            return None


def begin(folder, wanted):
    """Makes a folder one of the cache that is wanted, or finds that it is.

    Args:
        folder: the cache's.
        wanted: what `building.json` is to say.

    Returns:
        (manifest, `State`), the state None where the cache is finished and whole.

    Raises:
        ValueError: the folder belongs to something else.
        RuntimeError: another builder is busy there with something else.
    """
    sound = None
    try:
        finished = manifest.read(folder)
    except manifest.DamagedError:
        finished = None
    if finished is not None:
        manifest.check_same(folder, finished, wanted)
        sound = manifest.sound_shards(folder, finished)
        if all(sound):
            tidy(folder)
            return finished, None
    with folder.locked():
        try:
            finished = manifest.read(folder)
            stored = finished or manifest.read(folder, BUILDING)
        except manifest.DamagedError as error:
            warnings.warn(f"{error} This is done now.", stacklevel=4)
            _anew(folder, wanted)
            finished, stored = None, wanted
        if finished and sound is not None:
            _reopen(folder, finished, sound, wanted)
        elif finished:  # by another builder, while this one waited
            manifest.check_same(folder, finished, wanted)
            return finished, None
        elif stored is None:
            _check_empty(folder)
            folder.write(BUILDING, manifest.encoded(wanted))
        else:
            _go_on(folder, stored, wanted)
        state = State(folder)
        return state.manifest, state


def tidy(folder):
    """Removes what stands beside a finished cache's manifest and shards."""
    folder.remove(n for n in folder.sizes() if n == BUILDING or _RECORD.fullmatch(n))


def _go_on(folder, stored, wanted):
    """Goes on with what others have begun, unless it is something else."""
    keys = IDENTITY + BUILDERS
    different = manifest.differences(stored, wanted, keys)
    if not different:
        return
    if State(folder).finished():
        manifest.check_same(folder, stored, wanted, keys)
    if folder.in_use():
        raise RuntimeError(
            f'Teacher cache "{folder}" is being built by another process with something else. What '
            f"differs: {'; '.join(different)}. Build in another directory, or wait for it."
        )
    _anew(folder, wanted)


def _reopen(folder, finished, sound, wanted):
    """Makes a finished cache with damaged shards one that is being built."""
    own = {key: wanted[key] for key in ("versions", "sample")}
    shards = [{**shard, "sha256": None} for shard in finished["shards"]]
    building = {**finished, **own, "shards": shards}
    del building["data"]
    folder.write(BUILDING, manifest.encoded(building))
    state = State(folder)
    for number, whole in enumerate(sound):
        if whole:
            state.note(number, finished["shards"][number]["sha256"])
    folder.remove([MANIFEST])


def _anew(folder, wanted):
    """Begins the folder's cache from nothing."""
    folder.remove(map(manifest.shard_name, range(manifest.MOST_SHARDS)))
    folder.remove(n for n in folder.sizes() if _RECORD.fullmatch(n))
    folder.write(BUILDING, manifest.encoded(wanted))
    folder.remove([MANIFEST])


def _check_empty(folder):
    strangers = sorted(folder.sizes())
    if strangers:
        raise ValueError(
            f'"{folder}" holds other files ({", ".join(strangers[:3])}) and no teacher cache. Give '
            "a directory that is empty or does not exist."
        )


def _record(number):
    return manifest.shard_name(number).replace(".npy", ".json")


def _digest(content):
    return hashlib.sha256(content).hexdigest()
