"""What images show: a run's student or an export, asked about files."""

import csv as csv_format
import warnings
from pathlib import Path
from typing import Any, NamedTuple

from rich import box
from rich.table import Table

from tfkd import terminal
from tfkd.files import written
from tfkd.runs import exports
from tfkd.runs.directory import RunDirectory

BATCH = 64
SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")


class Question(NamedTuple):
    """Which model is asked about which files.

    Attributes:
        directory, record: the run that the model is of.
        export: path of the export that answers, or None where the run's student does.
        row: name of the run's row, or None.
        files: paths of images.
    """

    directory: RunDirectory
    record: Any
    export: Path | None
    row: str | None
    files: list


def look(model, paths, row=None):
    """The `Question`; no TensorFlow here.

    Raises:
        FileNotFoundError: no such model or image. ValueError: a folder without images.
    """
    export = None
    directory = RunDirectory(model)
    if not directory.begun and exports.is_export(model):
        export = Path(model).expanduser()
        if not export.exists():
            raise FileNotFoundError(f'No file "{model}".')
        directory = exports.run_of(model)
    record = directory.record()
    record.row(row)
    record.require_classes("tfkd predict")
    files = [file for path in paths for file in _images(Path(path).expanduser())]
    return Question(directory, record, export, row, files)


def _images(path):
    if not path.exists():
        raise FileNotFoundError(f'No image or folder "{path}".')
    if path.is_file():
        return [path]
    found = sorted(
        own
        for own in path.rglob("*")
        if own.suffix.lower() in SUFFIXES and own.is_file() and not own.name.startswith(".")
    )
    if not found:
        raise ValueError(f'The folder "{path}" holds no images ({", ".join(SUFFIXES)}).')
    return found


def answer(question, top=1, csv=None, skip_damaged=False):
    """See `tfkd.runs.predict`."""
    import numpy as np

    from tfkd.export import open_exported
    from tfkd.runs.finished import student_of
    from tfkd.tasks.logits import Logits

    record, row = question.record, question.record.row(question.row)
    data = record.data[row.data]
    files, images = _pixels(question.files, data.image_shape, data.resize, skip_damaged)
    if question.export is not None:
        with open_exported(question.export) as exported:
            names = exported.labels or data.label_names
            logits = np.concatenate([exported.logits(part) for part in _batches(images)])
    else:
        names, (model, _) = data.label_names, student_of(question.directory, record, question.row)
        asked = Logits(model, images[:BATCH])
        logits = np.concatenate([np.asarray(asked(part)) for part in _batches(images)])
    return _told(files, softmax(logits), names, top, csv)


def softmax(logits):
    """Probabilities in float64, rows that add up to 1."""
    import numpy as np

    shifted = np.exp(np.asarray(logits, "float64") - np.max(logits, axis=1, keepdims=True))
    return shifted / shifted.sum(axis=1, keepdims=True)


def _batches(images):
    return (images[start : start + BATCH] for start in range(0, len(images), BATCH))


def _pixels(files, shape, rule, skip_damaged):
    """The images as the model was trained on them.

    Args:
        files: their paths.
        shape: (height, width, channels) that the model takes.
        rule: by which its training images were resized.
        skip_damaged: whether files that cannot be read are left out.

    Returns:
        (paths of the files that were read, uint8 (n, height, width, channels)).

    Raises:
        ValueError: files that cannot be read, all of them named; or none that can.
    """
    import numpy as np
    import tensorflow as tf

    from tfkd.data.images import decode

    images, read, bad = np.empty((len(files), *shape), "uint8"), [], []
    with terminal.step("Reading the images", total=len(files)) as step:
        for path in files:
            try:
                images[len(read)] = decode(tf.io.read_file(str(path)), tuple(shape), rule)
                read.append(path)
            except (tf.errors.OpError, ValueError) as error:
                why = str(error).split("[Op:")[0].split("}} ")[-1].strip().splitlines()[0]
                bad.append(f'"{path}" ({why})')
            step.advance()
    if bad and not (skip_damaged and read):
        raise ValueError(
            f"Cannot read {len(bad)} of {len(files)} images: {'; '.join(bad)}. Replace or remove "
            "these files, or leave them out (--skip-damaged) where others can be read."
        )
    if bad:
        warnings.warn(
            f"{len(bad)} of {len(files)} images cannot be read and are left out: {'; '.join(bad)}.",
            stacklevel=4,
        )
    return read, images[: len(read)]


def _told(files, probabilities, names, top, csv):
    """Prints a table or writes a CSV file; returns the lines as dicts."""
    lines = []
    for path, own in zip(files, probabilities, strict=True):
        for index in own.argsort(kind="stable")[::-1][: min(top, len(own))]:
            label = {"label": names[index], "probability": float(own[index])}
            lines.append({"file": str(path), **label})
    if csv is not None:
        with written(csv) as partial, open(partial, "w", newline="", encoding="utf-8") as file:
            writer = csv_format.DictWriter(file, list(lines[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(lines)
        return lines
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for name, justify in (("file", "left"), ("label", "left"), ("probability (%)", "right")):
        table.add_column(name, justify=justify, overflow="fold")
    for line in lines:
        table.add_row(line["file"], line["label"], f"{100 * line['probability']:.1f}")
    terminal.console().print(table)
    return lines
