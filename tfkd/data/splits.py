"""What `load` returns, and how examples are divided: disjoint, seeded, by class."""

import hashlib
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np
import tensorflow as tf

from tfkd.data.resizing import STRETCH

# Names under which data sets publish the three roles.
SPLIT_NAMES = {
    "train": ("train", "training"),
    "validation": ("validation", "val", "valid"),
    "test": ("test", "testing"),
}
# Where no test split is published a fifth is cut off, the same for every seed: runs compare.
TEST_FRACTION = 0.2
_TEST_SEED = 0


@dataclass(frozen=True)
class DataInfo:
    """What a data set is.

    Attributes:
        name: as given to `load`.
        image_shape: (height, width, channels).
        num_classes: number of classes; labels are 0 .. num_classes - 1.
        label_names: tuple of str, one a class.
        sizes: {"train": n, "validation": n, "test": n}.
        fingerprint: "sha256:..." over order, pixels and labels of all three splits (of names, sizes
            and indices where pixels are streamed).
        resize: the rule by which images of another size become such ones, see `load`.
        findings: what was seen of a folder's images, a sentence each.
        things: what examples are called.
    """

    things: ClassVar[str] = "images"

    name: str
    image_shape: tuple
    num_classes: int
    label_names: tuple
    sizes: dict
    fingerprint: str
    resize: str = STRETCH
    findings: tuple = ()


class Splits(NamedTuple):
    """Three disjoint unbatched datasets of (image uint8 (H, W, C), label int64), and their info."""

    train: tf.data.Dataset
    validation: tf.data.Dataset
    test: tf.data.Dataset
    info: DataInfo


class Part(NamedTuple):
    """One role's examples: positions (sorted int64 array) in one published split."""

    split: str
    indices: np.ndarray


def roles(split_names, name):
    """Which published split plays which role.

    Args:
        split_names: the names that the data set publishes.
        name: the data set's, for messages.

    Returns:
        {role: split name}, always with "train".

    Raises:
        ValueError: without a train split, or with two of one role.
    """
    found = {}
    for role, aliases in SPLIT_NAMES.items():
        present = [alias for alias in aliases if alias in split_names]
        if len(present) > 1:
            raise ValueError(f'"{name}" has {" and ".join(present)} splits; expected one of them.')
        if present:
            found[role] = present[0]
    if "train" not in found:
        raise ValueError(
            f'"{name}" has no train split to learn from; it has: {sorted(split_names)}.'
        )
    return found


def subset(labels, size, seed):
    """`size` positions, seeded, each class in proportion: sorted int64 array of shape (size,)."""
    # RandomState's streams are frozen by NumPy's policy (NEP 19); Generator's are not.
    order = np.random.RandomState(seed).permutation(len(labels))
    shuffled = labels[order]
    by_class = np.argsort(shuffled, kind="stable")
    _, starts, counts = np.unique(shuffled[by_class], return_index=True, return_counts=True)
    # How far into its class each example stands, 0 .. 1: the smallest `size` of these are an even
    # share of each class.
    share = np.empty(len(labels))
    share[by_class] = (np.arange(len(labels)) - np.repeat(starts, counts) + 0.5) / np.repeat(
        counts, counts
    )
    return np.sort(order[np.argsort(share, kind="stable")[:size]]).astype(np.int64)


def divide(labels, name, validation_fraction=0.1, seed=0, limit=None):
    """Divides published splits into train, validation and test.

    A published split keeps its role. What is missing is cut from train: test first (a fifth, the
    same for every seed), then validation (`validation_fraction` of the rest, by seed), each class
    in proportion.

    Args:
        labels: {role: int array (n,)} of the published splits; constant arrays where labels are not
            known.
        name: the data set's, for messages.
        validation_fraction: 0 < fraction < 1.
        seed: of the validation cut and of `limit`.
        limit: at most so many training examples; None for all.

    Returns:
        {"train", "validation", "test": Part}, `Part.split` being a role in `labels`.

    Raises:
        ValueError: for settings outside their range, or a part that would be empty.
    """
    if not 0 < validation_fraction < 1:
        raise ValueError(
            f"validation_fraction must lie between 0 and 1; given {validation_fraction}."
        )
    if limit is not None and (int(limit) != limit or limit < 1):
        raise ValueError(f"limit must be a whole number of at least 1, or None; given {limit}.")
    for role, split_labels in labels.items():
        if not len(split_labels):
            raise ValueError(f'The {role} split of "{name}" is empty.')
    parts = {role: Part(role, np.arange(len(labels[role]))) for role in labels}
    rest = parts["train"].indices
    for role, fraction, cut_seed in (
        ("test", TEST_FRACTION, _TEST_SEED),
        ("validation", validation_fraction, seed),
    ):
        if role not in parts:
            chosen = rest[subset(labels["train"][rest], round(fraction * len(rest)), cut_seed)]
            rest = np.setdiff1d(rest, chosen)
            parts[role] = Part("train", chosen)
    if limit is not None:
        rest = rest[subset(labels["train"][rest], min(limit, len(rest)), seed)]
    parts["train"] = Part("train", rest)
    for role, part in parts.items():
        if not len(part.indices):
            raise ValueError(
                f'"{name}" has too few examples ({len(labels["train"])}) to cut a {role} split of '
                f"them "
                f"(validation_fraction={validation_fraction})."
            )
    return parts


def check_labels(labels, num_classes, split, name):
    """Refuses labels outside 0 .. num_classes - 1, naming the first such example."""
    wrong = np.flatnonzero((labels < 0) | (labels >= num_classes))
    if len(wrong):
        raise ValueError(
            f'Example {wrong[0]} of the {split} split of "{name}" has label {labels[wrong[0]]}; '
            f"expected 0 to "
            f"{num_classes - 1} ({len(wrong)} such labels). Correct the data, or, if the split is "
            f"published without "
            "labels (-1), leave it out."
        )


def fingerprint(*pieces):
    """sha256 over strings and arrays (their dtype, shape and bytes), in order."""
    digest = hashlib.sha256()
    for piece in pieces:
        if isinstance(piece, np.ndarray):
            digest.update(f"{piece.dtype.str}{piece.shape}".encode())
            digest.update(np.ascontiguousarray(piece).data)
        else:
            digest.update(f"{len(piece)}:{piece}".encode())
    return f"sha256:{digest.hexdigest()}"


def described(shape, size, rule):
    """How pixels that are streamed come about, for their fingerprint.

    Args:
        shape: (height, width, channels) of the images.
        size: (height, width) to which they are resized, or None.
        rule: of resizing.
    """
    return str(shape) if size is None or rule == STRETCH else f"{shape} {rule}"
