"""Images with labelled boxes: drawn ones, and TFDS sets with a feature of boxes.

Labels are padded rows, see `tfkd.boxes`.
"""

import dataclasses
import functools
import math
import os

import numpy as np
import tensorflow as tf

from tfkd import boxes
from tfkd._extras import needs_extra
from tfkd.data import drawn
from tfkd.data.pipeline import Source, from_source
from tfkd.data.resizing import resize
from tfkd.data.seeds import random_integers
from tfkd.data.splits import SPLIT_NAMES, DataInfo, Splits, fingerprint, roles

CELLS, SHAPES, SHAPES_OVER = "cells", "rotated_shapes", "rotated_shapes/rsscn7"
BUILT_IN = (CELLS, SHAPES)
RULES = ("stretch_antialiased", "stretch")  # those under which boxes stay where they are
MULTIPLE = 16  # of an image's sides
FLIP_DRAW = 0


@dataclasses.dataclass(frozen=True)
class BoxesInfo(DataInfo):
    """What a data set of boxes is: `DataInfo`, and

    Attributes:
        max_boxes: rows of every image's labels.
        rotated: whether boxes are turned.
    """

    max_boxes: int = 0
    rotated: bool = False


def load(name, data_dir=None, image_size=None, limit=None, rule=RULES[0]):
    """Loads images with boxes as train, validation and test.

    Args:
        name: "cells", "rotated_shapes" (drawn, no network), "rotated_shapes/rsscn7" (over the
            images of the TFDS set rsscn7), or a TFDS name such as "bccd".
        data_dir: where TFDS data lies; by default TFDS_DATA_DIR, else TFDS's own default.
        image_size: pixels of the shorter side; the longer one keeps the aspect. Both are rounded to
            multiples of 16.
        limit: at most so many training images.
        rule: of resizing: "stretch_antialiased" or "stretch".

    Returns:
        `Splits` of (uint8 image (H, W, C), float32 labels (max_boxes, 6)); its info is `BoxesInfo`.

    Raises:
        ValueError: no such set, no feature of boxes, a box that cannot be right (named).
        FileNotFoundError: TFDS data that is not there.
    """
    if name in (CELLS, SHAPES, SHAPES_OVER):
        names = drawn.CELLS if name == CELLS else drawn.SHAPES
        read = {CELLS: drawn.cells, SHAPES: drawn.rotated_shapes}.get(name)
        found = read() if read else drawn.rotated_shapes(_textures(data_dir))
    else:
        found, names = _from_tfds(name, data_dir, image_size)
    if limit is not None:
        images, labels = found["train"]
        kept = np.sort(np.random.RandomState(0).permutation(len(labels))[:limit])
        found = {**found, "train": (images[kept], [labels[index] for index in kept])}
    if rule not in RULES:
        raise ValueError(f"resize is {rule}; images with boxes take one of {', '.join(RULES)}.")
    found = {split: _resized(*found[split], image_size, rule) for split in SPLIT_NAMES}
    shape = found["train"][0].shape[1:]
    notes, checked = [], {}
    for split, (_, labels) in found.items():
        checked[split], clipped = check(labels, shape, len(names), f'{split} split of "{name}"')
        if clipped:
            notes.append(
                f"{clipped} boxes of the {split} split reach over their image's edge and were "
                "clipped to it."
            )
    most = max(len(rows) for labels in checked.values() for rows in labels)
    if not most:
        raise ValueError(f'"{name}" has no box in any image: there is nothing to learn.')
    padded = {split: pad(labels, most) for split, labels in checked.items()}
    pieces = [part for split in SPLIT_NAMES for part in (split, found[split][0], padded[split])]
    info = BoxesInfo(
        name=name,
        image_shape=tuple(map(int, shape)),
        num_classes=len(names),
        label_names=tuple(names),
        sizes={split: len(padded[split]) for split in SPLIT_NAMES},
        fingerprint=fingerprint(*pieces),
        resize=rule,
        findings=tuple(notes),
        max_boxes=most,
        rotated=name in (SHAPES, SHAPES_OVER),
    )
    return Splits(*(_dataset(found[split][0], padded[split]) for split in SPLIT_NAMES), info)


def check(labels, image_shape, num_classes, where):
    """Boxes that can be learnt: upright ones clipped to the image, all others refused or left.

    Args:
        labels: list of arrays (boxes, 6), one an image; an image may have none.
        image_shape: (height, width, ...).
        num_classes: number of classes.
        where: for messages, "train split of ...".

    Returns:
        (the same list, clipped; how many boxes were clipped).

    Raises:
        ValueError: a box without a size, outside of its image, or of an unknown class; or numbers
            that are none. Image and box are named, both from 0.
    """
    height, width = image_shape[:2]
    found, clipped = [], 0
    for image, rows in enumerate(labels):
        rows = np.asarray(rows, np.float32).reshape(-1, boxes.COLUMNS)
        x, y, wide, high, angle, kind = rows.T
        whole = np.isfinite(rows).all(axis=1)
        outside = (x + wide / 2 <= 0) | (y + high / 2 <= 0)
        outside |= (x - wide / 2 >= width) | (y - high / 2 >= height)
        turned = angle != 0
        outside |= turned & ((x < 0) | (y < 0) | (x >= width) | (y >= height))
        faults = {
            "holds numbers that are none": ~whole,
            "has no size": (wide <= 0) | (high <= 0),
            f"lies outside of its image of {height} x {width} pixels": outside,
            f"has a class outside of 0 to {num_classes - 1}": (kind < 0) | (kind >= num_classes),
        }
        for what, wrong in faults.items():
            if wrong.any():
                box = int(np.flatnonzero(wrong)[0])
                raise ValueError(
                    f"Box {box} of image {image} of the {where} {what}: centre x, y, width, "
                    f"height, angle, class = {rows[box].tolist()}. Correct it, or leave it out."
                )
        low = np.maximum(np.stack([x - wide / 2, y - high / 2], 1), 0)
        high_corner = np.minimum(np.stack([x + wide / 2, y + high / 2], 1), [width, height])
        cut = np.concatenate([(low + high_corner) / 2, high_corner - low, rows[:, 4:]], axis=1)
        # What rounding alone moves is not worth a word.
        over = ~turned & (np.abs(cut - rows) > 1e-3 * max(height, width)).any(axis=1)
        clipped += int(over.sum())
        found.append(np.where(turned[:, None], rows, cut).astype(np.float32))
    return found, clipped


def pad(labels, count):
    """float32 (images, count, 6): label rows, filled with -1."""
    padded = np.full((len(labels), count, boxes.COLUMNS), -1, np.float32)
    for own, rows in zip(padded, labels, strict=True):
        own[: len(rows)] = rows
    return padded


def mirror(images, seeds):
    """Every second image mirrored left to right, an augmentation like those of `tfkd.data`.

    Args:
        images: (batch, height, width, channels).
        seeds: int64 (batch, 2).
    """
    return tf.where(_are_mirrored(seeds)[:, None, None, None], images[:, :, ::-1], images)


def mirroring(width):
    """`mirror`, with what becomes of labels as `labels`: boxes move along, padding stays.

    Args:
        width: of the images, in pixels.
    """

    def labels_of(labels, seeds):
        mirrored = _are_mirrored(seeds)[:, None, None] & (labels[..., boxes.CLASS :] >= 0)
        other = tf.stack(
            [
                float(width) - labels[..., 0],
                *(labels[..., column] for column in (1, 2, 3)),
                tf.math.floormod(-labels[..., 4], math.pi),
                labels[..., 5],
            ],
            axis=-1,
        )
        return tf.where(mirrored, other, labels)

    augment = functools.partial(mirror)
    augment.labels = labels_of
    return augment


def _are_mirrored(seeds):
    return random_integers(seeds, FLIP_DRAW, 2) > 0


def _dataset(images, labels):
    images, labels = tf.constant(images), tf.constant(labels)

    def gather(indices):
        return tf.gather(images, indices), tf.gather(labels, indices)

    return from_source(Source(len(labels), gather))


def _resized(images, labels, image_size, rule):
    """Images and labels at the size asked for, sides multiples of 16."""
    height, width = images.shape[1:3]
    shrink = 1.0 if image_size is None else image_size / min(height, width)
    size = tuple(max(1, round(side * shrink / MULTIPLE)) * MULTIPLE for side in (height, width))
    if size == (height, width):
        return images, labels
    down, across = size[0] / height, size[1] / width
    if any((rows[:, 4] != 0).any() for rows in labels) and not math.isclose(down, across):
        raise ValueError(
            f"Turned boxes would not stay rectangles where images of {height} x {width} pixels "
            f"become {size[0]} x {size[1]}. Give an image_size that keeps the aspect."
        )
    factors = np.array([across, down, across, down, 1, 1], np.float32)
    return resize(images, size, rule).numpy(), [rows * factors for rows in labels]


def _textures(data_dir):
    """The training images of rsscn7, uint8 (n, H, W, 3)."""
    builder = _builder("rsscn7", data_dir)
    split = builder.as_dataset(split="train", shuffle_files=False)
    return np.stack([example["image"] for example in split.as_numpy_iterator()])


def _builder(name, data_dir):
    needs_extra("data", f'The data set "{name}"')
    from tfkd.data import tfds_source

    data_dir = data_dir or os.environ.get("TFDS_DATA_DIR") or None
    builder = tfds_source.find_builder(name, data_dir)
    if builder is None:
        raise ValueError(
            f'No data set of boxes "{name}". Expected {CELLS}, {SHAPES}, {SHAPES_OVER}, or a name '
            "that TensorFlow Datasets knows, such as bccd."
        )
    if not builder.info.splits:
        raise FileNotFoundError(
            f'"{name}" is not prepared: nothing in {builder.data_path}. Download it once with '
            f"tfds.builder({name!r}).download_and_prepare(), or give the directory where it lies "
            "as data_dir or in TFDS_DATA_DIR."
        )
    return builder


def _from_tfds(name, data_dir, image_size):
    """({split: (images, list of label rows)}, names of the classes) of a TFDS set."""
    builder = _builder(name, data_dir)
    features = builder.info.features
    objects = features["objects"] if "objects" in features else None
    kinds = dict(getattr(objects, "feature", None) or {})
    if "image" not in features or not {"bbox", "label"} <= set(kinds):
        raise ValueError(
            f'"{name}" has no boxes: expected the features "image" and "objects" with "bbox" and '
            f'"label", as TFDS\'s own sets of boxes have them; it has {list(features)}.'
        )
    published = roles(list(builder.info.splits), name)
    missing = sorted(set(SPLIT_NAMES) - set(published))
    if missing:
        raise ValueError(
            f'"{name}" has no {" and ".join(missing)} split; boxes are read from sets that publish '
            "train, validation and test."
        )
    found = {}
    for split, own in published.items():
        images, labels = [], []
        for example in builder.as_dataset(split=own, shuffle_files=False).as_numpy_iterator():
            if images and example["image"].shape != images[0].shape:
                raise ValueError(
                    f'The images of "{name}" differ in size: {images[0].shape} and '
                    f"{example['image'].shape}. Boxes are read from sets of one size."
                )
            images.append(example["image"])
            labels.append(_rows(example["objects"], example["image"].shape))
        found[split] = np.stack(images), labels
    return found, tuple(kinds["label"].names)


def _rows(objects, shape):
    """Label rows of TFDS's shares of the image: top, left, bottom, right."""
    box = objects["bbox"] * np.array([*shape[:2], *shape[:2]], np.float32)
    top, left, bottom, right = box.reshape(-1, 4).T
    parts = (
        *((left + right) / 2, (top + bottom) / 2, right - left, bottom - top),
        *(np.zeros(len(top)), objects["label"]),
    )
    return np.stack(parts, axis=1).astype(np.float32)
