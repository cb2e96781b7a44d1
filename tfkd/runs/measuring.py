"""Figures of a run's models on the test split, their summary, and what each row gains."""

import os
import statistics
from pathlib import Path

from tfkd import data, evaluation, tasks, terminal
from tfkd.runs.finished import student_of
from tfkd.runs.models import load_model
from tfkd.runs.rows import deployed
from tfkd.runs.tensorflow_output import silenced
from tfkd.runs.wording import FEW
from tfkd.tasks.classification import EVALUATION_BATCH
from tfkd.tasks.logits import Logits


def best_seed(trainings, task):
    """The seed whose training is the best on validation, by a task's figures."""
    return max(trainings, key=lambda seed: task.score(trainings[seed].figures))


def measure(directory, record, splits, keep=lambda *answers: None):
    """Figures of what each row would deploy, on the test split.

    Args:
        directory: `RunDirectory`.
        record: `Record`, as far as rows, seeds and trainings.
        splits: list of `tfkd.data.Splits`, one for each of `record.data`.
        keep: is given every model's answers, see `tfkd.runs.page.collecting.Collector`.

    Returns:
        {line: list of dicts, one a seed}. A row that deploys several models has one line a model,
        "<row>: <model>"; "gain" is the first figure over that of its baseline of the same seed.
        Latency is taken of the kept seed's models, in turns: of classifiers in a run of few rows,
        and of the models of a task that times them.
    """
    count = len(record.teachers) + len(record.rows) * len(record.seeds)
    task = tasks.get(record.task)
    with terminal.step("Measuring the models on the test split", total=count) as step:
        if not task.classifies:
            figures, timed = _judged(task, directory, record, splits, step.advance)
        else:
            figures, timed = _measured(directory, record, splits, keep, step.advance)
    if timed and (len(timed) <= FEW or task.timed):
        example = task.typical(next(iter(splits[0].test.batch(EVALUATION_BATCH)))[0])
        with terminal.step(f"Timing the models on one {task.thing}"):
            times = evaluation.latencies(timed, example=example)
        for line, own in times.items():
            position = record.seeds.index(record.kept_seed) if len(figures[line]) > 1 else 0
            figures[line][position].update(own)
    return figures


def _measured(directory, record, splits, keep, advance):
    """(figures without latency, {line: model} of those that may be timed)."""
    figures, first, timed, said = {}, {}, {}, {}
    teachers = record.teacher_lines()
    for number, own in enumerate(splits):
        # One pass over both splits: a second one would compile every model anew.
        images = data.batches(own.validation.concatenate(own.test), EVALUATION_BATCH)
        sample = next(iter(images))[0][:64]
        cut = own.info.sizes["validation"]
        answers = {}
        teaching = {row.teacher for row in record.rows if row.data == number} - {None}
        teaching |= {part for own in teaching for part in record.teachers[own].members}
        for position, teacher in enumerate(record.teachers):
            if position in teaching:
                name = teachers[position]
                model = load_model(directory / teacher.file)
                answers[position], labels = evaluation.predict(Logits(model, sample), images)
                part = teacher.file.removesuffix(".keras")
                scored = (answers[position], labels, cut, None)
                path = directory / teacher.file
                measured = _figures(model, scored, record.trainings[part], path)
                keep(number, part, answers[position][cut:], labels[cut:], measured["temperature"])
                figures[name] = [measured]
                timed[name] = model
                advance()
        for row in (row for row in record.rows if row.data == number):
            for seed in record.seeds:
                part = part_of(seed, row)
                path, training = directory.model_path(part), record.trainings[part]
                taught = answers.get(row.teacher, said.get((row.taught_by, seed)))
                for name, model in deployed(row.recipe, load_model(path)).items():
                    logits, labels = evaluation.predict(Logits(model, sample), images)
                    said.setdefault((row.name, seed), logits)
                    scored = (logits, labels, cut, taught)
                    line = ": ".join(filter(None, (row.name, name)))
                    measured = _figures(model, scored, training, path)
                    keep(number, part, logits[cut:], labels[cut:], measured["temperature"])
                    first.setdefault((row.name, seed), measured["accuracy"])
                    if row.baseline is not None:
                        measured["gain"] = measured["accuracy"] - first[row.baseline, seed]
                    figures.setdefault(line, []).append(measured)
                    if seed == record.kept_seed:
                        timed[line] = model
                advance()
    return figures, timed


def _judged(task, directory, record, splits, advance):
    """The same of models that are no classifiers, as their task judges them."""
    figures, first, teachers, timed = {}, {}, record.teacher_lines(), {}

    def judged(own, model, path, training):
        known = {f"validation_{task.judged}": training.figures[task.judged]}
        known |= {"parameters": model.count_params(), "file_bytes": os.path.getsize(path)}
        known |= {"seconds": training.seconds} if training.epoch else {}
        advance()
        return task.judge(model, own.test, own.info)() | known

    for number, own in enumerate(splits):
        rows = [row for row in record.rows if row.data == number]
        for position in sorted({row.teacher for row in rows} - {None}):
            path = directory / record.teachers[position].file
            training = record.trainings[record.teachers[position].file.removesuffix(".keras")]
            model = load_model(path)
            figures[teachers[position]] = [judged(own, model, path, training)]
            timed |= {teachers[position]: model} if task.timed else {}
        for row in rows:
            for seed in record.seeds:
                part = part_of(seed, row)
                path, training = directory.model_path(part), record.trainings[part]
                for name, model in deployed(row.recipe, load_model(path)).items():
                    line = ": ".join(filter(None, (row.name, name)))
                    measured = judged(own, model, path, training)
                    value = measured[task.judged]
                    first.setdefault((row.name, seed), value)
                    if row.baseline is not None:
                        measured["gain"] = task.gain(value, first[row.baseline, seed])
                    figures.setdefault(line, []).append(measured)
                    timed |= {line: model} if task.timed and seed == record.kept_seed else {}
    return figures, timed


def evaluate_exported(path, directory, record, splits):
    """See `tfkd.runs.evaluate_run`; `path` is an export of the run in `directory`."""
    path, task = Path(path).expanduser(), tasks.get(record.task)
    test = data.batches(splits.test, EVALUATION_BATCH)
    images = next(iter(test))[0][:64]
    student, student_file = student_of(directory, record)
    files = {"teacher": teacher_path(directory, record, record.row()), "student": student_file}
    models = {"teacher": load_model(files["teacher"]), "student": student}
    with terminal.step("Measuring teacher and student"):
        predicted = {
            name: evaluation.predict(Logits(model, images), test) for name, model in models.items()
        }
    try:
        with (
            terminal.step("Measuring the export"),
            silenced(),
            task.opened(path, lambda: student) as exported,
        ):
            labels, size = exported.labels, exported.bytes
            predicted[path.name] = exported.predict(test)
    except (ValueError, LookupError, RuntimeError) as error:
        raise ValueError(f'"{path}" cannot be run: {error}') from error
    _check_labels(path, labels, splits.info)
    rows = {}
    for name, (logits, classes) in predicted.items():
        taught = None if name == "teacher" else predicted["teacher"][0]
        rows[name] = evaluation.quality(logits, classes, taught)
        rows[name]["file_bytes"] = os.path.getsize(files[name]) if name in models else size
    title = f"{splits.info.name}: {splits.info.sizes['test']} test {task.things}"
    terminal.console().print(evaluation.table(rows, title=title))
    return rows


def _check_labels(path, labels, info):
    if labels is not None and tuple(labels) != tuple(info.label_names):
        raise ValueError(
            f'"{path}" tells {list(labels)[:5]}… apart ({len(labels)} classes), but the data of '
            f'its run, "{info.name}", has the classes {list(info.label_names)[:5]}…'
        )


def _figures(model, scored, training, path):
    """Figures on the test split; those on the validation split that comes before it: the accuracy,
    and the temperature that calibrates."""
    logits, labels, cut, teacher = scored
    taught = None if teacher is None else teacher[cut:]
    temperature = evaluation.fitted_temperature(logits[:cut], labels[:cut])
    calibrated = evaluation.quality(logits[cut:] / temperature, labels[cut:])
    return {
        **evaluation.quality(logits[cut:], labels[cut:], taught),
        "temperature": temperature,
        "calibrated_cross_entropy": calibrated["cross_entropy"],
        "calibrated_calibration_error": calibrated["calibration_error"],
        "validation_accuracy": evaluation.quality(logits[:cut], labels[:cut])["accuracy"],
        "parameters": model.count_params(),
        **_multiply_adds(model),
        "file_bytes": os.path.getsize(path),
        **({"seconds": training.seconds} if training.epoch else {}),
    }


def _multiply_adds(model):
    """The figure; none of a model of text whose tokens are of no fixed number."""
    try:
        return {"multiply_adds": evaluation.multiply_adds(model)}
    except ValueError:
        return {}


def summary(figures):
    """{line: {figure: {"mean", "std"}}}, sample standard deviation, without it for one value."""
    result = {}
    for line, seeds in figures.items():
        names = list(dict.fromkeys(name for own in seeds for name in own))
        values = {name: [own[name] for own in seeds if name in own] for name in names}
        result[line] = {name: mean_and_std(own) for name, own in values.items()}
    return result


def gains(figures, judged="accuracy"):
    """{line: {the figure that judges: gain over the baseline, seed by seed, "mean", "std"}}."""
    paired = {
        line: [own["gain"] for own in rows] for line, rows in figures.items() if "gain" in rows[0]
    }
    return {line: {judged: own, **mean_and_std(own)} for line, own in paired.items()}


def mean_and_std(values):
    spread = {"std": statistics.stdev(values)} if len(values) > 1 else {}
    return {"mean": statistics.fmean(values), **spread}


def part_of(seed, row):
    """The name of the training of a row's student, given its `RowRecord`."""
    return f"{seed}/{row.file}"


def teacher_path(directory, record, row):
    """Where the model that taught a row's kept student lies, given its `RowRecord`."""
    if row.taught_by is None:
        return directory / record.teachers[row.teacher].file
    return directory.model_path(part_of(record.kept_seed, record.row(row.taught_by)))
