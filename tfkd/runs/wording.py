"""What a finished run says in its table and below it: pure functions of the record."""

import os
import statistics

from tfkd import tasks
from tfkd.evaluation.tables import MEASURES

CLASSIFICATION = tasks.get("classification")
FEW = 4  # rows of a table that shows every figure
# What a table of many rows shows; run.json and figures.csv hold everything.
SHOWN = (
    *("accuracy", "gain", "validation_accuracy", "cross_entropy", "agreement"),
    *("parameters", "multiply_adds", "seconds"),
)


def measures(task):
    """How the figures of a task's models are shown, in this order."""
    known = {
        name: measure._replace(heading=measure.heading.replace("image", task.thing))
        for name, measure in MEASURES.items()
    }
    if task.classifies:
        return known
    judge = task.figures[task.judged]
    name, _, unit = judge.heading.partition(" (")
    unit = f" ({unit}" if unit else ""
    validation = judge._replace(heading=f"validation {name}{unit}")
    gain = judge._replace(heading=f"gain ({task.unit})", decimals=2)
    own = {**task.figures, "gain": gain, f"validation_{task.judged}": validation}
    costs = ("parameters", "file_bytes", "seconds", "latency_ms")
    return own | {name: known[name] for name in costs}


def minus(line, baseline, task):
    """The difference, in words, whose positive values are good."""
    first, second = (baseline, line) if task.lower_is_better else (line, baseline)
    return f"{first} minus {second}"


def gain_line(line, gain, baseline, task=CLASSIFICATION):
    """The sentence about a row against its baseline, whichever way it came out."""
    factor, what = task.figures[task.judged].factor, minus(line, baseline, task)
    points = [f"{factor * value:+.2f}" for value in gain[task.judged]]
    if len(points) == 1:
        spread = "one seed: no spread to judge it by"
        return f"{what}: {points[0]} {task.unit} ({spread})."
    mean = f"{factor * gain['mean']:+.2f} ± {factor * gain['std']:.2f} {task.unit}"
    return f"{what}, paired by seed: {mean} ({', '.join(points)})."


def shown(record):
    """The figures that stand in the table: of many rows only what they are judged by."""
    few = len(record.figures) <= FEW
    lines = record.figures if few else _first_lines(record)
    task = tasks.get(record.task)
    names = measures(task) if few or not task.classifies else SHOWN
    return {
        line: [{key: own[key] for key in names if key in own} for own in record.figures[line]]
        for line in lines
    }


def line_of(record, row):
    """The first line of the table that is of a row: the row's own, or its first model's."""
    lines = (line for line in record.figures if line == row or line.startswith(f"{row}: "))
    return next(lines, row)


def _first_lines(record):
    """All lines of the main row, and the first of every other."""
    lines, seen = [], set()
    for line in record.figures:
        row = max((r.name for r in record.rows if line.startswith(r.name)), key=len, default=line)
        if row == record.main or row not in seen:
            lines.append(line)
        seen.add(row)
    return lines


def caption(record):
    spread = "mean ± standard deviation" if len(record.seeds) > 1 else ""
    seeds = f"{len(record.seeds)} seeds, {spread}" if spread else "1 seed"
    counts, things = [], tasks.get(record.task).things
    for own in record.data:
        sizes = own.sizes
        count = f"{own.name}: {sizes['train']:,} training, {sizes['validation']:,} validation and "
        counts.append(count + f"{sizes['test']:,} test {things}")
    return f"{'; '.join(counts)}; {seeds}"


def said(record, bullet=""):
    """Sentences: the gain of every line in points, seed by seed; the notes; the time."""
    baselines = {row.name: row.baseline for row in record.rows}
    lines = []
    for line in shown(record):
        if line in record.gains:
            row = max((name for name in baselines if line.startswith(name)), key=len)
            task = tasks.get(record.task)
            lines.append(bullet + gain_line(line, record.gains[line], baselines[row], task))
    calibrated = temperatures(record)
    time = f"Trainings took {record.seconds / 60:.1f} minutes on "
    time += f"{record.machine['processors']} processors."
    return ["\n".join(lines), *calibrated, *record.notes, time]


def temperatures(record):
    """What "calibrated" means in a table of few rows."""
    means = [
        f"{line} {statistics.fmean(own['temperature'] for own in seeds):.2f}"
        for line, seeds in record.figures.items()
        if len(record.figures) <= FEW and all("temperature" in own for own in seeds)
    ]
    text = "Calibrated: with logits divided by one temperature, fitted on the validation split "
    return [f"{text}({', '.join(means)})."] if means else []


def without_paths(settings):
    """Settings as a record has them: data and models by name, folders of this machine left out."""

    def named(value):
        if isinstance(value, list):
            return [named(own) for own in value]
        return os.path.basename(value) if isinstance(value, str) and os.path.isabs(value) else value

    return {
        name: named(value) for name, value in settings.items() if name not in ("data_dir", "cache")
    }
