"""From a finished run to checked, measured exports: `tfkd export` and the end of `tfkd distill`.

Everything is written into a hidden directory, checked and measured there, and only then published:
a failed check leaves nothing.
"""

import contextlib
import datetime
import os
import shutil
import time
import warnings
from pathlib import Path
from typing import NamedTuple

import keras
from rich import box
from rich.table import Table

import tfkd
from tfkd import evaluation, tasks, terminal
from tfkd.data import batches
from tfkd.export import calibrated, measure
from tfkd.export.errors import ExportWarning
from tfkd.files import full_disk_named, locked, write_json
from tfkd.runs.directory import EXPORT, EXPORT_PICTURE, EXPORT_RECORD, SAVED_MODEL, WORK
from tfkd.runs.finished import load_run_data, student_of
from tfkd.runs.measuring import teacher_path
from tfkd.runs.models import load_model
from tfkd.runs.temporary import temporary_files_in
from tfkd.runs.tensorflow_output import silenced
from tfkd.runtime.versions import new_version
from tfkd.tasks.classification import EVALUATION_BATCH
from tfkd.tasks.logits import Logits

# What of run.json travels with a SavedModel.
MANIFEST = ("tfkd", "finished", "versions", "settings", "data", "teachers", "kept_seed", "summary")


class Exported(NamedTuple):
    """What an export ended in: the content of export.json, the table, where it lies, and what its
    examples are called."""

    record: dict
    report: measure.Report
    path: Path
    things: str


def export(directory, record, options, out=None, check=True, row=None, data=(), data_dir=None):
    """Exports a run's student.

    Calibration images come from the run's training split, those to check with from validation, the
    figures from test. What no student of the run's task has is left out, and the record's notes say
    why; where it was asked for by name, it is refused.

    Args:
        directory: `RunDirectory` with the models.
        record: its `Record`.
        options: `ExportSettings`.
        out: directory to write to; default `export` in the run.
        check: False leaves the checks out.
        row: the row whose student is exported; by default `student.keras`.
        data, data_dir: where the run's data lies now, if it has moved.

    Returns:
        `Exported`.

    Raises:
        ExportCheckError: an export does not do what the student does; nothing is published.
        ValueError, OSError: what cannot be exported, or written.
    """
    out = Path(out or directory / EXPORT).expanduser()
    if out.exists() and not out.is_dir():
        raise FileExistsError(f'"{out}" is a file; expected a directory for the exports.')
    own, task = record.row(row), tasks.get(record.task)
    quantizations, notes = _left_out(task, options)
    with terminal.step("Reading the data"):
        splits = load_run_data(directory, record, data, data_dir)[own.data]
    student, _ = student_of(directory, record, row)
    calibration = None
    if options.calibrate:
        student, calibration = _calibrated(student, splits)
    aside = temporary_files_in(out)
    with aside, full_disk_named(out / WORK / "export"), _emptied(out), locked(out):
        stage = out / WORK
        shutil.rmtree(stage, ignore_errors=True)
        try:
            manifest = {name: record.content()[name] for name in MANIFEST}
            if calibration is not None:
                manifest["calibration"] = calibration
                notes.append(calibration)
            for note in notes:
                terminal.say(note)
            exports = task.exports(student, splits, check)
            staged = _write(exports, options, quantizations, stage, manifest, check, notes)
            measured = None
            if task.classifies:
                teacher = load_model(teacher_path(directory, record, own))
                measured = _measured(student, staged, splits, teacher, stage, check, task)
            files = _publish(staged, out, options.keep)
            if measured is not None:
                os.replace(stage / EXPORT_PICTURE, out / EXPORT_PICTURE)
            content = _content(directory, record, own, options, check, files, measured, notes)
            write_json(out / EXPORT_RECORD, content)
        finally:
            shutil.rmtree(stage, ignore_errors=True)
    return Exported(content, measured, out, task.things)


def _left_out(task, options):
    """(quantizations to write, notes about those that no student of a task has).

    Raises:
        ValueError: what was asked for by name cannot be written; or nothing would be.
    """
    if options.calibrate and not task.classifies:
        raise ValueError(
            f"calibrate divides logits of one class of many, but the run learns {task.name}."
        )
    missing = task.not_exported
    if "tflite" in missing:
        kept, why = (), {"TFLite": missing["tflite"]}
    else:
        kept = tuple(name for name in options.quantizations if name not in missing)
        why = {
            f"TFLite {name}": missing[name] for name in options.quantizations if name not in kept
        }
    notes = [f"No {what}: {reason}." for what, reason in why.items() if options.quantizations]
    if notes and (options.quantization or not (kept or "saved_model" in options.format)):
        raise ValueError(" ".join(notes))
    return kept, notes


def _measured(student, staged, splits, teacher, stage, check, task):
    """`measure.Report` of the exports beside student and teacher, on the test split."""
    with terminal.step("Measuring") as step, silenced():
        return measure.report(
            student,
            staged,
            batches(splits.test, EVALUATION_BATCH),
            teacher=_of_shape(teacher, splits.info.image_shape),
            plot=stage / EXPORT_PICTURE,
            head=task.head,
            largest_drop=measure.LARGEST_DROP if check else None,
            told=lambda text: step.show(f"Measuring: {text}"),
            opened_by=lambda path: task.opened(path, lambda: student),
        )


@contextlib.contextmanager
def _emptied(out):
    """Removes a directory in the end, but only if it is empty: nothing was published."""
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            out.rmdir()


def show(exported, steps=False):
    """Prints the table, with `steps` the loss of accuracy from each step too, and where it lies."""
    console, record = terminal.console(), exported.record
    if exported.report is None:
        for name, file in record["files"].items():
            terminal.say(f"{name}: {file}")
        terminal.say(f"Written to {exported.path}, with {EXPORT_RECORD}.")
        return
    title = f"{record['data']['name']}: {record['data']['test_images']} test {exported.things}"
    title += ", one thread"
    terminal.say(title)
    console.print(exported.report.tables(console.width))
    if steps:
        console.print(_steps_table(record["steps"]))
    terminal.say(f"Written to {exported.path}, with {EXPORT_RECORD} and {EXPORT_PICTURE}.")


def _calibrated(student, splits):
    """(the student at the temperature that calibrates it on validation, a sentence about it)."""
    validation = batches(splits.validation, EVALUATION_BATCH)
    images = next(iter(validation))[0][:64]
    logits, labels = evaluation.predict(Logits(student, images), validation)
    temperature = evaluation.fitted_temperature(logits, labels)
    before = evaluation.quality(logits, labels)
    after = evaluation.quality(logits / temperature, labels)
    sentence = (
        f"Calibrated: the student's logits are divided by {temperature:.4g}, the temperature of "
        f"the lowest cross-entropy on the {len(labels)} validation {splits.info.things}: "
        f"{before['cross_entropy']:.3f} before, {after['cross_entropy']:.3f} nats after; "
        f"calibration error {100 * before['calibration_error']:.1f} before, "
        f"{100 * after['calibration_error']:.1f} % after."
    )
    if temperature == 1:
        sentence = (
            f"Not calibrated: the {len(labels)} validation {splits.info.things} do not tell a "
            "temperature, for the student is right on all of them, or rates all classes alike."
        )
        return student, sentence
    return calibrated(student, temperature), sentence


def _write(exports, options, quantizations, stage, manifest, check, notes):
    """Writes and checks everything below `stage`; {row name: path}. `notes` gets what was odd."""
    written = {}
    if "saved_model" in options.format:
        with _told("SavedModel", check, notes), silenced():
            written["SavedModel"] = exports.saved_model(stage / SAVED_MODEL, manifest)
    for name in quantizations:
        with _told(f"TFLite {name}", check, notes), silenced():
            file = stage / f"student_{name}.tflite"
            written[f"TFLite {name}"] = exports.tflite(file, name, options.calibration_images)
    for note in exports.notes:
        terminal.say(note)
    notes += exports.notes
    return written


@contextlib.contextmanager
def _told(name, check, notes):
    """Says how long an export took, and what was odd about it, which goes into `notes` too."""
    start = time.perf_counter()
    with warnings.catch_warnings(record=True) as caught, terminal.step(f"Writing {name}"):
        warnings.simplefilter("always")
        yield
    seconds = time.perf_counter() - start
    line = f"{name}: written, {'checks green' if check else 'not checked'} ({seconds:.1f} s)"
    said = [str(one.message) for one in caught if issubclass(one.category, ExportWarning)]
    for text in (line, *(f"Warning: {one}" for one in said)):
        terminal.say(text)
    notes += [f"{name}: {one}" for one in said]


def _publish(staged, out, keep):
    """Renames what was staged into its place; {row name: path relative to `out`}."""
    published = {}
    for name, path in staged.items():
        if path.is_dir():
            with new_version(out / SAVED_MODEL, keep=keep) as new:
                for entry in path.iterdir():
                    entry.rename(new.directory / entry.name)
            published[name] = new.path
        else:
            published[name] = out / path.name
            os.replace(path, published[name])
    return {name: path.relative_to(out).as_posix() for name, path in published.items()}


def _content(directory, record, row, options, check, files, measured, notes):
    """The content of export.json."""
    data = record.data[row.data]
    return {
        "tfkd": tfkd.__version__,
        "exported": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "run": str(directory.path.resolve()),
        "row": row.name,
        "versions": record.versions,
        "machine": record.machine,
        "data": {
            "name": data.name,
            "fingerprint": data.fingerprint,
            "test_images": data.sizes["test"],
        },
        "settings": options.to_dict(),
        "checked": check,
        "files": files,
        **_of_report(measured, files, notes),
    }


def _of_report(measured, files, notes):
    """What export.json says of the measurement, which of other tasks than classes there is not."""
    if measured is None:
        return {"notes": notes, "figures": [], "steps": []}
    return {
        "head": measured.head,
        "notes": [*notes, *measured.notes],
        "figures": measured.as_dicts(),
        "steps": _steps(measured.rows, files),
    }


def _steps(rows, exports):
    """Top-1 of every step from teacher to student to export, and what it lost (shares)."""
    accuracy = {row.name: row.accuracy for row in rows}
    pairs = [(measure.TEACHER, measure.STUDENT), *((measure.STUDENT, name) for name in exports)]
    return [
        {
            "from": before,
            "to": after,
            "accuracy": accuracy[after],
            "lost": accuracy[before] - accuracy[after],
        }
        for before, after in pairs
    ]


def _steps_table(steps):
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for heading, side in (("step", "left"), ("top-1 (%)", "right"), ("lost (points)", "right")):
        table.add_column(heading, justify=side, no_wrap=True)
    for step in steps:
        lost = 100 * step["lost"]
        table.add_row(
            f"{step['from']} → {step['to']}", f"{100 * step['accuracy']:.2f}", f"{lost:+.2f}"
        )
    return table


def _of_shape(teacher, image_shape):
    """The teacher with a fixed input size; from a file it may come with an open one."""
    if not teacher.inputs or None not in teacher.inputs[0].shape[1:]:
        return teacher
    image = keras.Input(image_shape, name="image")
    return keras.Model(image, teacher(image), name=teacher.name)
