"""What a search leaves behind: table, best settings, Pareto front, record."""

import csv
import datetime
import io
import json

from rich import box
from rich.console import Console
from rich.table import Table

import tfkd
from tfkd import evaluation
from tfkd.files import write_json, write_text
from tfkd.runs import models, report
from tfkd.runs.rows import DEFAULTS, SEARCHED
from tfkd.runs.search.directory import (
    BEST_SETTINGS,
    FRONT,
    PICTURE,
    RECORD,
    RESULTS,
    TEACHER,
)
from tfkd.runs.search.picture import plot_search
from tfkd.runs.search.record import portable
from tfkd.settings.search import OBJECTIVES, SearchSettings, student_option
from tfkd.tuning import mean_and_std, pareto

COMPLETED = "COMPLETED"
# Of the final students. Latencies of different runs were not measured in turns: not compared here.
COMPARED = ("accuracy", "cross_entropy", "calibration_error", "agreement", "parameters")
SIZES = {"parameters": "parameters", "latency": "latency_ms"}


def score(row, settings):
    """A trial's objective; None where it has none."""
    return row["mean"].get(settings.objective) if row["status"] == COMPLETED else None


def best(rows, settings):
    """The trial with the best objective; of equal ones the lower cross-entropy, then the earlier.

    Raises:
        ValueError: no trial has one.
    """
    scored = [row for row in rows if score(row, settings) is not None]
    if not scored:
        reasons = "; ".join(dict.fromkeys(str(row["message"]) for row in rows))
        raise ValueError(
            f"None of {len(rows)} trials has a {settings.objective}, so there is no best one: "
            f"{reasons or 'none was finished'}. Search smaller weights or learning rates."
        )
    sign = 1 if OBJECTIVES[settings.objective] == "max" else -1
    return max(
        scored,  # max takes the first of equal ones
        key=lambda row: (sign * score(row, settings), -row["mean"]["val_cross_entropy"]),
    )


def table(rows, settings):
    """The trials as a `rich` table, the best one in bold."""
    names = _names(rows)
    sizes = ["parameters"] if settings.student_choices else []
    result = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for heading in ("trial", *names, settings.objective, *sizes, "seconds", ""):
        justify = "left" if heading in ("trial", "") else "right"
        unbroken = heading == settings.objective
        result.add_column(heading.replace("_", " "), justify=justify, no_wrap=unbroken)
    scored = [row for row in rows if score(row, settings) is not None]
    top = best(rows, settings)["trial"] if scored else None
    for row in rows:
        cells = [row["trial"], *(_short(row["values"].get(name)) for name in names)]
        cells += [_figure(row, settings), *(_short(row[size]) for size in sizes)]
        cells.append(f"{row['seconds']:.1f}" if row["seconds"] else "")
        cells.append(row["status"].lower() if row["status"] != COMPLETED else "")
        result.add_row(*cells, style="bold" if row["trial"] == top else None)
    return result


def line(row, settings):
    """One trial in one line."""
    values = ", ".join(f"{name} {_short(value)}" for name, value in row["values"].items())
    ended = f"{settings.objective} {_figure(row, settings)}"
    if row["status"] != COMPLETED:
        ended = f"{row['status'].lower()}: {row['message']}"
    return f"trial {row['trial']} ({values}): {ended} ({row['seconds']:.1f} s)"


def results_csv(rows, settings, front=()):
    """One line a trial.

    Args:
        rows: of the trials.
        settings: `SearchSettings`.
        front: the rows of the Pareto front.
    """
    names = _names(rows)
    figures = list(dict.fromkeys([settings.objective, "val_accuracy", "val_cross_entropy"]))
    columns = ["trial", "status", *names]
    columns += [column for name in figures for column in (name, f"{name}_std")]
    columns += ["executions", "parameters", "latency_ms", "pareto", "seconds", "message"]
    text = io.StringIO()
    lines = csv.DictWriter(text, columns, lineterminator="\n", restval="")
    lines.writeheader()
    on_front = {row["trial"] for row in front}
    for row in rows:
        own = {name: row["values"].get(name, "") for name in names}
        for name in figures:
            own |= {name: row["mean"].get(name, ""), f"{name}_std": row["std"].get(name, "")}
        own |= {name: row.get(name, "") for name in columns if name in row and name not in own}
        own |= {"executions": len(row["executions"]), "seconds": round(row["seconds"], 3)}
        own |= {"pareto": int(row["trial"] in on_front)} if settings.pareto else {}
        lines.writerow({k: "" if v is None else v for k, v in own.items() if k in columns})
    return text.getvalue()


def front_of(rows, settings, info):
    """The trials that no other beats in objective and size, the smallest first.

    Args:
        rows: of the trials; for a front by latency each gets its `latency_ms`, measured in turns.
        settings: `SearchSettings`.
        info: `tfkd.data.DataInfo`.
    """
    if settings.pareto is None:
        return []
    if settings.pareto == "latency":
        _time(rows, settings, info)
    sign = 1 if OBJECTIVES[settings.objective] == "max" else -1

    def good(row):
        value = score(row, settings)
        return None if value is None else sign * value

    return pareto(rows, maximize=good, minimize=SIZES[settings.pareto])


def write(directory, setup, rows, winner, final, inputs):
    """Writes what a finished search holds, search.json last, and prints it.

    Args:
        directory: `SearchDirectory`.
        setup: `tfkd.runs.search.trials.TrialSetup`.
        rows: of the trials.
        winner: the best of them.
        final: `tfkd.runs.record.Record` of the final students.
        inputs: `Inputs` of the search.

    Returns:
        dict, the content of search.json.
    """
    settings, splits = setup.settings, setup.splits
    front = front_of(rows, settings, splits.info)
    write_text(directory / RESULTS, results_csv(rows, settings, front))
    teacher = (directory / TEACHER).resolve()
    for row in front:
        own = settings.final(row["values"], teacher)
        write_text(directory / FRONT / f"trial-{row['trial']}.toml", own.to_toml())
    plot_search(rows, settings, setup.space, front, directory / PICTURE)
    write_text(directory / BEST_SETTINGS, settings.final(winner["values"], teacher).to_toml())
    figures = {
        name: [{key: seed[key] for key in COMPARED if key in seed} for seed in own]
        for name, own in final.figures.items()
    }
    record = {
        "tfkd": tfkd.__version__,
        "finished": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "versions": final.versions,
        "machine": final.machine,
        "settings": portable(settings),
        "inputs": inputs.model_dump(),
        "data": {**final.data[0].model_dump(), "name": inputs.data.name},
        "trials_asked_for": settings.trials,
        "views": setup.train.manifest["views"],
        "trials": [_without_history(row) for row in rows],
        "best": {"trial": winner["trial"], "values": winner["values"]},
        "pareto": [row["trial"] for row in front],
        "seconds_of_trials": round(sum(row["seconds"] for row in rows), 3),
        "final_seeds": final.seeds,
        "figures": figures,
        "searched_minus_defaults": _difference(figures),
        "searched_minus_alone": final.gains[SEARCHED],
    }
    write_json(directory / RECORD, record)
    show(directory, record, settings)
    return record


def show_finished(directory, record):
    """Prints a search that was finished before; returns its record."""
    settings = SearchSettings(**record["settings"])
    Console().print(f"The search in {directory.path} was finished before.", highlight=False)
    show(directory, record, settings)
    return record


def show(directory, record, settings):
    """Prints trials, Pareto front, final students and whether searching paid."""
    console = Console()

    def say(text):
        console.print(text, highlight=False, soft_wrap=True, markup=False)

    console.rule("search")
    rows = record["trials"]
    console.print(table(rows, settings))
    if record["pareto"]:
        front = [row for name in record["pareto"] for row in rows if row["trial"] == name]
        say(f"\nBest {settings.objective} for its {settings.pareto}, smallest first:")
        console.print(_front_table(front, settings))
    values = ", ".join(f"{name} {_short(v)}" for name, v in record["best"]["values"].items())
    say(f"\nBest: trial {record['best']['trial']} ({values}), chosen on the validation split.")
    info, seeds = record["data"], record["final_seeds"]
    title = f"{info['name']}: {info['sizes']['test']} test images, seeds {seeds[0]}"
    title += f" to {seeds[-1]}, which no trial has seen" if len(seeds) > 1 else ""
    console.print(evaluation.table(record["figures"], title=title))
    say(difference_line(record["searched_minus_defaults"]))
    say(f"tfkd distill --config {directory / BEST_SETTINGS} reruns the best. {directory.path}")


def difference_line(paired):
    """The sentence about searched weights against the defaults, whichever way it came out."""
    if paired is None:
        return "The defaults themselves were the best trial: searching found nothing better."
    return report.gain_line("Searched", paired, DEFAULTS)


def _difference(figures):
    if DEFAULTS not in figures:
        return None
    pairs = zip(figures[SEARCHED], figures[DEFAULTS], strict=True)
    paired = [searched["accuracy"] - default["accuracy"] for searched, default in pairs]
    mean, std = mean_and_std(paired)
    return {"accuracy": paired, "mean": mean, **({} if std is None else {"std": std})}


def _time(rows, settings, info):
    def key(own):
        return json.dumps(own.student_options, sort_keys=True)

    owns = [settings.of_trial(row["values"]) for row in rows]
    students = {key(own): own for own in owns}
    students = {name: models.build("student", own, info) for name, own in students.items()}
    times = evaluation.latencies(students, info.image_shape)
    for row, own in zip(rows, owns, strict=True):
        row["latency_ms"] = times[key(own)]["latency_ms"]


def _front_table(front, settings):
    size = SIZES[settings.pareto]
    result = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    options = [student_option(name) for name in settings.student_choices]
    for heading in ("trial", *options, size, settings.objective):
        result.add_column(heading.replace("_", " "), justify="right")
    for row in front:
        own = [_short(row["values"].get(name)) for name in options]
        result.add_row(row["trial"], *own, _short(row[size]), _figure(row, settings))
    return result


def _names(rows):
    return list(dict.fromkeys(name for row in rows for name in row["values"]))


def _figure(row, settings):
    value, std = score(row, settings), row["std"].get(settings.objective)
    if value is None:
        return ""
    return f"{value:.4f}" if std is None else f"{value:.4f} ± {std:.4f}"


def _short(value):
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.3g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _without_history(row):
    executions = [
        {name: value for name, value in execution.items() if name != "history"}
        for execution in row["executions"]
    ]
    return {**row, "executions": executions}
