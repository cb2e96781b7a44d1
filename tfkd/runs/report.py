"""What a run leaves behind: figures, table, history, picture, record; and what it says."""

import contextlib
import csv
import datetime
import io
import os
import platform
import statistics
from importlib.metadata import version

import tensorflow as tf

import tfkd
from tfkd import evaluation, tasks, terminal
from tfkd.files import copy, write_json, write_text, written
from tfkd.recipes.base import Finished
from tfkd.runs import page
from tfkd.runs.advice import advice
from tfkd.runs.directory import KEPT, RECORD
from tfkd.runs.measuring import best_seed, gains, measure, part_of, summary
from tfkd.runs.models import load_model
from tfkd.runs.page.collecting import Collector
from tfkd.runs.record import Data, Record, RowRecord, Teacher
from tfkd.runs.rows import deployed, file_name
from tfkd.runs.wording import FEW, caption, measures, said, shown, without_paths

LIBRARIES = ("keras", "tensorflow", "numpy")


def write(directory, trainings):
    """Measures all models on the test split, once; writes run.json last; prints the table.

    Args:
        directory: `RunDirectory`.
        trainings: `tfkd.runs.engine.Trainings`, all done.

    Returns:
        `Record`.
    """
    prepared, table, settings = trainings.prepared, trainings.table, trainings.settings
    outcomes = {part: own.training for part, own in trainings.outcomes.items()}
    rows = [_row_record(row, trainings) for row in table.rows]
    task = trainings.task
    main = table.main or _best_row(rows, settings.all_seeds, outcomes, task)
    (main_row,) = (row for row in rows if row.name == main)
    kept = {seed: outcomes[part_of(seed, main_row)] for seed in settings.all_seeds}
    kept = best_seed(kept, task)
    infos = [own.info for own in prepared.data]
    teachers = [
        Teacher(
            name=own.name,
            file=f"{own.part}.keras",
            fingerprint=own.fingerprint,
            members=[prepared.teachers.index(member) for member in own.members],
        )
        for own in prepared.teachers
    ]
    record = {
        "kind": table.kind,
        "task": task.name,
        "tfkd": tfkd.__version__,
        "finished": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "command": table.command,
        "versions": {"python": platform.python_version(), **{n: version(n) for n in LIBRARIES}},
        "machine": _machine(),
        "settings": without_paths(settings.to_dict()),
        "data": [_data_record(info) for info in infos],
        "teachers": teachers,
        "seeds": settings.all_seeds,
        "rows": rows,
        "main": main,
        "kept_seed": kept,
        "knowledge": [own for lesson in prepared.lessons for own in lesson.plans],
        "trainings": outcomes,
        "findings": trainings.findings,
        "seconds": round(sum(own.seconds for own in outcomes.values()), 3),
        "figures": {},
        "summary": {},
        "gains": {},
    }
    record = Record(**record)
    _write_student(directory, record)
    collector = Collector(record)
    figures = measure(directory, record, prepared.data, collector)
    gained = gains(figures, task.judged)
    record = record.model_copy(
        update={"figures": figures, "summary": summary(figures), "gains": gained}
    )
    notes, study = _of_recipe(table.recipe, trainings, record, directory)
    record = record.model_copy(update={"notes": notes, "study": study})
    _write_histories(directory, record, trainings.outcomes)
    write_text(directory / "figures.csv", _figures_csv(record))
    write_text(directory / "table.md", markdown(record))
    if task.classifies:
        with attempted("What the page needs of the data was not kept"):
            _keep(directory, collector, trainings)
    record.write(directory / RECORD)
    write_page(directory)
    return show(record, directory)


def write_page(directory):
    """Writes report.html; a run whose page cannot be written is finished all the same."""
    with attempted("The page was not written"):
        page.write(directory)


@contextlib.contextmanager
def attempted(failed):
    """Says what failed instead of raising: a page is no reason to lose a run."""
    try:
        yield
    except Exception as error:
        terminal.say(f"{failed}: {error} The run itself is whole.")


def _keep(directory, collector, trainings):
    """Writes report.json, where there is a teacher to compare the student with."""
    prepared, main = trainings.prepared, collector.row
    if "teacher" not in collector.parts:
        return
    row = next(own for own in trainings.table.rows if own.name == main.name)
    kept = collector.kept(prepared.data[main.data], prepared.lesson(row), row.settings)
    write_json(directory / KEPT, kept.model_dump(exclude_none=True))


def show(record, directory, first=None):
    """Prints the table and what it says; returns the record."""
    lines = [
        *said(record),
        *filter(None, [advice(record, directory.path)]),
        f"student.keras is {record.main}, seed {record.kept_seed}, chosen on the validation split.",
    ]
    lines.append(f"Run: {directory.path}")
    if first:
        terminal.say(first)
    terminal.say(caption(record))
    many = len(record.figures) > FEW
    terminal.console().print(
        evaluation.table(shown(record), models_down=many, measures=measures(tasks.get(record.task)))
    )
    for line in lines:
        terminal.say(line)
    return record


def markdown(record):
    """A section for a README: what was run, the table, what it says."""
    names = ", ".join(own.name for own in record.data)
    title = record.main if record.kind == "recipe" else record.kind
    sections = [
        f"### {title} on {names}",
        f"```\n{record.command}\n```",
        caption(record) + ".",
        evaluation.markdown(shown(record), True, measures(tasks.get(record.task))).rstrip(),
        *said(record, "- "),
        *filter(None, [advice(record)]),
    ]
    return "\n\n".join(sections) + "\n"


def _row_record(row, trainings):
    lesson = trainings.prepared.lesson(row)
    base = trainings.settings.to_dict()
    own = row.settings.to_dict()
    return RowRecord(
        name=row.name,
        file=file_name(row.name),
        baseline=row.baseline,
        recipe=row.recipe,
        data=lesson.data,
        teacher=None if row.taught_by else lesson.teacher_key,
        taught_by=row.taught_by,
        members=list(row.members),
        settings=without_paths({k: v for k, v in own.items() if base.get(k) != v}),
        knowledge=trainings.knowledge_of(row),
    )


def _best_row(rows, seeds, trainings, task):
    """Of the first data set the distilled row whose first figure on validation is the best."""
    taught = [row for row in rows if row.baseline is not None and row.data == 0]

    def mean(row):
        return statistics.fmean(
            trainings[part_of(seed, row)].figures[task.judged] for seed in seeds
        )

    return (min if task.lower_is_better else max)(taught, key=mean).name


def _write_student(directory, record):
    """student.keras: what the main row's kept seed deploys."""
    row, path = record.row(), directory / "student.keras"
    trained = directory.model_path(part_of(record.kept_seed, row))
    if row.recipe is None:
        copy(trained, path)
        return
    model = next(iter(deployed(row.recipe, load_model(trained)).values()))
    with written(path) as partial:
        model.save(partial)


def _of_recipe(recipe, trainings, record, directory):
    """(notes, study) of a recipe's run."""
    if recipe is None:
        return [], None
    settings, info, notes = trainings.settings, trainings.prepared.data[0].info, []
    if recipe.notes:
        notes += recipe.notes(settings, info.image_shape, info.num_classes)
    if not recipe.study:
        return notes, None

    def network(row=recipe.name):
        return trainings.trainer.model(part_of(settings.seed, record.row(row)))

    rows, data = trainings.table.rows, trainings.prepared.data
    study, said = recipe.study(Finished(rows, record, data, directory, network))
    return [*notes, *said], study


def _write_histories(directory, record, outcomes):
    """history.csv, one line an epoch; curves.png of the teacher and the first rows."""
    parts = {
        own.file.removesuffix(".keras"): (own.file.removesuffix(".keras"), record.seeds[0])
        for own in record.teachers
    }
    parts |= {part_of(seed, row): (row.name, seed) for row in record.rows for seed in record.seeds}
    metrics = dict.fromkeys(name for part in parts for name in outcomes[part].history)
    text = io.StringIO()
    columns = ["row", "seed", "epoch", "kept", *metrics]
    lines = csv.DictWriter(text, columns, lineterminator="\n")
    lines.writeheader()
    curves = {}
    for part, (row, seed) in parts.items():
        own = outcomes[part]
        epochs = len(own.history.get("loss", []))
        if epochs:
            curves.setdefault(row, []).append(own.history)
        for index in range(epochs):
            line = {"row": row, "seed": seed, "epoch": index + 1}
            line["kept"] = int(index + 1 == own.training.epoch)
            lines.writerow(line | {metric: own.history[metric][index] for metric in own.history})
    write_text(directory / "history.csv", text.getvalue())
    drawn = dict(list(curves.items())[:FEW])
    judged = tasks.get(record.task).judged
    evaluation.plot_curves(drawn, directory / "curves.png", f"val_{judged}")


def _figures_csv(record):
    """One line a row and seed."""
    names = dict.fromkeys(key for rows in record.figures.values() for own in rows for key in own)
    text = io.StringIO()
    lines = csv.DictWriter(text, ["row", "seed", *names], lineterminator="\n")
    lines.writeheader()
    for line, own in record.figures.items():
        for seed, values in zip(record.seeds, own, strict=False):
            lines.writerow({"row": line, "seed": seed} | values)
    return text.getvalue()


def _data_record(info):
    return Data(
        name=os.path.basename(info.name),
        image_shape=list(info.image_shape),
        label_names=list(info.label_names),
        sizes=info.sizes,
        fingerprint=info.fingerprint,
        resize=info.resize,
    )


def _machine():
    return {
        "platform": platform.platform(),
        "processors": os.cpu_count(),
        "devices": [device.name for device in tf.config.list_physical_devices()],
    }
