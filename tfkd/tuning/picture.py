"""The picture of a search: the race, its finalists, and the objective over what moved."""

import math
from typing import NamedTuple

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator, PercentFormatter

from tfkd.tuning.race import END, joined
from tfkd.tuning.results import trials

COLUMNS = 3
# Of Okabe and Ito's palette, as the curves of a run.
TRIED, KEPT, START = "#0072B2", "#D55E00", "#000000"
LOGARITHMIC = ("log", "reverse_log")  # KerasTuner's samplings


class Front(NamedTuple):
    """The Pareto front of a search.

    Attributes:
        rows: of the trials on it, by size.
        key: of a row's size.
        label: of the size, in words.
    """

    rows: list
    key: str
    label: str


def plot(tuner):
    """Draws what a KerasTuner tuner has tried so far.

    ```python
    tuner.search(train, validation_data=validation, epochs=10)
    tfkd.tuning.plot(tuner).savefig("search.png")
    ```

    The first panel has the objective epoch by epoch, where it is known (of a
    `DistillationHyperModel`), else trial by trial; a second one the seeds of trials that had
    several; then there is one for each hyperparameter. A hollow mark is a trial that was stopped
    after fewer epochs than the longest one: it is not to be compared with those that were not.

    Args:
        tuner: any `keras_tuner.Tuner`, before, while or after it searches.

    Returns:
        `matplotlib.figure.Figure`.

    Raises:
        ValueError: no trial has ended with a result yet.
    """
    objective, sign = tuner.oracle.objective.name, 1
    if tuner.oracle.objective.direction == "min":
        sign = -1
    rows = trials(tuner.project_dir)
    if any(row["executions"] for row in rows):
        rows = joined(rows, objective, sign)
    else:  # of another hypermodel, of which only scores are known
        values = {name: own.hyperparameters.values for name, own in tuner.oracle.trials.items()}
        rows = [
            {**row, "seeds": [], "epochs": values.get(row["trial"], {}).get(END, 0)} for row in rows
        ]
    if all(row["score"] is None for row in rows):
        raise ValueError(
            f'No trial in "{tuner.project_dir}" has ended with a {objective} yet. Search first.'
        )
    space = tuner.oracle.get_space().space
    logarithmic = [own.name for own in space if getattr(own, "sampling", None) in LOGARITHMIC]
    return figure(rows, objective, logarithmic)


def figure(rows, objective, logarithmic=(), first=None, kept=None, front=None):
    """The picture of some trials.

    Args:
        rows: of the trials, see `tfkd.tuning.race.joined`.
        objective: name of the metric.
        logarithmic: names of the hyperparameters that stand on a logarithmic axis.
        first: the row of the defaults, or None where no trial is known to be that.
        kept: the row of the trial that is taken, or None.
        front: `Front`, or None.

    Returns:
        `matplotlib.figure.Figure`.
    """
    names = names_of(rows)
    points = [row for row in rows if row["score"] is not None]
    finalists = [row for row in points if len(row["seeds"]) > 1]
    panels = 1 + bool(finalists) + len(names) + (front is not None)
    columns = min(COLUMNS, panels)
    lines = math.ceil(panels / columns)
    result = Figure(figsize=(4.2 * columns, 3.4 * lines), layout="constrained")
    FigureCanvasAgg(result)
    grid = list(result.subplots(lines, columns, squeeze=False).flat)
    left = iter(grid)
    longest = max(row["epochs"] for row in rows)
    styles = {row["trial"]: _style(row, first, kept, longest) for row in rows}
    draw = _draw_race if any(row["seeds"] for row in rows) else _draw_order
    draw(next(left), rows, styles, objective)
    if finalists:
        _draw_finalists(next(left), finalists, styles, objective)
    for name in names:
        _draw_value(next(left), name, points, styles, name in logarithmic)
    if front is not None:
        axes, key = next(left), front.key
        _draw_points(axes, [row[key] for row in points], points, styles)
        places = [row[key] for row in front.rows], [row["score"] for row in front.rows]
        axes.plot(*places, color=KEPT)
        axes.set_xlabel(f"{front.label} (line: Pareto front)")
    for axes in left:
        axes.set_axis_off()
    _finish(result, grid[:panels], columns, objective)
    return result


def names_of(rows):
    """Names of what moves among some trials, in their order."""
    return list(dict.fromkeys(name for row in rows for name in row["values"]))


def _finish(result, grid, columns, objective):
    """Labels and legend of all panels."""
    share = any(word in objective for word in ("accuracy", "agreement"))
    for axes in grid:
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
        if share:
            axes.yaxis.set_major_formatter(PercentFormatter(1))
    words = objective.removeprefix("val_").replace("_", " ")
    words = f"validation {words}" if objective.startswith("val_") else words
    for axes in grid[::columns]:
        axes.set_ylabel(words + (" (nats)" if "entropy" in words else ""))
    entries = {}
    for axes in grid:
        handles, labels = axes.get_legend_handles_labels()
        entries = {**dict(zip(labels, handles, strict=True)), **entries}
    result.legend(
        entries.values(), entries.keys(), loc="outside upper center", ncols=4, frameon=False
    )


def _style(row, first, kept, longest):
    """How a trial is drawn; a hollow mark for one that others were trained longer than."""
    style = {"color": TRIED, "marker": "o", "label": "trial", "zorder": 2}
    if row is kept:
        label = f"kept: {'the defaults (trial 0)' if row is first else 'trial ' + row['trial']}"
        marker = "D" if row is first else "o"
        style = {"color": KEPT, "marker": marker, "label": label, "zorder": 4}
    elif row is first:
        style = {"color": START, "marker": "D", "label": "defaults (trial 0)", "zorder": 3}
    if row["epochs"] < longest:
        style |= {"markerfacecolor": "white", "alpha": 0.6}
        style["label"] += ", stopped after fewer epochs"
    return style


def _draw_race(axes, rows, styles, objective):
    """The objective of each trial's first seed, epoch by epoch, as far as it went."""
    for row in rows:
        for own in row["seeds"][:1]:
            values = own["history"].get(objective, [])
            epochs = range(1, len(values) + 1)
            axes.plot(epochs, values, markersize=4, linewidth=1.2, **styles[row["trial"]])
    axes.set_xlabel("epoch (first seed)")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def _draw_order(axes, rows, styles, objective):
    """The objective of each trial, in the order in which they began."""
    points = [(place, row) for place, row in enumerate(rows) if row["score"] is not None]
    _draw_points(axes, [place for place, _ in points], [row for _, row in points], styles)
    axes.set_xlabel("trial")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def _draw_finalists(axes, rows, styles, objective):
    """Each seed of the finalists, and their mean with its standard error."""
    for place, row in enumerate(rows):
        style = styles[row["trial"]]
        values = [own["metrics"][objective] for own in row["seeds"]]
        axes.plot([place] * len(values), values, "_", color=style["color"], alpha=0.6)
        error = row["error"][objective]
        axes.errorbar([place], [row["score"]], yerr=[error or 0.0], capsize=4, **style)
    axes.set_xticks(range(len(rows)), [row["trial"] for row in rows])
    axes.set_xlabel("finalists: seeds, mean ± standard error")


def _draw_value(axes, name, points, styles, logarithmic):
    values = [row["values"].get(name) for row in points]
    if not all(isinstance(value, int | float) for value in values):
        values = [str(value) for value in values]
    elif logarithmic:
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    _draw_points(axes, values, points, styles)
    axes.set_xlabel(name.replace("_", " "))


def _draw_points(axes, places, points, styles):
    for place, row in zip(places, points, strict=True):
        axes.plot([place], [row["score"]], linestyle="", markersize=5, **styles[row["trial"]])
