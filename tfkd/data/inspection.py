"""What a data set holds, all of it looked at before training: `inspect`."""

import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from tfkd.data import folder, layout, left_out, loading, tree
from tfkd.data.findings import digest, of_repeats, of_sizes, repeats
from tfkd.data.headers import conversions
from tfkd.data.listing import measured
from tfkd.data.reading import Images
from tfkd.data.resizing import STRETCH, check_rule, parse_size
from tfkd.data.splits import divide

_ROLES = ("train", "validation", "test")
# From here on, reduced or squeezed so many times, a sentence says so.
_REDUCED, _SQUEEZED = 2.0, 1.25


@dataclass(frozen=True)
class Inspection:
    """What `inspect` found.

    Attributes:
        name: of the data set.
        class_names: tuple of str.
        counts: {"train", "validation", "test": int array (classes,)}, images of each class; of a
            folder that cannot be divided {its split: ...}.
        cut: the splits that are cut from train; the others are published so.
        sizes: (height, width) of the smallest, the median and the largest image, by their area.
        suffixes: Counter of the files' suffixes.
        left_out: {kind of file: (number, an example)} of what is not read.
        converted: {how: (number, an example)} of images that are not taken as they are.
        damaged: {file: why} of those that cannot be read.
        empty: class folders without an image.
        repeats: tuple of tuples of names, one for each picture that is there more than once (the
            same pixels, whatever the file).
        samples: {class name: list of uint8 arrays (height, width, channels)}, as training sees
            them.
        refused: sentences: why training would not begin.
        findings: sentences about what may be worth a look.
    """

    name: str
    class_names: tuple
    counts: dict
    cut: tuple
    sizes: tuple
    repeats: tuple
    refused: tuple
    findings: tuple
    samples: dict = field(repr=False)
    suffixes: Counter = field(default_factory=Counter)
    left_out: dict = field(default_factory=dict)
    converted: dict = field(default_factory=dict)
    damaged: dict = field(default_factory=dict)
    empty: tuple = ()

    @property
    def usable(self):
        """Whether training would begin."""
        return not self.refused


def inspect(
    name,
    data_dir=None,
    *,
    validation_fraction=0.1,
    seed=0,
    limit=None,
    image_size=None,
    resize=STRETCH,
    skip_damaged=False,
    cache_dir=None,
    samples=0,
    watch=None,
):
    """Looks at every image of a data set: what there is, and what is wrong with it, all at once.

    Of a folder every file is decoded. Two images are the same picture if their decoded pixels are,
    so that a file that was saved anew without loss is found too.

    Args:
        name, data_dir, validation_fraction, seed, limit, image_size: as for `load`.
        resize, skip_damaged, cache_dir: the same. Without `image_size` images of a folder may
            differ in size.
        samples: how many images of each class to keep, as training sees them.
        watch: None, or a function (iterable, number of items) -> iterable that shows progress.

    Returns:
        `Inspection`.

    Raises:
        As `load`, for a name or a layout without a meaning; damaged files, empty classes and splits
        that cannot be cut are no error here.
    """
    size = parse_size(image_size)
    check_rule(resize)
    division = {"validation_fraction": validation_fraction, "seed": seed, "limit": limit}
    watch = watch or (lambda items, total: items)
    text, found = loading.find(name, data_dir)
    if found == loading.FOLDER:
        how = size, resize, skip_damaged, cache_dir
        return _of_folder(text, how, division, samples, watch)
    splits = loading.load(name, data_dir, image_size=image_size, resize=resize, **division)
    return _of_splits(splits, samples, watch)


def _of_folder(name, how, division, samples, watch):
    size, rule, skip_damaged, cache_dir = how
    root = Path(name).expanduser()
    scanned = tree.scan(root)
    found = layout.read(scanned, root, without_empty=True)
    files = folder.files_of(found)
    listing, bad = measured(root, files.names, files.stats, cache_dir)
    sound = np.flatnonzero(listing.headers[:, 0] >= 0)
    if samples and len(sound):  # to show them they have to have a size
        shape = folder.common_shape(listing, size, sound)
    contents, converted = _read(listing, sound, watch)
    failed = np.setdiff1d(sound, list(contents))
    bad |= Images(listing, (None, None, 3), None, kept=False).whys(failed)
    refused = _refused(found, bad, skip_damaged)
    order, roles, files, undivided = _divided(files, bad, name, root, division)
    groups = repeats([contents[index] for index in order])
    labels = files.labels[order].tolist()
    counts = _counts(roles, labels, files.class_names)
    shown = {name: [] for name in files.class_names}
    if samples and len(order):
        chosen = _chosen(roles, labels, samples)
        images = Images(listing, shape, None if size is None else rule, kept=False)
        for positions, some in images.decoded(order[chosen]):
            for position, image in zip(positions, some, strict=True):
                own = files.class_names[labels[chosen[position]]]
                shown[own].append(image)
    sizes = listing.headers[sound, :2]
    findings = of_repeats(groups, roles, labels, lambda position: files.names[order[position]])
    return Inspection(
        name=name,
        class_names=files.class_names,
        counts=counts,
        cut=tuple(role for role in _ROLES if role not in files.spans and role in counts),
        sizes=_extremes(sizes),
        suffixes=left_out.suffixes(found),
        left_out=left_out.kinds(scanned, found),
        converted=converted,
        damaged={files.names[index]: bad[index] for index in sorted(bad)},
        empty=found.empty,
        repeats=tuple(tuple(files.names[order[own]] for own in group) for group in groups),
        samples={own: some for own, some in shown.items() if some},
        refused=(*refused, *undivided),
        findings=(
            *findings,
            *of_sizes(counts, files.class_names),
            *_of_resizing(sizes, size, rule),
        ),
    )


def _read(listing, sound, watch):
    """Decodes files: ({index: digest of its pixels}, {how converted: (number, example)})."""
    started = time.time_ns()
    images = Images(listing, (None, None, 3), None, kept=False)
    contents, converted = {}, {}
    for positions, (image,) in watch(images.decoded(sound), len(sound)):
        index = int(sound[positions[0]])
        contents[index] = digest(image)
        for kind in conversions(listing.paths([index])[0]):
            count, example = converted.get(kind, (0, listing.names[index]))
            converted[kind] = (count + 1, example)
    folder.all_decoded(listing, np.setdiff1d(sound, list(contents)), started)
    return contents, converted


def _refused(found, bad, skip_damaged):
    if skip_damaged:
        return []
    way_out = "leave out with --skip-damaged (skip_damaged=True in Python)"
    said = [f"Damaged files ({len(bad)}): replace, remove or {way_out}."] * bool(bad)
    if found.empty:
        said.append(f"Empty classes ({len(found.empty)}): fill, remove or {way_out}.")
    return said


def _divided(files, bad, name, root, division):
    """(numbers of the files int64, role of each, `Files` without the bad ones, why they cannot be
    divided)."""
    try:
        files = files.without(bad, root) if bad else files
        parts = divide(files.labels_by_split(), name, **division)
        numbers = {role: files.numbers(parts[role].split)[parts[role].indices] for role in _ROLES}
        refused = []
    except ValueError as error:
        labels = files.labels.copy()
        labels[list(bad)] = -1
        files, refused = files._replace(labels=labels), [str(error)]
        numbers = {role: files.numbers(role) for role in files.spans}
    roles = [role for role, own in numbers.items() for _ in own]
    return np.concatenate(list(numbers.values())), roles, files, refused


def _of_splits(splits, samples, watch):
    """The `Inspection` of what `load` returned."""
    info = splits.info
    contents, roles, labels = [], [], []
    shown = {name: [] for name in info.label_names}
    total = sum(info.sizes.values())

    def examples():
        for role, dataset in zip(_ROLES, splits[:3], strict=True):
            for images, classes in dataset.batch(256).as_numpy_iterator():
                yield from ((role, *pair) for pair in zip(images, classes.tolist(), strict=True))

    for role, image, label in watch(examples(), total):
        contents.append(digest(image))
        roles.append(role)
        labels.append(label)
        own = shown[info.label_names[label]]
        if role == "train" and len(own) < samples:
            own.append(image)
    places, seen = [], Counter()
    for role in roles:
        places.append(f"{role} {seen[role]}")
        seen[role] += 1
    groups = repeats(contents)
    counts = _counts(roles, labels, info.label_names)
    findings = of_repeats(groups, roles, labels, places.__getitem__)
    return Inspection(
        name=info.name,
        class_names=info.label_names,
        counts=counts,
        cut=(),
        sizes=_extremes(np.array([info.image_shape[:2]])),
        repeats=tuple(tuple(places[position] for position in group) for group in groups),
        samples={own: some for own, some in shown.items() if some},
        refused=(),
        findings=(*findings, *of_sizes(counts, info.label_names)),
    )


def _counts(roles, labels, class_names):
    """{role: images of each class, int array (classes,)}."""
    counts = {role: np.zeros(len(class_names), int) for role in dict.fromkeys(roles)}
    for role, label in zip(roles, labels, strict=True):
        counts[role][label] += 1
    return counts


def _chosen(roles, labels, samples):
    """Positions of some training images of each class, evenly spread, in order."""
    by_class = {}
    for position, (role, label) in enumerate(zip(roles, labels, strict=True)):
        if role == "train":
            by_class.setdefault(label, []).append(position)
    chosen = []
    for own in by_class.values():
        count = min(samples, len(own))
        chosen += [own[step * len(own) // count] for step in range(count)]
    return np.array(chosen, np.int64)


def _extremes(sizes):
    """((height, width) of the smallest, the median, the largest) of int array (n, 2)."""
    ordered = sizes[np.argsort(sizes.prod(axis=1), kind="stable")]
    places = (0, len(ordered) // 2, -1) if len(ordered) else ()
    return tuple(tuple(ordered[place].tolist()) for place in places)


def _of_resizing(sizes, size, rule):
    """Sentences about what resizing does to images of these sizes."""
    if not len(sizes):
        return []
    if size is None:
        differ = (sizes != sizes[0]).any()
        text = "The images differ in size: training needs an image size (--image-size)."
        return [text] if differ else []
    if not rule.startswith(STRETCH):
        return []
    ratio = sizes / np.array(size)
    said, reduced = [], np.median(ratio.min(axis=1))
    if rule == STRETCH and reduced >= _REDUCED:
        said.append(
            f'Half of the images are reduced {reduced:.1f} times or more, which "{STRETCH}" does '
            "without antialiasing: --resize stretch_antialiased, crop or pad keep them clearer."
        )
    squeezed = np.median(ratio.max(axis=1) / ratio.min(axis=1))
    if squeezed >= _SQUEEZED:
        said.append(
            f"Half of the images are squeezed {squeezed:.2f} times or more in one direction: "
            "--resize crop or pad keep their aspect."
        )
    return said
