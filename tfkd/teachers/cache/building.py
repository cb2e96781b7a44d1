"""Building a teacher cache: the teacher runs once over every view of every example.

Shards hold consecutive examples, all views of one after the other. Builders take the shards that
are missing: those that no other builder holds, or their share by index. Whatever is missing or
damaged is made (anew), so any builder may be killed at any moment. Teacher and augmentation are
deterministic and batches start anew with each shard: the bytes do not depend on who built what, or
on what was interrupted where.
"""

import hashlib
import json
from importlib import metadata

import numpy as np
import tensorflow as tf

from tfkd import terminal, validation
from tfkd.data.seeds import view_seed
from tfkd.teachers.cache import asking, disk, examples, identity, manifest, state
from tfkd.teachers.cache.folders import folder_of
from tfkd.teachers.cache.layout import Layout
from tfkd.teachers.cache.records import Records

# Packages on whose versions a teacher's last digits depend.
_PACKAGES = ("keras", "numpy", "tensorflow")
# How often a shard may be damaged right after it was written.
_ATTEMPTS = 3


def build(directory, distiller, dataset, augment, views, batch_size, verbose, **options):
    """See `TeacherCache.build`; returns whether the cache is complete."""
    examples.check(dataset, batch_size, augment)
    asking.check(distiller)
    _check(views, **options)
    folder, seed = folder_of(directory), options["seed"]
    with validation.explained(), folder.full_explained():
        named = identity.augmentation_identity(augment, options["augment_name"])
        augment = identity.traced(augment, dataset)
        first = examples.first(dataset, identity.PROBE)
        asked = asking.Asked(distiller, augment, first, seed)
        wanted = {
            **_shards(int(dataset.cardinality()), batch_size, options["shards"]),
            "format": manifest.FORMAT,
            "inputs": examples.described(dataset),
            "views": int(views),
            "seed": int(seed),
            "probe": identity.probe(augment, first, seed),
            "teacher": identity.teacher_fingerprint(asked.source),
            "knowledge": asked.tensors(options["dtype"], options["top_k"]),
            "temperature": float(options["temperature"]),
            "augmentation": named,
            "versions": {name: metadata.version(name) for name in _PACKAGES},
            "sample": _sample(dataset),
        }
        _check_finite(asked.first, wanted)
        wanted["answers"] = {n: identity.projected(values) for n, values in asked.first.items()}
        wanted = json.loads(json.dumps(wanted))  # as it will be read: tuples are lists
        numbers = _share(len(wanted["shards"]), options["share"])
        if not folder.sizes():
            size = Layout(wanted["knowledge"]).dtype.itemsize
            records = sum(manifest.shard_header(wanted, n)[1] for n in numbers) // size
            folder.check_space(records * size, lambda free: _what_fits(asked, records, free))
        stored, unfinished = state.begin(folder, wanted)
        if unfinished is None:
            _check_data(folder, stored, range(len(stored["shards"])), dataset)
        else:
            _check_against(unfinished, dataset)
        identity.check_probe(augment, first, folder, stored)
        identity.check_answers(asked.first, folder, stored)
        if unfinished is None:
            return True
        numbers = _share(unfinished.count, options["share"])
        return _Builder(unfinished, dataset, asked, numbers, verbose).run()


def _check(views, dtype, top_k, temperature, shards, share, **_):
    numbers = {"views": views, "top_k": 1 if top_k is None else top_k, "shards": shards}
    for name, value in numbers.items():
        if isinstance(value, bool) or int(value) != value or value < 1:
            raise ValueError(f"{name} must be a whole number of at least 1; given {value!r}.")
    if shards > manifest.MOST_SHARDS:
        raise ValueError(f"shards must be at most {manifest.MOST_SHARDS}; given {shards}.")
    if dtype not in ("float16", "float32"):
        raise ValueError(f'dtype must be "float16" or "float32"; given {dtype!r}.')
    if not temperature > 0:
        raise ValueError(f"temperature must be positive; given {temperature!r}.")
    if share is None:
        return
    try:
        index, count = share
        fits = 0 <= index < count and int(index) == index and int(count) == count
    except (TypeError, ValueError):
        fits = False
    if not fits:
        raise ValueError(
            f"share must be (i, n), the part i of n with i from 0 to n - 1; given {share!r}."
        )


def _share(count, share):
    """Numbers of the shards that a builder is to build."""
    index, of = share or (0, 1)
    return range(index * count // of, (index + 1) * count // of)


def _shards(size, batch_size, shards):
    """What the manifest is to say of shards: whole batches in each but the last."""
    shard_examples = batch_size * -(-size // (batch_size * shards))
    count = -(-size // shard_examples)
    return {
        "examples": size,
        "batch_size": batch_size,
        "shard_examples": shard_examples,
        "shards": [{"file": manifest.shard_name(n), "sha256": None} for n in range(count)],
    }


def _what_fits(asked, records, free):
    """What of the teacher's answers fits into so many bytes, in words."""
    for kept in (None, *(2**power for power in range(10, -1, -1))):
        try:
            size = Layout(asked.tensors("float16", kept)).dtype.itemsize
        except ValueError:  # the largest of what is no choice of one class
            break
        if records * size <= free:
            return "float16" + f" and top_k={kept}" * bool(kept)
    return f"at most {free // size:,} of {records:,} records would"


def _sample(dataset):
    """What tells the data from other data: a checksum of some examples' fingerprints."""
    marks = examples.fingerprints(examples.sample(dataset, 64)[1]).numpy()
    return f"sha256:{hashlib.sha256(marks.tobytes()).hexdigest()}"


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


def _check_data(folder, stored, numbers, dataset):
    """Compares some of the examples with what is stored of them in some shards."""
    indices, x = examples.sample(dataset, 64)
    there = np.isin(indices // stored["shard_examples"], list(numbers))
    x = tf.nest.map_structure(lambda part: tf.boolean_mask(part, there), x)
    Records(folder, stored, numbers).check(indices[there], x)


def _check_against(unfinished, dataset):
    """The same of what is finished so far; a damaged shard is none of it."""
    stored = unfinished.folder, unfinished.manifest
    try:
        _check_data(*stored, unfinished.finished(), dataset)
    except ValueError:
        if not unfinished.damaged():
            raise
        _check_data(*stored, unfinished.finished(), dataset)


class _Builder:
    """One of perhaps several builders of a cache.

    Args:
        state: `tfkd.teachers.cache.state.State`.
        dataset: unbatched.
        asked: `tfkd.teachers.cache.asking.Asked`.
        numbers: of the shards to build.
        verbose: 0 to say nothing.
    """

    def __init__(self, state, dataset, asked, numbers, verbose):
        self._state, self._asked, self._verbose = state, asked, verbose
        own = self._manifest = state.manifest
        self._numbers = numbers
        self._layout = Layout(own["knowledge"], own["temperature"])
        self._batches = examples.InOrder(dataset, own["batch_size"])
        self._records = self._answered
        if asked.source.live:
            self._records = tf.function(self._answered, autograph=False, reduce_retracing=True)

    def run(self):
        """Builds what is missing; returns whether the cache is complete."""
        for _ in range(_ATTEMPTS):
            missing = self._missing()
            self._state.folder.check_space(self._bytes(missing))
            with self._state.folder.full_explained(self._progress):
                self._build(missing)
                left = self._state.finish()
            if not left:
                return True
            if not set(left) & set(self._numbers):
                return False  # other shares
        raise OSError(
            f'Teacher cache "{self._state.folder}": {self._state.name(left[0])} is not what was '
            "written, time and again. Is there something wrong with the disk?"
        )

    def _build(self, missing):
        """Builds shards: first those that are free, then those whose builder did not finish."""
        sizes = {number: self._size(number) for number in missing}
        views = self._manifest["views"]
        records, size = sum(sizes.values()) * views, disk.readable(self._layout.dtype.itemsize)
        what = f"The teacher answers{f', {views} views of each' * (views > 1)}"
        what += f" ({records:,} records of {size}, {disk.readable(self._bytes(missing))})"
        with terminal.advancing(what, sum(sizes.values()), self._verbose) as advance:
            busy = [number for number in missing if not self._built(number, advance)]
            for number in busy:
                self._built(number, advance, wait=True)

    def _built(self, number, advance, wait=False):
        """Builds a shard unless another builder has, or holds it; returns whether it is there."""
        state = self._state
        with state.folder.claim(state.name(number), wait) as held:
            if held and state.has(number):
                advance(self._size(number))
            elif held:
                parts = self._parts(number, advance)
                state.note(number, state.folder.write_shard(state.name(number), parts))
            return held

    def _parts(self, number, advance):
        """The bytes of a shard's file, batch by batch."""
        yield manifest.shard_header(self._manifest, number)[0]
        views = self._manifest["views"]
        for batch in self._batches(*manifest.shard_range(self._manifest, number)):
            answers = [self._records(*batch, tf.constant(v, tf.int64)) for v in range(views)]
            together = np.stack(answers, axis=1)
            _check_records(together, self._layout, int(batch[0][0]), views)
            yield together.tobytes()
            advance(len(together))

    def _answered(self, indices, x, y, view):
        seeds = view_seed(indices, view, self._manifest["seed"])
        return self._layout.pack(self._asked(x, y, seeds), examples.fingerprints(x))

    def _missing(self):
        done = self._state.finished()
        return [number for number in self._numbers if number not in done]

    def _size(self, number):
        """Examples of a shard."""
        start, stop = manifest.shard_range(self._manifest, number)
        return stop - start

    def _bytes(self, numbers):
        """Bytes of the records of some shards."""
        of_one = self._manifest["views"] * self._layout.dtype.itemsize
        return sum(map(self._size, numbers)) * of_one

    def _progress(self):
        done, count = len(self._state.finished()), self._state.count
        return done, count, self._bytes(self._missing())
