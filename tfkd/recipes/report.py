"""What a recipe's run leaves behind: figures, table, curves; and what it says."""

import csv
import dataclasses
import io
import statistics
from pathlib import Path

from rich.console import Console

from tfkd import data, evaluation
from tfkd.runs.directory import write_json, write_text
from tfkd.runs.preparation import Logits
from tfkd.runs.report import head, summary
from tfkd.runs.training import EVALUATION_BATCH

TEACHER = "teacher"
# What the table shows; run.json and figures.csv hold everything.
SHOWN = (
    *("accuracy", "gain", "validation_accuracy", "agreement"),
    *("parameters", "multiply_adds", "seconds"),
)


def write(directory, trainings, inputs, outcomes):
    """Measures all models on the test split, once; writes run.json last; prints the table.

    Args:
        directory: `RunDirectory`.
        trainings: the finished `Trainings`.
        inputs: fingerprints of data and teacher.
        outcomes: {part: `Outcome`}.

    Returns:
        dict, the content of run.json.
    """
    recipe, settings, info = trainings.recipe, trainings.settings, trainings.splits.info
    figures = measure(trainings, outcomes)
    record = {
        "recipe": recipe.name,
        **head(settings, inputs, info, outcomes),
        "command": command(recipe, settings, ablate=len(trainings.rows) > 3),
        "rows": [row.name for row in trainings.rows],
        "figures": figures,
        "summary": summary(figures),
        "notes": list(recipe.notes(settings, info.image_shape, info.num_classes))
        if recipe.notes
        else [],
    }
    if recipe.study:
        model = trainings.kept(settings.seed, trainings.rows[2])
        record["study"], said = recipe.study(model, trainings.splits, directory)
        record["notes"] += said
    histories = {row.name: _histories(trainings, row, outcomes) for row in trainings.rows}
    write_text(directory / "history.csv", _history_csv(histories, settings.all_seeds))
    curves = {name: histories[name] for name in record["rows"][:3]}
    evaluation.plot_curves(
        {
            name: [{"val_accuracy": own["val_accuracy"]} for own in seeds]
            for name, seeds in curves.items()
        },
        directory / "curves.png",
    )
    write_text(directory / "figures.csv", _figures_csv(figures, settings.all_seeds))
    write_text(directory / "table.md", markdown(record))
    write_json(directory / "run.json", record)
    return show(record, directory)


def measure(trainings, outcomes):
    """Figures of what each row would deploy.

    Returns:
        {row: list of dicts, one a seed}. A row that deploys several models has one line a model,
        "<row>: <model>"; "gain" is the accuracy over that of the student alone of the same seed.
    """
    splits, settings = trainings.splits, trainings.settings
    # One pass over both splits: a second one would compile every model anew.
    images = data.batches(splits.validation.concatenate(splits.test), EVALUATION_BATCH)
    parts = images, splits.info.sizes["validation"]
    teacher = trainings.teacher
    teacher_logits, _ = evaluation.predict(Logits(teacher), images)
    figures = {TEACHER: [_figures(teacher, parts, outcomes[TEACHER], None)]}
    alone = {}
    for row in trainings.rows:
        for seed in settings.all_seeds:
            outcome = outcomes[trainings.part_name(seed, row)]
            for name, model in row.deployed(trainings.kept(seed, row)).items():
                own = _figures(model, parts, outcome, teacher_logits)
                alone.setdefault(seed, own["accuracy"])
                if row is not trainings.rows[0]:
                    own["gain"] = own["accuracy"] - alone[seed]
                line = ": ".join(filter(None, (row.name, name)))
                figures.setdefault(line, []).append(own)
    return figures


def _figures(model, parts, outcome, teacher_logits):
    """Figures on the test split, and the accuracy on the validation split that comes before it."""
    images, cut = parts
    logits, labels = evaluation.predict(Logits(model), images)
    taught = None if teacher_logits is None else teacher_logits[cut:]
    return {
        **evaluation.quality(logits[cut:], labels[cut:], taught),
        "validation_accuracy": evaluation.quality(logits[:cut], labels[:cut])["accuracy"],
        "parameters": model.count_params(),
        "multiply_adds": evaluation.multiply_adds(model),
        **({"seconds": outcome.seconds} if outcome.epoch else {}),
    }


def shown(record):
    """The figures that stand in the table: of an ablation only what it is judged by."""
    rows, seen = {}, set()
    for line, figures in record["figures"].items():
        name = max((row for row in record["rows"] if line.startswith(row)), key=len, default=line)
        if name in record["rows"][3:] and name in seen:
            continue
        seen.add(name)
        rows[line] = [{key: own[key] for key in SHOWN if key in own} for own in figures]
    return rows


def markdown(record):
    """A section for a README: what was run, the table, what it says."""
    lines = [
        f"### {record['recipe']} on {record['data']['name']}",
        f"```\n{record['command']}\n```",
        _caption(record) + ".",
        evaluation.markdown(shown(record), models_down=True).rstrip(),
        *_said(record),
    ]
    return "\n\n".join(lines) + "\n"


def show(record, directory):
    """Prints the table and what it says; returns the record."""
    console = Console()
    table = evaluation.markdown(shown(record), models_down=True)
    for line in (_caption(record), table, *_said(record), f"Run: {directory.path}"):
        console.print(line, highlight=False, soft_wrap=True, markup=False)
    return record


def _caption(record):
    sizes, seeds = record["data"]["sizes"], len(record["seeds"])
    counts = f"{sizes['train']:,} training, {sizes['validation']:,} validation and "
    counts += f"{sizes['test']:,} test images"
    spread = f"{seeds} seeds, mean ± standard deviation" if seeds > 1 else "1 seed"
    return f"{record['data']['name']}: {counts}; {spread}"


def _said(record):
    """Sentences: the gain of every line in points, seed by seed; the notes; the time."""
    lines = []
    for line, figures in shown(record).items():
        if "gain" in figures[0]:
            points = [100 * own["gain"] for own in figures]
            each = ", ".join(f"{value:+.2f}" for value in points)
            mean = f"{statistics.fmean(points):+.2f}"
            if len(points) > 1:
                mean += f" ± {statistics.stdev(points):.2f}"
            lines.append(f"- {line} minus student alone, paired by seed: {mean} points ({each})")
    time = f"Trainings took {record['seconds'] / 60:.1f} minutes on "
    time += f"{record['machine']['processors']} processors."
    return ["\n".join(lines), *record["notes"], time]


def command(recipe, settings, ablate=False):
    """The command line of a run, with what differs from the defaults; files by their names."""
    words = ["tfkd recipes run", recipe.name]
    default = type(settings)()
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        if value == getattr(default, field.name):
            continue
        flag = field.metadata["flag"] or "--" + field.name.replace("_", "-")
        if isinstance(value, bool):
            words.append(flag.split("/")[0 if value else 1])
        elif isinstance(value, dict):
            words += [f"{flag} {name}={given}" for name, given in value.items()]
        elif isinstance(value, tuple):
            words += [f"{flag} {given}" for given in value]
        elif field.name == "cache":
            continue
        elif field.name == "data_dir":
            words.append(f"{flag} DIR")
        else:
            words.append(f"{flag} {Path(value).name if field.name == 'teacher' else value}")
    return " ".join([*words, *(["--ablate"] if ablate else [])])


def _histories(trainings, row, outcomes):
    """One history a seed; the figures of the output "output" stand under their plain names."""
    parts = [trainings.part_name(seed, row) for seed in trainings.settings.all_seeds]
    return [
        {name.replace("output_", "", 1): values for name, values in outcomes[part].history.items()}
        for part in parts
    ]


def _history_csv(histories, seeds):
    """One line an epoch."""
    metrics = dict.fromkeys(key for rows in histories.values() for own in rows for key in own)
    text = io.StringIO()
    lines = csv.DictWriter(text, ["row", "seed", "epoch", *metrics], lineterminator="\n")
    lines.writeheader()
    for row, own in histories.items():
        for seed, history in zip(seeds, own, strict=True):
            for index in range(len(history["loss"])):
                epoch = {"row": row, "seed": seed, "epoch": index + 1}
                lines.writerow(epoch | {metric: history[metric][index] for metric in history})
    return text.getvalue()


def _figures_csv(figures, seeds):
    """One line a row and seed."""
    names = dict.fromkeys(key for rows in figures.values() for own in rows for key in own)
    text = io.StringIO()
    lines = csv.DictWriter(text, ["row", "seed", *names], lineterminator="\n")
    lines.writeheader()
    for row, own in figures.items():
        for seed, values in zip(seeds, own, strict=False):
            lines.writerow({"row": row, "seed": seed} | values)
    return text.getvalue()
