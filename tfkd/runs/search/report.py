"""What a search says of its trials: which to take, table, front, and `search.json`."""

import csv
import io
import json
import statistics

from rich import box
from rich.table import Table

import tfkd
from tfkd import evaluation, terminal
from tfkd.files import write_json, write_text
from tfkd.runs import models
from tfkd.runs.directory import FRONT
from tfkd.runs.search.picture import SIZES, plot_search
from tfkd.runs.search.record import FILE, Found, TrialRecord
from tfkd.settings.search import SIGNS
from tfkd.tuning import pareto
from tfkd.tuning.picture import names_of
from tfkd.tuning.race import COMPLETED, standard_error

# A difference of means counts beyond so many of its standard errors: by chance alone, of three
# seeds, it is so in one search of twenty.
ERRORS = 3
WIDEST = 1000  # columns of a table


def decide(rows, objective, resolution=0.0, cost=lambda row: 0):
    """Which trial to take: the best, where more than chance tells it from smaller ones.

    The first seed chose who went on to the end, so the further ones compare them, paired by seed. A
    trial is better than another one if the mean of its differences is beyond `ERRORS` standard
    errors, and beyond what the validation split can resolve. Of the trials than which the best is
    not better, the smallest is taken, then the cheapest to run, then the defaults.

    Args:
        rows: of all trials, the defaults first.
        objective: name of the metric.
        resolution: the smallest difference that the split can show.
        cost: function of a row, such as the multiply-adds of its student.

    Returns:
        dict of `best`, `kept`, `differences` and `said`, see `Found`.

    Raises:
        ValueError: no trial has the objective.
    """
    first, scored = rows[0], [row for row in rows if row["score"] is not None]
    if not scored:
        reasons = "; ".join(dict.fromkeys(str(row["message"]) for row in rows))
        raise ValueError(
            f"None of {len(rows)} trials has a {objective}, so there is no best one: {reasons}. "
            "Search smaller weights or learning rates."
        )
    reached = first if first["score"] is not None else _furthest(scored)
    scores = {row["trial"]: _scores(row, objective, reached["epochs"]) for row in scored}
    seeds = list(scores[reached["trial"]])
    seeds = seeds[1:] or seeds
    compared = [row for row in scored if set(seeds) <= scores[row["trial"]].keys()]

    def means(row):
        return statistics.fmean(scores[row["trial"]][seed] for seed in seeds)

    def differences(row, other):
        own, others = scores[row["trial"]], scores[other["trial"]]
        return [own[seed] - others[seed] for seed in seeds]

    def better(row, other):
        paired = differences(row, other)
        error = standard_error(paired)
        mean = statistics.fmean(paired) * SIGNS[objective]
        return error is not None and mean > max(ERRORS * error, resolution)

    best = max(compared, key=lambda row: SIGNS[objective] * means(row))  # of equal ones the first
    equal = [row for row in compared if not better(best, row)]
    kept = min(
        equal,
        key=lambda row: (
            *(row["parameters"], cost(row), row is not first),
            -SIGNS[objective] * means(row),
        ),
    )
    own = differences(best, first) if first in compared else []
    return {
        "best": best["trial"],
        "kept": kept["trial"],
        "differences": own,
        "said": _reason(first, best, kept, own, objective),
    }


def _furthest(rows):
    return max(rows, key=lambda row: (row["epochs"], len(row["seeds"])))


def _scores(row, objective, epochs):
    """{seed: objective} of a trial's trainings over so many epochs."""
    own = [seed for seed in row["seeds"] if seed["epochs"] == epochs]
    return {seed["seed"]: seed["metrics"][objective] for seed in own}


def _reason(first, best, kept, differences, objective):
    if not differences:
        return f"The defaults failed ({first['message']}): trial {kept['trial']} is taken."
    count = f"{len(differences)} further seeds"
    if len(differences) == 1:
        return (
            "With less than two further seeds chance and merit cannot be told apart: "
            f"{_taken(first, kept)} Give --executions 3 or more."
        )
    if best is first:
        return f"Over {count} no trial was better than the defaults: {_taken(first, kept)}"
    scale, unit = (1, "nats") if "entropy" in objective else (100, "points")
    mean, error = statistics.fmean(differences), standard_error(differences)
    words = objective.removeprefix("val_").replace("_", " ")
    beyond = "" if kept is best else "not "
    return (
        f"Trial {best['trial']} minus the defaults, over {count}: {scale * mean:+.2f} ± "
        f"{scale * error:.2f} {unit} of validation {words} (mean ± standard error), {beyond}beyond "
        f"chance: {_taken(first, kept)}"
    )


def _taken(first, kept):
    return "the defaults are kept." if kept is first else f"trial {kept['trial']} is taken."


def table(rows, settings, bold=None, values=True):
    """The trials as a `rich` table: settings, epochs, seeds, mean ± standard error."""
    names = names_of(rows) if values else []
    sizes = ["parameters"] if settings.student_choices else []
    sizes += ["latency_ms"] if settings.pareto == "latency" else []
    result = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    states = [""] * any(row["status"] != COMPLETED for row in rows)
    for heading in ("trial", *names, "epochs", "seeds", settings.objective, *sizes, *states):
        justify = "left" if heading in ("trial", "") else "right"
        unbroken = heading == settings.objective
        result.add_column(heading.replace("_", " "), justify=justify, no_wrap=unbroken)
    for row in rows:
        cells = [row["trial"], *(_short(row["values"].get(name)) for name in names)]
        cells += [str(row["epochs"]), str(len(row["seeds"])), _figure(row, settings)]
        cells += [_short(row.get(size)) for size in sizes]
        cells += ["" if row["status"] == COMPLETED else row["status"].lower()] * len(states)
        result.add_row(*cells, style="bold" if row["trial"] == bold else None)
    return result


def line(row, settings):
    """One training in one line, of the rows of `tfkd.tuning.trials`."""
    values = ", ".join(f"{name} {_short(value)}" for name, value in row["values"].items())
    if row["follows"]:
        values = f"on with {row['follows']}" if row["begin"] else f"{row['follows']}, further seed"
    ended = f"{row['status'].lower()}: {row['message']}"
    if row["status"] == COMPLETED:
        ended = f"{settings.objective} {row['score']:.4f}"
    return f"training {row['trial']} ({values}): {ended} ({row['seconds']:.1f} s)"


def results_csv(rows, settings, front=()):
    """One line a trial.

    Args:
        rows: of the trials.
        settings: `SearchSettings`.
        front: the rows of the Pareto front.
    """
    names = names_of(rows)
    figures = list(dict.fromkeys([settings.objective, "val_accuracy", "val_cross_entropy"]))
    columns = ["trial", "status", *names]
    columns += [column for name in figures for column in (name, f"{name}_error")]
    columns += ["epochs", "seeds", "parameters", "latency_ms", "pareto", "seconds", "message"]
    text, on_front = io.StringIO(), {row["trial"] for row in front}
    lines = csv.DictWriter(text, columns, lineterminator="\n", restval="", extrasaction="ignore")
    lines.writeheader()
    for row in rows:
        own = {**row, **row["values"], "seeds": len(row["seeds"])}
        for name in figures:
            own |= {name: row["mean"].get(name), f"{name}_error": row["error"].get(name)}
        own |= {"pareto": int(row["trial"] in on_front)} if settings.pareto else {}
        own["seconds"] = round(row["seconds"], 3)
        lines.writerow(own)
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
        students = _students(rows, settings, info)
        with terminal.step("Timing the students on one image"):
            times = evaluation.latencies(students, info.image_shape)
        for row in rows:
            row["latency_ms"] = times[_key(row, settings)]["latency_ms"]
    full, sign = max(row["epochs"] for row in rows), SIGNS[settings.objective]

    def good(row):
        return None if row["score"] is None or row["epochs"] < full else sign * row["score"]

    return pareto(rows, maximize=good, minimize=SIZES[settings.pareto][0])


def write(directory, setup, rows):
    """Writes what the trials came to.

    Args:
        directory: `RunDirectory`.
        setup: `tfkd.runs.search.trials.TrialSetup`.
        rows: of the trials.

    Returns:
        `Found`.
    """
    settings, info = setup.settings, setup.lesson.info
    front, adds = front_of(rows, settings, info), {}
    if settings.student_choices:
        students = _students(rows, settings, info)
        adds = {key: evaluation.multiply_adds(student) for key, student in students.items()}
    resolution = 1 / info.sizes["validation"] if SIGNS[settings.objective] == 1 else 0.0
    decision = decide(
        rows, settings.objective, resolution, lambda row: adds.get(_key(row, settings), 0)
    )
    write_text(directory / "results.csv", results_csv(rows, settings, front))
    teacher = (directory / "teacher.keras").resolve()
    for row in front:
        own = settings.again(row["values"], teacher)
        write_text(directory / FRONT / f"trial-{row['trial']}.toml", own.to_toml())
    kept = next(row for row in rows if row["trial"] == decision["kept"])
    write_text(directory / "best.toml", settings.again(kept["values"], teacher).to_toml())
    plot_search(rows, settings, front, kept, directory / "search.png")
    found = Found(
        tfkd=tfkd.__version__,
        trials=[TrialRecord(**_without_history(row)) for row in rows],
        trials_asked_for=settings.trials,
        pareto=[row["trial"] for row in front],
        seconds_of_trials=round(sum(row["seconds"] for row in rows), 3),
        race={row["trial"]: _race(row, settings.objective) for row in rows},
        **decision,
    )
    write_json(directory / FILE, found.model_dump())
    return found


def show(found, settings):
    """Prints the trials, the Pareto front, and which trial is kept."""
    rows = [row.model_dump() for row in found.trials]
    _print(rows, settings, found.kept)
    if found.pareto:
        front = [row for name in found.pareto for row in rows if row["trial"] == name]
        terminal.say(f"Best {settings.objective} for its {settings.pareto}, smallest first:")
        _print(front, settings)
    terminal.say(found.said)


def _print(rows, settings, bold=None):
    """The trials as a table; where it is too wide for the terminal, without what moved."""
    console, whole = terminal.console(), table(rows, settings, bold)
    unbounded = console.options.update(width=WIDEST)
    if console.measure(whole, options=unbounded).minimum > console.width:
        whole = table(rows, settings, bold, values=False)
    console.print(whole)


def _key(row, settings):
    """What a trial's student is built from."""
    return json.dumps(settings.of_trial(row["values"]).student_options, sort_keys=True)


def _students(rows, settings, info):
    owns = {_key(row, settings): settings.of_trial(row["values"]) for row in rows}
    return {key: models.build("student", own, info) for key, own in owns.items()}


def _figure(row, settings):
    if row["score"] is None:
        return ""
    error = row["error"].get(settings.objective)
    return f"{row['score']:.4f}" + ("" if error is None else f" ± {error:.4f}")


def _short(value):
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.3g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _race(row, objective):
    """The objective of a trial's first seed, epoch by epoch."""
    first = next(iter(row["seeds"]), {"history": {}})
    return first["history"].get(objective, [])


def _without_history(row):
    seeds = [{n: v for n, v in own.items() if n != "history"} for own in row["seeds"]]
    return {**row, "seeds": seeds}
