"""What a run leaves behind: models, history, picture, record; and its table."""

import csv
import datetime
import io
import os
import platform
import statistics
from importlib.metadata import version

import tensorflow as tf
from rich.console import Console

import tfkd
from tfkd import data, evaluation
from tfkd.export.errors import ExportCheckError
from tfkd.runs.directory import VARIANTS, copy, write_json, write_text
from tfkd.runs.export_settings import ExportSettings
from tfkd.runs.preparation import Logits, load_model, load_run_data
from tfkd.runs.training import EVALUATION_BATCH

ROWS = {"alone": "student alone", "distilled": "student distilled"}
LIBRARIES = ("keras", "tensorflow", "numpy")


def write(directory, work, settings, splits, inputs, outcomes):
    """Writes everything that a finished run holds, run.json last, and prints the table.

    Args:
        directory: `RunDirectory`.
        work: the finished trainings; `work.model_path(part)` is a trained model's file.
        settings: `DistillSettings`.
        splits: `tfkd.data.Splits`; here the test split is read, once.
        inputs: fingerprints of data and teacher.
        outcomes: {part: `Outcome`}.

    Returns:
        dict, the content of run.json.

    Raises:
        ExportCheckError: the export failed; everything else of the run is written.
    """
    seeds = settings.all_seeds
    kept = best_seed({seed: outcomes[f"seed{seed}-distilled"] for seed in seeds})
    _copy_models(directory, work, seeds, kept)
    histories = _histories(outcomes, seeds)
    write_text(directory / "history.csv", _history_csv(histories, outcomes, settings))
    curves = {name: [history for _, history in rows] for name, rows in histories.items()}
    evaluation.plot_curves(curves, directory / "curves.png")
    rows = measure(directory, seeds, kept, splits)
    record = {
        **head(settings, inputs, splits.info, outcomes),
        "kept_seed": kept,
        "figures": rows,
        "summary": summary(rows),
        "distilled_minus_alone": difference(rows),
    }
    exported, failure = None, None
    if settings.exports:
        from tfkd.runs import exporting

        try:
            options = ExportSettings.of(settings.exports)
            exported = exporting.export(directory, record, splits, options)
        except (ExportCheckError, ValueError) as error:
            failure = error  # hours of training are not held up by it
            record["export_failed"] = str(error)
    write_json(directory / "run.json", record)
    show(rows, directory, record)
    if exported:
        exporting.show(exported, steps=True)
    if failure:
        raise ExportCheckError(
            f"The run in {directory.path} is finished, but its export failed: {failure} "
            f"tfkd export {directory.path} tries again."
        ) from failure
    return record


def head(settings, inputs, info, outcomes):
    """What the record of any run begins with: versions, machine, settings, data, trainings."""
    return {
        "tfkd": tfkd.__version__,
        "finished": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "versions": _versions(),
        "machine": _machine(),
        "settings": settings.to_dict(),
        "inputs": inputs,
        "data": _data_record(info),
        "seeds": settings.all_seeds,
        "trainings": {part: _without_history(outcome) for part, outcome in outcomes.items()},
        "seconds": round(sum(outcome.seconds for outcome in outcomes.values()), 3),
    }


def evaluate(directory, record, settings):
    """See `tfkd.runs.evaluate_run`."""
    splits = load_run_data(directory, record, settings)
    rows = measure(directory, record["seeds"], record["kept_seed"], splits)
    show(rows, directory, record)
    return rows


def show_finished(directory):
    """Prints the table of a run that was finished before; returns its record."""
    record, _ = directory.finished_run()
    Console().print(f"The run in {directory.path} was finished before.", highlight=False)
    show(record["figures"], directory, record)
    return record


def best_seed(outcomes):
    """The seed with the best validation accuracy; of equal ones the lower cross-entropy."""
    return max(outcomes, key=lambda seed: (outcomes[seed].accuracy, -outcomes[seed].cross_entropy))


def measure(directory, seeds, kept, splits):
    """Figures of a run's saved models on the test split.

    Returns:
        {row: list of dicts, one a seed}. Latency is taken of the kept seed's models, in turns.
    """
    test = data.batches(splits.test, EVALUATION_BATCH)
    teacher = load_model(directory / "teacher.keras")
    teacher_logits, labels = evaluation.predict(Logits(teacher), test)
    rows = {"teacher": [evaluation.quality(teacher_logits, labels)]}
    files = {"teacher": [directory / "teacher.keras"]}
    timed = {"teacher": teacher}
    for variant in VARIANTS:
        row = ROWS[variant]
        files[row] = [directory.student(seed, variant) for seed in seeds]
        students = [load_model(path) for path in files[row]]
        logits = [evaluation.predict(Logits(student), test)[0] for student in students]
        rows[row] = [evaluation.quality(own, labels, teacher_logits) for own in logits]
        timed[row] = students[seeds.index(kept)]
    times = evaluation.latencies(timed, splits.info.image_shape)
    for row, figures in rows.items():
        for own, path in zip(figures, files[row], strict=True):
            own["parameters"] = timed[row].count_params()
            own["file_bytes"] = os.path.getsize(path)
        figures[0 if row == "teacher" else seeds.index(kept)].update(times[row])
    return rows


def summary(rows):
    """{row: {figure: {"mean", "std"}}}, sample standard deviation, without it for one value."""
    result = {}
    for row, figures in rows.items():
        names = list(dict.fromkeys(name for own in figures for name in own))
        values = {name: [own[name] for own in figures if name in own] for name in names}
        result[row] = {name: _mean_and_std(own) for name, own in values.items()}
    return result


def difference(rows):
    """Test accuracy of distilled minus alone, seed by seed, with mean and standard deviation."""
    alone, distilled = ([own["accuracy"] for own in rows[ROWS[variant]]] for variant in VARIANTS)
    paired = [taught - own for taught, own in zip(distilled, alone, strict=True)]
    return {"accuracy": paired, **_mean_and_std(paired)}


def show(rows, directory, record):
    """Prints the table, the paired difference, and where the run lies."""
    console = Console()
    info, seeds = record["data"], record["seeds"]
    times = f"{len(seeds)} seeds, mean ± standard deviation" if len(seeds) > 1 else "1 seed"
    title = f"{info['name']}: {info['sizes']['test']} test images, {times}"
    console.print(evaluation.table(rows, title=title))
    console.print(difference_line(difference(rows)), highlight=False, soft_wrap=True)
    line = f"student.keras is seed {record['kept_seed']}, chosen on the validation split."
    console.print(f"{line} Run: {directory.path}", highlight=False, soft_wrap=True, markup=False)


def difference_line(paired):
    """The sentence about distilled against alone, whichever way it came out."""
    points = [f"{100 * value:+.2f}" for value in paired["accuracy"]]
    if len(points) == 1:
        spread = "one seed: no spread to judge it by"
        return f"Distilled minus alone: {points[0]} points of accuracy ({spread})."
    mean = f"{100 * paired['mean']:+.2f} ± {100 * paired['std']:.2f} points of accuracy"
    return f"Distilled minus alone, paired by seed: {mean} ({', '.join(points)})."


def _mean_and_std(values):
    spread = {"std": statistics.stdev(values)} if len(values) > 1 else {}
    return {"mean": statistics.fmean(values), **spread}


def _copy_models(directory, work, seeds, kept):
    copy(work.model_path("teacher"), directory / "teacher.keras")
    for seed in seeds:
        for variant in VARIANTS:
            copy(work.model_path(f"seed{seed}-{variant}"), directory.student(seed, variant))
    copy(directory.student(kept, "alone"), directory / "student_alone.keras")
    copy(directory.student(kept, "distilled"), directory / "student.keras")


def _histories(outcomes, seeds):
    """{row: list of (part, history)}; an empty list for a teacher that was not trained here."""
    teacher = [("teacher", outcomes["teacher"].history)] if outcomes["teacher"].history else []
    rows = {"teacher": teacher}
    for variant, row in ROWS.items():
        parts = [f"seed{seed}-{variant}" for seed in seeds]
        rows[row] = [(part, outcomes[part].history) for part in parts]
    return rows


def _history_csv(histories, outcomes, settings):
    """One line an epoch: model, seed, epoch, whether it was kept, and every metric there is."""
    metrics = dict.fromkeys(key for rows in histories.values() for _, own in rows for key in own)
    text = io.StringIO()
    lines = csv.DictWriter(text, ["model", "seed", "epoch", "kept", *metrics], lineterminator="\n")
    lines.writeheader()
    for row, parts in histories.items():
        for (part, history), seed in zip(parts, settings.all_seeds, strict=False):
            for index in range(len(history["loss"])):
                epoch = {"model": row, "seed": seed, "epoch": index + 1}
                epoch["kept"] = int(index + 1 == outcomes[part].epoch)
                lines.writerow(epoch | {metric: history[metric][index] for metric in history})
    return text.getvalue()


def _without_history(outcome):
    return {name: value for name, value in outcome._asdict().items() if name != "history"}


def _data_record(info):
    return {
        "name": info.name,
        "image_shape": list(info.image_shape),
        "label_names": list(info.label_names),
        "sizes": info.sizes,
        "fingerprint": info.fingerprint,
    }


def _versions():
    return {"python": platform.python_version(), **{name: version(name) for name in LIBRARIES}}


def _machine():
    return {
        "platform": platform.platform(),
        "processors": os.cpu_count(),
        "devices": [device.name for device in tf.config.list_physical_devices()],
    }
