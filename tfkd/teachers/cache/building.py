"""Building a teacher cache: the teacher runs once over every view of every example.

Shards hold consecutive examples, all views of one after the other, and are written in that order,
beside and renamed; `building.json` then says that they are there. Whatever is missing or damaged is
made (anew), so a build may be killed at any moment. Teacher and augmentation are deterministic and
batches start anew with each shard: the bytes do not depend on what was interrupted where.
"""

import contextlib
import itertools
import json
import warnings
from pathlib import Path

import numpy as np
import tensorflow as tf

from tfkd import terminal, validation
from tfkd.data.seeds import view_seed
from tfkd.teachers.cache import asking, disk, examples, identity, manifest
from tfkd.teachers.cache.layout import Layout
from tfkd.teachers.cache.records import Records


def build(directory, distiller, dataset, augment, views, batch_size, verbose, **options):
    """See `TeacherCache.build`."""
    examples.check(dataset, batch_size, augment)
    asking.check(distiller)
    _check(views, **options)
    directory = Path(directory)
    explained = validation.explained()
    with explained, disk.full_explained(directory), manifest.only_builder(directory):
        named = identity.augmentation_identity(augment, options["augment_name"])
        augment = identity.traced(augment, dataset)
        first = examples.first(dataset, identity.PROBE)
        asked = asking.Asked(distiller, augment, first, options["seed"])
        wanted = {
            **_shards(int(dataset.cardinality()), batch_size),
            "format": manifest.FORMAT,
            "inputs": examples.described(dataset),
            "views": int(views),
            "seed": int(options["seed"]),
            "probe": identity.probe(augment, first, options["seed"]),
            "teacher": identity.teacher_fingerprint(asked.source),
            "knowledge": asked.tensors(options["dtype"], options["top_k"]),
            "temperature": float(options["temperature"]),
            "augmentation": named,
        }
        _check_finite(asked.first, wanted)
        wanted["answers"] = {n: identity.projected(values) for n, values in asked.first.items()}
        wanted = json.loads(json.dumps(wanted))  # as it will be read: tuples are lists
        state = _state(directory, wanted, dataset)
        if state is not wanted:
            identity.check_probe(augment, first, directory, state)
            identity.check_answers(asked.first, directory, state)
        unfinished = not (directory / manifest.MANIFEST).exists()
        if unfinished or any(shard["sha256"] is None for shard in state["shards"]):
            _build_missing(directory, state, dataset, asked, verbose)
        (directory / manifest.BUILDING).unlink(missing_ok=True)


def _check(views, dtype, top_k, temperature, **_):
    for name, value in {"views": views, "top_k": 1 if top_k is None else top_k}.items():
        if isinstance(value, bool) or int(value) != value or value < 1:
            raise ValueError(f"{name} must be a whole number of at least 1; given {value!r}.")
    if dtype not in ("float16", "float32"):
        raise ValueError(f'dtype must be "float16" or "float32"; given {dtype!r}.')
    if not temperature > 0:
        raise ValueError(f"temperature must be positive; given {temperature!r}.")


def _shards(size, batch_size):
    """What the manifest is to say of shards: whole batches in each but the last."""
    shard_examples = batch_size * -(-size // (batch_size * manifest.SHARDS))
    count = -(-size // shard_examples)
    return {
        "examples": size,
        "batch_size": batch_size,
        "shard_examples": shard_examples,
        "shards": [{"file": manifest.shard_name(n), "sha256": None} for n in range(count)],
    }


def _check_finite(answers, wanted):
    """Raises ValueError where the first answers cannot be stored: before anything is written."""
    layout = Layout(wanted["knowledge"], wanted["temperature"])
    marks = tf.zeros((len(next(iter(answers.values()))), 8), tf.uint8)
    with np.errstate(over="ignore"):
        _check_records(layout.pack(answers, marks).numpy(), layout)


def _check_records(records, layout, start=0, views=1):
    bad = layout.first_not_finite(records.reshape(-1, layout.dtype.itemsize))
    if bad is not None:
        raise ValueError(
            f'The teacher\'s "{bad[1]}" of example {start + bad[0] // views}, view '
            f"{bad[0] % views}, is NaN, infinite or too large for the cache's dtype. Check the "
            'teacher on this example, or store with dtype="float32".'
        )


def _state(directory, wanted, dataset):
    """What is in the directory: the manifest of this cache with a sha256 for each sound shard.

    Where no shard is finished it is `wanted`: nothing stands against other settings.
    """
    try:
        finished = manifest.read(directory)
        state = finished or manifest.read(directory, manifest.BUILDING)
    except manifest.DamagedError as error:
        warnings.warn(f"{error} This is done now.", stacklevel=5)
        return _begun_anew(directory, wanted)
    if state is None:
        strangers = manifest.strangers(directory)
        if strangers:
            raise ValueError(
                f'"{directory}" holds other files ({", ".join(strangers[:3])}) and no teacher '
                "cache. Give a directory that is empty or does not exist."
            )
        return wanted
    sound = manifest.sound_shards(directory, state)
    if finished is None and not any(sound):
        return _begun_anew(directory, wanted)
    manifest.check_same(directory, state, wanted)
    if finished is None:
        manifest.check_same(directory, state, wanted, ["batch_size"])
    for shard, whole in zip(state["shards"], sound, strict=True):
        shard["sha256"] = shard["sha256"] if whole else None
    _check_data(directory, state, np.array(sound), dataset)
    return state


def _begun_anew(directory, wanted):
    for name in map(manifest.shard_name, range(manifest.SHARDS)):
        (directory / name).unlink(missing_ok=True)
    (directory / manifest.MANIFEST).unlink(missing_ok=True)
    return wanted


def _check_data(directory, state, sound, dataset):
    """Compares some of the examples with what is stored of them."""
    indices, x = examples.sample(dataset, 64)
    there = sound[indices // state["shard_examples"]]
    x = tf.nest.map_structure(lambda part: tf.boolean_mask(part, there), x)
    Records(directory, state).check(indices[there], x)


def _build_missing(directory, state, dataset, asked, verbose):
    layout = Layout(state["knowledge"], state["temperature"])
    example_bytes = state["views"] * layout.dtype.itemsize
    missing = [n for n, shard in enumerate(state["shards"]) if shard["sha256"] is None]
    ranges = [manifest.shard_range(state, number) for number in missing]

    def progress():
        left = [n for n, shard in enumerate(state["shards"]) if shard["sha256"] is None]
        sizes = [stop - start for start, stop in (manifest.shard_range(state, n) for n in left)]
        shards = len(state["shards"])
        return shards - len(left), shards, sum(sizes) * example_bytes

    count = sum(stop - start for start, stop in ranges)
    disk.check_space(directory, count * example_bytes)

    def records(indices, x, y, view):
        seeds = view_seed(indices, view, state["seed"])
        return layout.pack(asked(x, y, seeds), examples.fingerprints(x))

    if asked.source.live:
        records = tf.function(records, autograph=False, reduce_retracing=True)
    batches = itertools.chain.from_iterable(
        examples.ordered(dataset, state["batch_size"], start, stop) for start, stop in _runs(ranges)
    )
    with (
        disk.full_explained(directory, progress),
        _shown(count, state["views"], verbose) as advance,
    ):
        state.pop("data", None)
        manifest.write(directory, manifest.BUILDING, state)
        (directory / manifest.MANIFEST).unlink(missing_ok=True)
        for number, (start, stop) in zip(missing, ranges, strict=True):
            parts = _parts(batches, start, stop, records, state, layout, advance)
            _write_shard(directory, state, number, (stop - start, state["views"]), layout, parts)
        state["data"] = Records(directory, state).data_fingerprint()
        manifest.write(directory, manifest.MANIFEST, state)


def _write_shard(directory, state, number, shape, layout, parts):
    """Writes a shard, and that it is there."""
    shard = state["shards"][number]
    path = directory / shard["file"]
    shard["sha256"] = disk.write_shard(path, shape, layout.dtype, parts)
    try:
        manifest.write(directory, manifest.BUILDING, state)
    except OSError:
        shard["sha256"] = None
        path.unlink()
        raise


def _parts(batches, start, stop, records, state, layout, advance):
    """The bytes of one shard, batch by batch."""
    while start < stop:
        batch = next(batches)
        views = [records(*batch, tf.constant(v, tf.int64)) for v in range(state["views"])]
        together = np.stack(views, axis=1)
        _check_records(together, layout, start, state["views"])
        yield together.tobytes()
        start += len(together)
        advance(len(together))


def _runs(ranges):
    """Ranges in order, joined where one begins where the last ends: the data is read through."""
    joined = []
    for start, stop in ranges:
        if joined and joined[-1][1] == start:
            joined[-1] = (joined[-1][0], stop)
        else:
            joined.append((start, stop))
    return joined


@contextlib.contextmanager
def _shown(count, views, verbose):
    """How many examples are done and the time that is left; gives the function to advance it."""
    if not verbose:
        yield lambda done: None
        return
    what = "The teacher answers" if views == 1 else f"The teacher answers, {views} views of each"
    with terminal.step(what, total=count) as step:
        yield step.advance
