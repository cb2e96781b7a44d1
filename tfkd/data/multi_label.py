"""Images with any number of labels: built in, a folder with a table, or a TFDS set."""

import csv
from pathlib import Path

import numpy as np
import tensorflow as tf

from tfkd.data import labelled_pictures, loading
from tfkd.data.assembly import divided
from tfkd.data.files import common_shape, read_images, require_room
from tfkd.data.resizing import STRETCH, parse_size
from tfkd.data.splits import SPLIT_NAMES

DIGIT_GROUPS, TABLE = "digit_groups", "labels.csv"
_FILE, _SPLIT = "file", "split"


def load(name, data_dir=None, *, image_size=None, resize=STRETCH, **division):
    """Loads images with independent labels as train, validation and test.

    A folder holds the table labels.csv: a column "file" (a path from the folder), perhaps a column
    "split" (train, validation or test), and one for each label with 1 where it holds, else 0.
    A TFDS set has one image and either one sequence of class labels or one vector of 0 and 1.

    Args:
        name: "digit_groups" (built in), a folder, or a TFDS name.
        data_dir: where TFDS data lies.
        image_size: resize every image; needed where images differ in size.
        resize: by which rule, see `tfkd.data.load`.
        **division: validation_fraction, seed, limit, as `tfkd.data.load` takes them.

    Returns:
        `tfkd.data.Splits`: unbatched datasets of (uint8 (H, W, C), uint8 (labels,)).

    Raises:
        ValueError, FileNotFoundError: what cannot be read, and how to fix it.
    """
    size = parse_size(image_size)
    if name == DIGIT_GROUPS:
        arrays, names = labelled_pictures.digit_groups(), tuple("0123456789")
        arrays = {role: (_resized(x, size, resize), y) for role, (x, y) in arrays.items()}
        return divided(name, arrays, None, names, resize, **division)
    text, found = loading.find(name, data_dir)
    if found in loading.EMBEDDED:
        raise ValueError(
            f'An image of "{name}" has one label. Give data with several: "{DIGIT_GROUPS}" (built '
            f"in), a folder with the table {TABLE}, or a TFDS set with a sequence of labels."
        )
    if found == loading.FOLDER:
        arrays, names = _folder(Path(text).expanduser(), size, resize)
    else:
        from tfkd.data import tfds_labels

        arrays, names = tfds_labels.multi_label(text, found, size, resize)
    _require_both(arrays, names, name)
    return divided(name, arrays, None, names, resize, **division)


def _resized(images, size, rule):
    from tfkd.data.resizing import resize

    return images if size is None else resize(tf.constant(images), size, rule).numpy()


def _folder(root, size, rule):
    """({role: (images, labels)}, names) of a folder with its table."""
    table = root / TABLE
    if not table.is_file():
        raise FileNotFoundError(
            f'No table "{table}". Expected a CSV file with a column "{_FILE}" and one for each '
            "label, 1 where it holds and 0 where it does not."
        )
    with open(table, newline="", encoding="utf-8-sig") as file:
        rows = csv.reader(file)
        heading = next(rows, [])
        lines = [(number, row) for number, row in enumerate(rows, start=2) if row]
    names = tuple(own for own in heading if own not in (_FILE, _SPLIT))
    if heading.count(_FILE) != 1 or not names or len(set(heading)) < len(heading):
        raise ValueError(
            f'"{table}" begins with {heading}; expected the columns "{_FILE}" and one for each '
            "label, each name once."
        )
    if not lines:
        raise ValueError(f'"{table}" lists no image.')
    files, labels, roles = [], [], []
    for number, row in lines:
        own = dict(zip(heading, row, strict=False))
        values = [own.get(label, "").strip() for label in names]
        if len(row) != len(heading) or not set(values) <= {"0", "1"}:
            raise ValueError(
                f'Line {number} of "{table}" is {",".join(row)}; expected {len(heading)} columns, '
                "1 or 0 for each label."
            )
        files.append(own[_FILE])
        labels.append([int(value) for value in values])
        roles.append(_role(own.get(_SPLIT, "train").strip(), number, table))
    twice = sorted({own for own in files if files.count(own) > 1}) if len(files) < 10_000 else []
    twice = twice or (["a file"] if len(set(files)) < len(files) else [])
    missing = [own for own in files if not (root / own).is_file()]
    if twice or missing:
        what, some = ("twice", twice) if twice else ("but they are not there", missing)
        raise ValueError(f'"{table}" lists {", ".join(some[:5])} {what}. Correct the table.')
    paths, roles = [root / own for own in files], np.array(roles)
    shape = common_shape(paths, size)
    require_room(str(root), len(paths), shape)
    images, labels = read_images(paths, shape, None if size is None else rule), np.array(labels)
    return {
        role: (images[roles == role], labels[roles == role].astype(np.uint8))
        for role in SPLIT_NAMES
        if (roles == role).any()
    }, names


def _role(text, number, table):
    for role, aliases in SPLIT_NAMES.items():
        if text.lower() in aliases:
            return role
    raise ValueError(
        f'Line {number} of "{table}" has the split "{text}"; expected train, validation or test.'
    )


def _require_both(arrays, names, name):
    """Refuses a label that no training image has, or all: there is nothing to learn."""
    labels = arrays["train"][1] if "train" in arrays else None
    if labels is None:
        raise ValueError(f'"{name}" has no train split to learn from; it has: {sorted(arrays)}.')
    counts = labels.sum(axis=0)
    idle = [own for own, n in zip(names, counts, strict=True) if n in (0, len(labels))]
    if idle:
        raise ValueError(
            f'No training image of "{name}", or every one, has the label '
            f"{', '.join(map(repr, idle[:5]))}: there is nothing to tell apart. Leave it out."
        )
