"""Building a teacher cache: the teacher runs once over every view of every example.

Shards hold consecutive examples, all views of one after the other, and are written in that order,
beside and renamed; `building.json` then says that they are there. Whatever is missing or damaged is
made (anew), so a build may be killed at any moment. Teacher and augmentation are deterministic and
batches start anew with each shard: the bytes do not depend on what was interrupted where.
"""

import contextlib
import itertools
import json
from pathlib import Path

import numpy as np
import rich.console
import rich.progress
import tensorflow as tf

from tfkd.data.seeds import view_seed
from tfkd.teachers.cache import disk, examples, identity, manifest
from tfkd.teachers.cache.layout import Layout, fingerprints
from tfkd.teachers.cache.records import Records

# Into how many shards a cache is divided, about: what is lost at most when a build is killed.
SHARDS = 64


def build(directory, distiller, dataset, augment, views, batch_size, verbose, **options):
    """See `TeacherCache.build`."""
    examples.check(dataset, batch_size, augment)
    _check(distiller, views, **options)
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    with manifest.only_builder(directory):
        named = identity.augmentation_identity(augment, options.pop("augment_name"))
        spec = dataset.element_spec[0]
        augment = identity.traced(augment, spec)
        knowledge = _knowledge(distiller, augment, spec)
        wanted = {
            **_wanted(dataset, views, batch_size, options.pop("seed"), augment),
            "teacher": identity.teacher_fingerprint(distiller.teacher),
            "knowledge": _tensors(distiller, knowledge, options["dtype"], options["top_k"]),
            "temperature": float(options["temperature"]),
            "augmentation": named,
        }
        wanted = json.loads(json.dumps(wanted))  # as it will be read: tuples are lists
        state = _state(directory, wanted, dataset, augment)
        unfinished = not (directory / manifest.MANIFEST).exists()
        if unfinished or any(shard["sha256"] is None for shard in state["shards"]):
            _build_missing(directory, state, dataset, knowledge, verbose)
        (directory / manifest.BUILDING).unlink(missing_ok=True)


def _check(distiller, views, dtype, top_k, temperature, **_):
    if distiller.teacher is None:
        raise ValueError(
            "TeacherCache.build runs the distiller's teacher, but this Distiller has none. Build "
            "with Distiller(teacher, ...); reading needs no teacher."
        )
    for name, value in {"views": views, "top_k": 1 if top_k is None else top_k}.items():
        if isinstance(value, bool) or int(value) != value or value < 1:
            raise ValueError(f"{name} must be a whole number of at least 1; given {value!r}.")
    if dtype not in ("float16", "float32"):
        raise ValueError(f'dtype must be "float16" or "float32"; given {dtype!r}.')
    if not temperature > 0:
        raise ValueError(f"temperature must be positive; given {temperature!r}.")


def _wanted(dataset, views, batch_size, seed, augment):
    """What the manifest is to say of examples, images and shards."""
    spec, size = dataset.element_spec[0], int(dataset.cardinality())
    shard_examples = batch_size * -(-size // (batch_size * SHARDS))
    return {
        "format": manifest.FORMAT,
        "examples": size,
        "image": {"shape": spec.shape.as_list(), "dtype": spec.dtype.name},
        "views": int(views),
        "seed": int(seed),
        "probe": identity.probe(augment, examples.first(dataset, identity.PROBE), seed),
        "batch_size": batch_size,
        "shard_examples": shard_examples,
        "shards": [
            {"file": f"shard-{number:05d}.npy", "sha256": None}
            for number in range(-(-size // shard_examples))
        ],
    }


def _knowledge(distiller, augment, spec):
    """A tf.function of (images, seeds): what the teacher says of the augmented images."""
    images = tf.TensorSpec([None, *spec.shape], spec.dtype)
    if not distiller._terms.connected:
        distiller._connect_to(images, None)
    distiller._frozen_teacher.refresh()  # its weights of now

    @tf.function(input_signature=[images, tf.TensorSpec([None, 2], tf.int64)], autograph=False)
    def knowledge(images, seeds):
        seen = images if augment is None else augment(images, seeds)
        return distiller.knowledge(seen)

    return knowledge


def _tensors(distiller, knowledge, dtype, top_k):
    """{name: {"shape", "dtype", "top_k"}} of what the distiller's losses read of its teacher."""
    tensors = {}
    outputs = distiller._teacher_feature_extractor.output_names or ("output",)
    for name, tensor in sorted(knowledge.get_concrete_function().structured_outputs.items()):
        shape = tensor.shape[1:]
        if not shape.is_fully_defined():
            raise ValueError(
                f'The teacher\'s "{name}" has shape {tensor.shape} on these images: only the batch '
                "may be open in a cache. Give the model a fixed input size, or tap another layer."
            )
        kept = top_k if top_k and name in outputs and shape.rank and shape[-1] > top_k else None
        tensors[name] = {"shape": shape.as_list(), "dtype": dtype, "top_k": kept}
    return tensors


def _state(directory, wanted, dataset, augment):
    """What is in the directory: the manifest of this cache with a sha256 for each sound shard.

    Where no shard is finished it is `wanted`: nothing stands against other settings.
    """
    finished = manifest.read(directory)
    state = finished or manifest.read(directory, manifest.BUILDING)
    if state is None:
        strangers = [entry.name for entry in directory.iterdir() if entry.suffix != ".partial"]
        if strangers:
            raise ValueError(
                f'"{directory}" holds other files ({", ".join(sorted(strangers)[:3])}) and no '
                "teacher cache. Give a directory that is empty or does not exist."
            )
        return wanted
    sound = manifest.sound_shards(directory, state)
    if finished is None and not any(sound):
        for shard in state["shards"]:
            (directory / shard["file"]).unlink(missing_ok=True)
        return wanted
    manifest.check_same(directory, state, wanted)
    if finished is None:
        manifest.check_same(directory, state, wanted, ["batch_size"])
    for shard, whole in zip(state["shards"], sound, strict=True):
        shard["sha256"] = shard["sha256"] if whole else None
    _check_data(directory, state, np.array(sound), dataset, augment)
    return state


def _check_data(directory, state, sound, dataset, augment):
    """Compares some of the examples, and the augmentation on the first, with what is stored."""
    indices, images = examples.sample(dataset, 64)
    there = sound[indices // state["shard_examples"]]
    Records(directory, state).check(indices[there], tf.boolean_mask(images, there))
    first = examples.first(dataset, identity.PROBE)
    identity.check_probe(augment, first, directory, state)


def _build_missing(directory, state, dataset, knowledge, verbose):
    layout = Layout(state["knowledge"], state["temperature"])
    missing = [n for n, shard in enumerate(state["shards"]) if shard["sha256"] is None]
    ranges = [_range(state, number) for number in missing]
    count = sum(stop - start for start, stop in ranges)
    example_bytes = state["views"] * layout.dtype.itemsize
    disk.check_space(directory, count * example_bytes)
    state.pop("data", None)
    manifest.write(directory, manifest.BUILDING, state)
    (directory / manifest.MANIFEST).unlink(missing_ok=True)

    def records(indices, images, view):
        seeds = view_seed(indices, view, state["seed"])
        return layout.pack(knowledge(images, seeds), fingerprints(images))

    records = tf.function(records, autograph=False, reduce_retracing=True)
    batches = itertools.chain.from_iterable(
        examples.ordered(dataset, state["batch_size"], start, stop) for start, stop in _runs(ranges)
    )
    shard_bytes = state["shard_examples"] * example_bytes
    with _progress(directory, count, state, example_bytes, verbose) as advance:
        for number, (start, stop) in zip(missing, ranges, strict=True):
            shard, shape = state["shards"][number], (stop - start, state["views"])
            parts = _parts(batches, start, stop, records, state, layout, advance)
            with disk.full_explained(directory, state["shards"], shard_bytes):
                path = directory / shard["file"]
                shard["sha256"] = disk.write_shard(path, shape, layout.dtype, parts)
                manifest.write(directory, manifest.BUILDING, state)
    state["data"] = Records(directory, state).data_fingerprint()
    with disk.full_explained(directory, state["shards"], shard_bytes):
        manifest.write(directory, manifest.MANIFEST, state)


def _parts(batches, start, stop, records, state, layout, advance):
    """The bytes of one shard, batch by batch."""
    while start < stop:
        indices, images = next(batches)
        views = [records(indices, images, tf.constant(v, tf.int64)) for v in range(state["views"])]
        together = np.stack(views, axis=1)
        bad = layout.first_not_finite(together.reshape(-1, layout.dtype.itemsize))
        if bad is not None:
            raise ValueError(
                f'The teacher\'s "{bad[1]}" of example {start + bad[0] // state["views"]}, view '
                f"{bad[0] % state['views']}, is NaN, infinite or too large for the cache's dtype. "
                'Check the teacher on this example, or store with dtype="float32".'
            )
        yield together.tobytes()
        start += len(together)
        advance(len(together))


def _range(state, number):
    """(first example, the one after the last) of a shard."""
    start = number * state["shard_examples"]
    return start, min(start + state["shard_examples"], state["examples"])


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
def _progress(directory, count, state, example_bytes, verbose):
    """A bar with the time that is left, on a terminal only; gives the function to advance it."""
    console = rich.console.Console(stderr=True)
    shown = bool(verbose) and console.is_terminal
    if shown:
        console.print(
            f"Teacher cache: {count:,} examples of {example_bytes:,} bytes ({state['views']} "
            f"views), {disk.readable(count * example_bytes)}, in {directory}"
        )
    columns = rich.progress.Progress.get_default_columns()
    counted = rich.progress.MofNCompleteColumn()
    with rich.progress.Progress(*columns, counted, console=console, disable=not shown) as bar:
        task = bar.add_task("Teacher", total=count)
        yield lambda done: bar.advance(task, done)
