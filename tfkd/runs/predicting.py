"""What images show, or texts are: a run's student or an export, asked about files."""

import csv as csv_format
import warnings
from pathlib import Path
from typing import Any, NamedTuple

from rich import box
from rich.table import Table

from tfkd import tasks, terminal
from tfkd.files import written
from tfkd.runs import exports
from tfkd.runs.directory import RunDirectory

BATCH = 64


class Question(NamedTuple):
    """Which model is asked about which files.

    Attributes:
        directory, record: the run that the model is of.
        export: path of the export that answers, or None where the run's student does.
        row: name of the run's row, or None.
        files: paths of images, or of texts.
    """

    directory: RunDirectory
    record: Any
    export: Path | None
    row: str | None
    files: list


def look(model, paths, row=None):
    """The `Question`; no TensorFlow here.

    Raises:
        FileNotFoundError: no such model or file. ValueError: a folder without such files.
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
    task = tasks.get(record.task)
    files = [file for path in paths for file in _files(Path(path).expanduser(), task)]
    return Question(directory, record, export, row, files)


def _files(path, task):
    if not path.exists():
        raise FileNotFoundError(f'No {task.thing} or folder "{path}".')
    if path.is_file():
        return [path]
    found = sorted(
        own
        for own in path.rglob("*")
        if own.suffix.lower() in task.suffixes and own.is_file() and not own.name.startswith(".")
    )
    if not found:
        raise ValueError(
            f'The folder "{path}" holds no {task.things} ({", ".join(task.suffixes)}).'
        )
    return found


def answer(question, top=1, csv=None, skip_damaged=False):
    """See `tfkd.runs.predict`."""
    import numpy as np
    import tensorflow as tf

    from tfkd.runs.finished import student_of
    from tfkd.tasks.logits import Logits

    record, row = question.record, question.record.row(question.row)
    data, task = record.data[row.data], tasks.get(record.task)
    files, images = _examples(question.files, data, task, skip_damaged)

    def student():
        return student_of(question.directory, record, question.row)[0]

    if question.export is not None:
        with task.opened(question.export, student) as exported:
            names = exported.labels or data.label_names
            logits = np.concatenate([exported.logits(part) for part in _batches(images)])
    else:
        names, asked = data.label_names, Logits(student(), tf.constant(images[:BATCH]))
        logits = [asked(tf.constant(part)).numpy() for part in _batches(images)]
        logits = np.concatenate(logits)
    return _told(files, softmax(logits), names, top, csv)


def softmax(logits):
    """Probabilities in float64, rows that add up to 1."""
    import numpy as np

    shifted = np.exp(np.asarray(logits, "float64") - np.max(logits, axis=1, keepdims=True))
    return shifted / shifted.sum(axis=1, keepdims=True)


def _batches(images):
    return (images[start : start + BATCH] for start in range(0, len(images), BATCH))


def _examples(files, data, task, skip_damaged):
    """The files' examples as the model was trained on them.

    Args:
        files: their paths.
        data: `tfkd.runs.record.Data` of what it was trained on.
        task: the `tfkd.tasks.base.Task`.
        skip_damaged: whether files that cannot be read are left out.

    Returns:
        (paths of the files that were read, array (n, ...)).

    Raises:
        ValueError: files that cannot be read, all of them named; or none that can.
    """
    import numpy as np
    import tensorflow as tf

    kind = np.uint8 if data.image_shape else object  # pixels, or texts in UTF-8
    examples, read, bad = np.empty((len(files), *data.image_shape), kind), [], []
    with terminal.step(f"Reading the {task.things}", total=len(files)) as step:
        for path in files:
            try:
                examples[len(read)] = task.read(path, data)
                read.append(path)
            except (tf.errors.OpError, OSError, ValueError) as error:
                why = str(error).split("[Op:")[0].split("}} ")[-1].strip().splitlines()[0]
                bad.append(f'"{path}" ({why})')
            step.advance()
    if bad and not (skip_damaged and read):
        raise ValueError(
            f"Cannot read {len(bad)} of {len(files)} {task.things}: {'; '.join(bad)}. Replace or "
            "remove these files, or leave them out (--skip-damaged) where others can be read."
        )
    if bad:
        said = "; ".join(bad)
        warnings.warn(
            f"{len(bad)} of {len(files)} {task.things} cannot be read and are left out: {said}.",
            stacklevel=4,
        )
    return read, examples[: len(read)]


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
