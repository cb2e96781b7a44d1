"""Putting the parts of a cache together that were built in different places."""

import numpy as np

from tfkd import terminal
from tfkd.teachers.cache import identity, inspecting, manifest, state
from tfkd.teachers.cache.folders import folder_of
from tfkd.teachers.cache.manifest import BUILDERS, IDENTITY

_CHUNK = 2**22  # bytes
_NAMED = 8  # shards of which a message gives the numbers


class _Part:
    """A folder with some of a cache's shards."""

    def __init__(self, directory):
        self.folder = folder_of(directory)
        self.manifest, self.shards, self.finished = inspecting.there(self.folder)

    def check_same(self, other):
        """Raises ValueError unless both are parts of one cache."""
        keys = IDENTITY + BUILDERS
        if self.finished or other.finished:
            keys = IDENTITY + BUILDERS[:2]
        different = manifest.differences(other.manifest, self.manifest, keys)
        pairs = [("the augmentation's images", *(own.manifest["probe"] for own in (self, other)))]
        pairs += [
            (f'the teacher\'s "{name}"', values, other.manifest["answers"].get(name, []))
            for name, values in self.manifest["answers"].items()
        ]
        different += [
            f"{what} on the first examples" for what, *numbers in pairs if not _alike(*numbers)
        ]
        if different:
            raise ValueError(
                f'"{self.folder}" and "{other.folder}" are no parts of one teacher cache. What '
                f"differs: {'; '.join(different)}. Build all shares with the same arguments, data, "
                "teacher and versions."
            )


def merge(directory, parts, verbose=1):
    """See `TeacherCache.merge`."""
    folder, parts = folder_of(directory), [_Part(part) for part in parts]
    if not parts:
        raise ValueError("There are no parts to merge. Give the directories of the shares.")
    for part in parts[1:]:
        part.check_same(parts[0])
    owners = _owners(parts)
    # A finished part does not say what only builders need to know.
    first = next((part for part in parts if not part.finished), parts[0]).manifest
    own = {"versions": {}, "sample": first.get("data")} | first
    own["shards"] = [{**shard, "sha256": None} for shard in own["shards"]]
    own.pop("data", None)
    with folder.full_explained():
        _, unfinished = state.begin(folder, own)
        if unfinished is not None:
            _copy(unfinished, owners, verbose)


def _owners(parts):
    """{number: (part, sha256)} of all shards.

    Raises:
        ValueError: some are in no part, or in two with different content.
    """
    owners = {}
    for part in parts:
        for number, sha256 in part.shards.items():
            other, same = owners.setdefault(number, (part, sha256))
            if same != sha256:
                raise ValueError(
                    f'{manifest.shard_name(number)} is in "{other.folder}" and in "{part.folder}", '
                    "with different content: their shares overlap, and the machines do not compute "
                    "alike. Leave one of the two out."
                )
    count = len(parts[0].manifest["shards"])
    missing = [number for number in range(count) if number not in owners]
    if missing:
        numbers = ", ".join(map(str, missing[:_NAMED])) + ", …" * (len(missing) > _NAMED)
        folders = ", ".join(f'"{part.folder}"' for part in parts)
        raise ValueError(
            f"{len(missing)} of {count} shards ({numbers}) are in none of {folders}: a share is "
            "missing or not finished. Build it, or give its directory, too."
        )
    return owners


def _copy(unfinished, owners, verbose):
    there = unfinished.finished()
    missing = [number for number in range(unfinished.count) if number not in there]
    sizes = [manifest.shard_bytes(unfinished.manifest, number) for number in missing]
    unfinished.folder.check_space(sum(sizes))
    with terminal.advancing("Copying shards", len(missing), verbose) as advance:
        for number in missing:
            part, sha256 = owners[number]
            name = unfinished.name(number)
            if unfinished.folder.write_shard(name, _content(part.folder, name)) != sha256:
                unfinished.folder.remove([name])
                raise ValueError(
                    f'{name} of "{part.folder}" is damaged: its checksum is not the one that was '
                    "written down. Build that share again, which makes it anew."
                )
            unfinished.note(number, sha256)
            advance(1)
    left = unfinished.finish()
    if left:
        raise ValueError(
            f'Teacher cache "{unfinished.folder}": {unfinished.name(left[0])} is not what was '
            "copied. Call it again, which makes it anew; is there something wrong with the disk?"
        )


def _content(folder, name):
    with folder.open(name) as file:
        while part := file.read(_CHUNK):
            yield part


def _alike(one, other):
    """Whether two lists of projected numbers are the same but for another machine's rounding."""
    if len(one) != len(other):
        return False
    scale = np.abs(one).max(initial=0)
    return np.abs(np.subtract(one, other)).max(initial=0) <= 10 * identity.ROUNDING * scale
