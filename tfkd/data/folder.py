"""A folder of images, one folder a class: `root/<class>/*.png`, or `root/<split>/<class>/*.png`."""

import json
import time
import warnings
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from tfkd.data import layout, left_out, tree
from tfkd.data.findings import digest, of_repeats, of_sizes, repeats
from tfkd.data.headers import Header
from tfkd.data.listing import fresh, keep, measured, refuse
from tfkd.data.pipeline import MEMORY_LIMIT, Source, from_source
from tfkd.data.reading import Images
from tfkd.data.resizing import STRETCH
from tfkd.data.splits import DataInfo, Splits, described, divide, fingerprint
from tfkd.data.store import opened

_ROLES = ("train", "validation", "test")
_NAMES_SHOWN = 5
# Among a listing's fingerprints: every file was decoded once, and "doubtful" are those that failed.
_CHECKED = "decoded"


def load(name, size=None, rule=STRETCH, skip_damaged=False, cache_dir=None, store=None, **division):
    """Reads a folder of images.

    Args:
        name: the folder.
        size: (height, width) to resize to; needed if the images differ in size.
        rule: of resizing, see `tfkd.data.resizing`.
        skip_damaged: leave out what cannot be read, and classes without any image, with a warning.
        cache_dir: where the listing is kept; None for the user's cache directory.
        store: where decoded images are kept, and read from; None to decode them in every epoch.
        **division: validation_fraction, seed, limit, as `tfkd.data.load` takes them.

    Returns:
        `Splits`; streamed from the files if all pixels together exceed 1 GiB.

    Raises:
        ValueError: for a layout, image files or a setting that does not fit; the message names
            them.
    """
    root = Path(name).expanduser()
    scanned = tree.scan(root)
    found = layout.read(scanned, root, skip_damaged)
    left_out.warn(scanned, found, root)
    files = files_of(found)
    parts = divide(files.labels_by_split(), str(name), **division)
    listing, bad = measured(root, files.names, files.stats, cache_dir)
    if bad and not (skip_damaged and len(bad) < len(files.names)):
        _refuse_with_others(listing, bad, size)
    shape = common_shape(listing, size, np.flatnonzero(listing.headers[:, 0] >= 0))
    held = len(files.names) * np.prod(shape) <= MEMORY_LIMIT
    images = Images(listing, shape, None if size is None else rule, held)
    if skip_damaged:
        bad |= _unreadable(images, bad)
    if bad:
        files = files.without(bad, root)
        _warn_of_damaged(listing, bad)
        parts = divide(files.labels_by_split(), str(name), **division)
    _warn_of_frames(listing)
    if store is not None:
        images.store = opened(store, images, np.flatnonzero(files.labels >= 0))
    numbers = {role: files.numbers(parts[role].split)[parts[role].indices] for role in _ROLES}
    mark = _held_mark if held else _streamed_mark
    fingerprint, findings = mark(images, numbers, files)
    labels = files.labels
    datasets = {role: _dataset(images, numbers[role], labels[numbers[role]]) for role in _ROLES}
    counts = {
        role: np.bincount(labels[numbers[role]], minlength=len(files.class_names))
        for role in _ROLES
    }
    info = DataInfo(
        name=str(name),
        image_shape=shape,
        num_classes=len(files.class_names),
        label_names=files.class_names,
        sizes={role: len(numbers[role]) for role in _ROLES},
        fingerprint=fingerprint,
        resize=rule,
        findings=(*findings, *of_sizes(counts, files.class_names)),
    )
    return Splits(*(datasets[role] for role in _ROLES), info)


class Files(NamedTuple):
    """All image files of a folder, by split, class and path.

    Attributes:
        names: list of str, paths from the root.
        stats: int64 (n, 2): size and time.
        labels: int64 (n,); -1 of files that are left out.
        spans: {role: slice} of the splits that are there.
        class_names: tuple of str.
    """

    names: list
    stats: np.ndarray
    labels: np.ndarray
    spans: dict
    class_names: tuple

    def numbers(self, role):
        """Which files a split that is there has: int64 array."""
        span = self.spans[role]
        return span.start + np.flatnonzero(self.labels[span] >= 0)

    def labels_by_split(self):
        """{role: labels of its files}."""
        return {role: self.labels[self.numbers(role)] for role in self.spans}

    def without(self, bad, root):
        """The same, some files left out, and with them the classes that have no others.

        Raises:
            ValueError: too little is left.
        """
        labels = self.labels.copy()
        labels[list(bad)] = -1
        left = self._replace(labels=labels)
        counts = {
            role: np.bincount(own, minlength=len(self.class_names))
            for role, own in left.labels_by_split().items()
        }
        there = np.array([own > 0 for own in counts.values()])
        kept = there.any(axis=0)
        partly = [
            f'"{self.class_names[index]}" in {role}'
            for row, role in zip(there, counts, strict=True)
            for index in np.flatnonzero(kept & ~row)
        ]
        if partly or kept.sum() < 2:
            what = f"no image is left of {', '.join(partly)}" if partly else "fewer than 2 classes"
            raise ValueError(
                f'Without the {len(bad)} damaged files of "{root}" {what}: replace some of them.'
            )
        places = np.append(np.cumsum(kept) - 1, -1)  # the last one: of files that are left out
        names = tuple(name for name, own in zip(self.class_names, kept, strict=True) if own)
        return left._replace(labels=places[labels], class_names=names)


def files_of(found):
    """The `Files` of a `Layout`."""
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
    stats = np.array([sizes, times], np.int64).T.copy()
    return Files(names, stats, np.array(labels, np.int64), spans, found.class_names)


def _refuse_with_others(listing, bad, size):
    """Refuses files without a readable header, together with those that cannot be decoded, where
    training would decode them all beforehand, or that look cut off."""
    others = np.flatnonzero(listing.headers[:, 0] >= 0)
    if len(others):
        height, width = size or listing.headers[others[0], :2]
        if len(listing.names) * height * width * 3 > MEMORY_LIMIT:
            others = others[_column(listing, "doubtful")[others] > 0]
        bad = bad | Images(listing, (None, None, 3), None, kept=False).unreadable(others)
    refuse(listing, bad)


def _unreadable(images, bad):
    """{index: why} of files that cannot be decoded, besides those in `bad`: all of them are decoded
    once, and what was found is kept with the listing."""
    listing, doubtful = images.listing, _column(images.listing, "doubtful")
    started = time.time_ns()
    checked = _CHECKED in listing.fingerprints
    asked = np.flatnonzero(doubtful > 0 if checked else doubtful >= 0)
    found = images.unreadable(asked)
    if len(found) + len(bad) == len(listing.names):
        refuse(listing, bad | found)
    if not checked:
        all_decoded(listing, found, started)
    return found


def all_decoded(listing, failed, started):
    """Keeps with a listing that all its files were decoded, and which of them cannot be.

    Args:
        failed: indices of those with a sound header that cannot.
        started: `time.time_ns()` before the first was read.
    """
    if fresh(listing, started):
        doubtful = _column(listing, "doubtful")
        doubtful[doubtful > 0] = 0
        doubtful[list(failed)] = 1
        listing.fingerprints[_CHECKED] = "all"
        keep(listing)


def _warn_of_damaged(listing, bad):
    some = ", ".join(f'"{listing.names[index]}"' for index in sorted(bad)[:_NAMES_SHOWN])
    more = ", ..." if len(bad) > _NAMES_SHOWN else ""
    files = "file that cannot be read is" if len(bad) == 1 else "files that cannot be read are"
    warnings.warn(f'In "{listing.root}" {len(bad)} {files} left out: {some}{more}.', stacklevel=4)


def _column(listing, name):
    return listing.headers[:, Header._fields.index(name)]


def common_shape(listing, size, sound):
    """(height, width, channels) of some images, by the files' headers; grey only if all are."""
    sizes = listing.headers[sound, :2]
    channels = 1 if _column(listing, "grey")[sound].all() else 3
    different = np.flatnonzero((sizes != sizes[0]).any(axis=1))
    if size is None and len(different):
        said = [
            f"{listing.root / listing.names[sound[index]]} is {sizes[index, 0]}x{sizes[index, 1]}"
            for index in (0, different[0])
        ]
        raise ValueError(
            f"The images differ in size: {said[0]} (height x width), {said[1]}. Give "
            "image_size=(height, width) to resize them all."
        )
    return (*(size or sizes[0].tolist()), channels)


def _warn_of_frames(listing):
    several = np.flatnonzero(_column(listing, "frames") > 0)
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

    def one(index):
        return images.one(tf.gather(numbers, index)), tf.gather(labels, index)

    return from_source(Source(len(numbers), gather, None if images.kept or images.store else one))


def _held_mark(images, numbers, files):
    """(fingerprint over pixels, what is seen of these). Files that gave it before and are unchanged
    are not read for it again: their pixels come when they are asked for."""
    listing, labels = images.listing, files.labels
    resized = images.rule is not None
    how = resized if images.rule in (None, STRETCH) else images.rule
    key = fingerprint(listing.digest(), f"{images.shape} {how}", labels, *numbers.values())
    seen = f"findings {key}"
    if not {key, seen} <= set(listing.fingerprints):
        started = time.time_ns()
        refuse(listing, images.unreadable(np.flatnonzero(labels >= 0)))
        pieces = [(role, images.pixels(some), labels[some]) for role, some in numbers.items()]
        mark = fingerprint(*(piece for triple in pieces for piece in triple))
        findings = _of_repeats(images, numbers, files)
        if not fresh(listing, started):
            return mark, findings
        listing.fingerprints[key], listing.fingerprints[seen] = mark, json.dumps(findings)
        keep(listing)
    return listing.fingerprints[key], json.loads(listing.fingerprints[seen])


def _of_repeats(images, numbers, files):
    """Sentences about pictures that are there more than once, as they are resized."""
    order = np.concatenate(list(numbers.values()))
    roles = [role for role, some in numbers.items() for _ in some]
    groups = repeats([digest(images.pixels(index)) for index in order])
    return of_repeats(groups, roles, files.labels[order], lambda own: files.names[order[own]])


def _streamed_mark(images, numbers, files):
    """(fingerprint over names and sizes, []). Files that look cut off are decoded once, to know."""
    listing, sizes, labels = images.listing, images.listing.stats[:, 0], files.labels
    doubtful = np.flatnonzero((_column(listing, "doubtful") > 0) & (labels >= 0))
    if len(doubtful):
        started = time.time_ns()
        refuse(listing, images.unreadable(doubtful))
        if fresh(listing, started):
            _column(listing, "doubtful")[doubtful] = 0
            keep(listing)
    size = None if images.rule is None else images.shape[:2]
    pieces = [described(images.shape, size, images.rule), *files.class_names]
    for role, some in numbers.items():
        pieces += [
            role,
            *(f"{listing.names[index]} {sizes[index]}" for index in some),
            labels[some],
        ]
    return fingerprint(*pieces), []
