"""From whole splits in memory to `Splits`: shared by every source whose pixels fit memory."""

import numpy as np

from tfkd.data.pipeline import from_arrays
from tfkd.data.resizing import STRETCH
from tfkd.data.splits import DataInfo, Splits, check_labels, divide, fingerprint


def splits_in_memory(name, arrays, label_names, rule=STRETCH, **division):
    """Checks, divides and wraps published splits.

    Args:
        name: as given to `load`.
        arrays: {role: (images uint8 (n, H, W, C), labels int64 (n,))} of the published splits.
        label_names: tuple of str.
        rule: by which images are, or would be, resized.
        **division: validation_fraction, seed, limit, as `divide` takes them.

    Returns:
        `Splits`.

    Raises:
        ValueError: for labels out of range, empty splits, settings outside their range.
    """
    for role, (_, labels) in arrays.items():
        check_labels(labels, len(label_names), role, name)
    strata = {role: labels for role, (_, labels) in arrays.items()}
    return divided(name, arrays, strata, label_names, rule, **division)


def divided(name, arrays, strata, label_names, rule=STRETCH, **division):
    """Divides and wraps published splits whose labels are of any shape.

    Args:
        name, label_names, rule, division: as for `splits_in_memory`.
        arrays: {role: (images uint8 (n, H, W, C), labels (n,) or (n, ...))}.
        strata: {role: int array (n,)} of what cuts are to have in proportion; None for nothing.

    Returns:
        `Splits`.
    """
    if strata is None:
        strata = {role: np.zeros(len(images), np.int64) for role, (images, _) in arrays.items()}
    parts = divide(strata, name, **division)
    datasets, sizes, pieces = {}, {}, []
    for role in ("train", "validation", "test"):
        images, labels = arrays[parts[role].split]
        indices = parts[role].indices
        if len(indices) < len(labels):
            images, labels = images[indices], labels[indices]
        datasets[role] = from_arrays(images, labels)
        sizes[role] = len(labels)
        pieces += [role, images, labels.astype(np.int64) if labels.ndim == 1 else labels]
    info = DataInfo(
        name=name,
        image_shape=tuple(images.shape[1:]),
        num_classes=len(label_names),
        label_names=tuple(label_names),
        sizes=sizes,
        fingerprint=fingerprint(*pieces),
        resize=rule,
    )
    return Splits(datasets["train"], datasets["validation"], datasets["test"], info)
