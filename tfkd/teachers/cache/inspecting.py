"""What a teacher cache holds, and whether it is what was written."""

import hashlib

import numpy as np

from tfkd import terminal
from tfkd.teachers.cache import examples, manifest
from tfkd.teachers.cache.folders import BUILDING
from tfkd.teachers.cache.layout import FINGERPRINT_BYTES
from tfkd.teachers.cache.scan import scanned
from tfkd.teachers.cache.state import State

_SHOWN = ("examples", "views", "knowledge", "teacher", "augmentation", "seed", "temperature")
_NONE = 'There is no teacher cache in "{folder}". TeacherCache.build makes one.'


def there(folder):
    """(manifest, {number: sha256} of the shards that are there, whether it is finished).

    Raises:
        ValueError: no cache, or a damaged manifest.
    """
    own = manifest.read(folder)
    if own is None:
        if manifest.read(folder, BUILDING) is None:
            raise ValueError(_NONE.format(folder=folder))
        state = State(folder)
        return state.manifest, state.finished(), False
    sound = manifest.sound_shards(folder, own, checksums=False)
    return own, {n: own["shards"][n]["sha256"] for n, whole in enumerate(sound) if whole}, True


def unfinished(folder):
    """Why a folder without a manifest is no cache to read."""
    building = manifest.read(folder, BUILDING)
    if building is None:
        return _NONE.format(folder=folder)
    done, count = len(State(folder).finished()), len(building["shards"])
    return (
        f'Teacher cache "{folder}" is not finished: {done} of {count} shards. Call '
        "TeacherCache.build again with the same arguments, which goes on where it was stopped."
    )


def info(folder):
    """See `TeacherCache.info`."""
    own, found, finished = there(folder)
    count = len(own["shards"])
    return {
        "complete": finished and len(found) == count,
        "shards": count,
        "missing": [number for number in range(count) if number not in found],
        "bytes": sum(manifest.shard_bytes(own, number) for number in found),
        **{name: own[name] for name in (*_SHOWN, "inputs")},
    }


def verify(folder, dataset=None, verbose=1):
    """See `TeacherCache.verify`."""
    own, found, finished = there(folder)
    names, count = [shard["file"] for shard in own["shards"]], len(own["shards"])
    if dataset is not None:
        examples.check(dataset, own["batch_size"], None)
        given = {
            "examples": int(dataset.cardinality()),
            "inputs": examples.described(dataset),
        }
        manifest.check_same(folder, own, given, list(given))
        batches = examples.InOrder(dataset, own["batch_size"])
    wrong = [f"{names[n]} is missing, or not of its size." for n in range(count) if n not in found]
    numbers, data = sorted(found), hashlib.sha256()
    with terminal.advancing("Reading shards", len(found), verbose) as advance:
        for number, shard in zip(numbers, scanned(folder, own, numbers, True), strict=True):
            data.update(shard.fingerprints)
            why = []
            if shard.sha256 != found[number]:
                why.append("its checksum is not the one that was written down")
            if shard.wrong:
                why.append(shard.wrong)
            elif dataset is not None:
                why += _other_examples(batches, own, number, shard.fingerprints)
            wrong += [f"{names[number]}: {'; '.join(why)}."] * bool(why)
            advance()
    if finished and not wrong and f"sha256:{data.hexdigest()}" != own["data"]:
        wrong.append("manifest.json: the fingerprints of its data are not those of the shards.")
    return wrong


def _other_examples(batches, own, number, marks):
    """What is wrong with the fingerprints of a shard's examples, in words, one or none."""
    first, last = manifest.shard_range(own, number)
    marks = np.frombuffer(marks, np.uint8).reshape(-1, FINGERPRINT_BYTES)
    differs = [
        np.any(examples.fingerprints(x).numpy() != marks[indices.numpy() - first], axis=1)
        for indices, x, _ in batches(first, last)
    ]
    differs = np.flatnonzero(np.concatenate(differs))
    if not len(differs):
        return []
    return [
        f"{len(differs)} of its examples are not those of the data, the first is example "
        f"{first + differs[0]}"
    ]
