"""A folder of images, one folder a class: `root/<class>/*.png`, or `root/<split>/<class>/*.png`."""

import time
import warnings
from pathlib import Path

import numpy as np
import tensorflow as tf

from tfkd.data import layout, tree
from tfkd.data.headers import Header
from tfkd.data.listing import fresh, keep, measured
from tfkd.data.pipeline import MEMORY_LIMIT, Source, from_source
from tfkd.data.reading import Images
from tfkd.data.splits import DataInfo, Splits, divide, fingerprint

_ROLES = ("train", "validation", "test")
_NAMES_SHOWN = 5


def load(name, size=None, cache_dir=None, **division):
    """Reads a folder of images.

    Args:
        name: the folder.
        size: (height, width) to resize to; needed if the images differ in size.
        cache_dir: where the listing is kept; None for the user's cache directory.
        **division: validation_fraction, seed, limit, as `tfkd.data.load` takes them.

    Returns:
        `Splits`; streamed from the files if all pixels together exceed 1 GiB.

    Raises:
        ValueError: for a layout, image files or a setting that does not fit; the message names
            them.
    """
    root = Path(name).expanduser()
    found = layout.read(tree.scan(root), root)
    names, stats, labels, spans = _files(found)
    parts = divide({role: labels[span] for role, span in spans.items()}, str(name), **division)
    listing = measured(root, names, stats, cache_dir)
    shape = _common_shape(listing, size)
    _warn_of_frames(listing)
    held = len(names) * np.prod(shape) <= MEMORY_LIMIT
    images = Images(listing, shape, size is not None, held)
    numbers = {
        role: np.arange(len(names))[spans[parts[role].split]][parts[role].indices]
        for role in _ROLES
    }
    mark = _held_mark if held else _streamed_mark
    datasets = {role: _dataset(images, numbers[role], labels[numbers[role]]) for role in _ROLES}
    info = DataInfo(
        name=str(name),
        image_shape=shape,
        num_classes=len(found.class_names),
        label_names=found.class_names,
        sizes={role: len(numbers[role]) for role in _ROLES},
        fingerprint=mark(images, numbers, labels, found.class_names),
    )
    return Splits(*(datasets[role] for role in _ROLES), info)


def _files(found):
    """All image files of a `Layout`, by split, class and path.

    Returns:
        (names from the root, stats int64 (n, 2), labels int64 (n,), {role: slice}).
    """
    names, sizes, times, labels, spans = [], [], [], [], {}
    for role, classes in found.splits.items():
        start = len(names)
        for label, class_name in enumerate(found.class_names):
            some, some_sizes, some_times = [], [], []
            for folder in tree.walk(classes[class_name]):
                some += [f"{folder.path}/{name}" for name in folder.files]
                some_sizes += folder.sizes
                some_times += folder.times
            order = sorted(range(len(some)), key=some.__getitem__)
            names += [some[index] for index in order]
            sizes += [some_sizes[index] for index in order]
            times += [some_times[index] for index in order]
            labels += [label] * len(some)
        spans[role] = slice(start, len(names))
    return names, np.array([sizes, times], np.int64).T.copy(), np.array(labels, np.int64), spans


def _column(listing, name):
    return listing.headers[:, Header._fields.index(name)]


def _common_shape(listing, size):
    """(height, width, channels) of all images, by the files' headers; grey only if all are."""
    sizes = listing.headers[:, :2]
    channels = 1 if _column(listing, "grey").all() else 3
    different = np.flatnonzero((sizes != sizes[0]).any(axis=1))
    if size is None and len(different):
        said = [
            f"{listing.root / listing.names[index]} is {sizes[index, 0]}x{sizes[index, 1]}"
            for index in (0, different[0])
        ]
        raise ValueError(
            f"The images differ in size: {said[0]} (height x width), {said[1]}. Give "
            "image_size=(height, width) to resize them all."
        )
    return (*(size or sizes[0].tolist()), channels)


def _warn_of_frames(listing):
    several = np.flatnonzero(_column(listing, "frames"))
    if len(several):
        some = ", ".join(f'"{listing.names[index]}"' for index in several[:_NAMES_SHOWN])
        more = ", ..." if len(several) > _NAMES_SHOWN else ""
        warnings.warn(
            f'In "{listing.root}" {len(several)} files are animations or hold several pages: of '
            f"each the first frame or page is used, the others are left out: {some}{more}.",
            stacklevel=4,
        )


def _dataset(images, numbers, labels):
    numbers, labels = tf.constant(numbers), tf.constant(labels)

    def gather(indices):
        return images.gather(tf.gather(numbers, indices)), tf.gather(labels, indices)

    return from_source(Source(len(numbers), gather))


def _held_mark(images, numbers, labels, class_names):
    """The fingerprint over pixels. Files that gave it before and are unchanged are not read for it
    again: their pixels come when they are asked for."""
    listing = images.listing
    key = fingerprint(
        listing.digest(), f"{images.shape} {images.resized}", labels, *numbers.values()
    )
    if key not in listing.fingerprints:
        started = time.time_ns()
        images.read_all()
        pieces = [(role, images.pixels(some), labels[some]) for role, some in numbers.items()]
        mark = fingerprint(*(piece for triple in pieces for piece in triple))
        if not fresh(listing, started):
            return mark
        listing.fingerprints[key] = mark
        keep(listing)
    return listing.fingerprints[key]


def _streamed_mark(images, numbers, labels, class_names):
    """The fingerprint over names and sizes. Files that look cut off are decoded once, to know."""
    listing, sizes = images.listing, images.listing.stats[:, 0]
    doubtful = _column(listing, "doubtful")
    if doubtful.any():
        started = time.time_ns()
        images.refuse_unreadable(np.flatnonzero(doubtful))
        if fresh(listing, started):
            doubtful[:] = 0
            keep(listing)
    pieces = [str(images.shape), *class_names]
    for role, some in numbers.items():
        pieces += [
            role,
            *(f"{listing.names[index]} {sizes[index]}" for index in some),
            labels[some],
        ]
    return fingerprint(*pieces)
