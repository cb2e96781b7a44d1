"""The picture of a search: the race, its finalists, and the objective over what moved."""

import math

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator, PercentFormatter

from tfkd.files import written
from tfkd.spaces import Range

COLUMNS = 3
# Of Okabe and Ito's palette, as the curves of a run.
TRIED, KEPT, START = "#0072B2", "#D55E00", "#000000"
SIZES = {"parameters": ("parameters", "parameters"), "latency": ("latency_ms", "latency (ms)")}


def plot_search(rows, settings, front, kept, path):
    """Draws the search.

    Args:
        rows: of the trials, see `tfkd.tuning.race.joined`; the first one is the defaults.
        settings: `SearchSettings`.
        front: the rows of the Pareto front, by size; empty for none.
        kept: the row of the trial that is taken.
        path: of the PNG to write.
    """
    names = names_of(rows)
    points = [row for row in rows if row["score"] is not None]
    finalists = [row for row in points if len(row["seeds"]) > 1]
    panels = 1 + bool(finalists) + len(names) + bool(front)
    columns = min(COLUMNS, panels)
    lines = math.ceil(panels / columns)
    figure = Figure(figsize=(4.2 * columns, 3.4 * lines), layout="constrained")
    FigureCanvasAgg(figure)
    grid = list(figure.subplots(lines, columns, squeeze=False).flat)
    left = iter(grid)
    styles = {row["trial"]: _style(row, rows[0], kept) for row in rows}
    _draw_race(next(left), rows, styles, settings)
    if finalists:
        _draw_finalists(next(left), finalists, styles, settings)
    for name in names:
        _draw_value(next(left), name, points, styles, settings.space.get(name))
    if front:
        key, label = SIZES[settings.pareto]
        axes = next(left)
        _draw_points(axes, [row[key] for row in points], points, styles)
        axes.plot([row[key] for row in front], [row["score"] for row in front], color=KEPT)
        axes.set_xlabel(f"{label} (line: Pareto front)")
    for axes in left:
        axes.set_axis_off()
    for axes in grid[:panels]:
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
        if "entropy" not in settings.objective:
            axes.yaxis.set_major_formatter(PercentFormatter(1))
    words = settings.objective.removeprefix("val_").replace("_", " ")
    for axes in grid[0:panels:columns]:
        axes.set_ylabel(f"validation {words}" + (" (nats)" if "entropy" in words else ""))
    own = dict(zip(*grid[0].get_legend_handles_labels()[::-1], strict=True))
    legend = {"loc": "outside upper center", "ncols": 4, "frameon": False}
    figure.legend(own.values(), own.keys(), **legend)
    with written(path) as partial:
        figure.savefig(partial, format="png", dpi=150)


def names_of(rows):
    """Names of what moves among some trials, in their order."""
    return list(dict.fromkeys(name for row in rows for name in row["values"]))


def _style(row, first, kept):
    if row is kept:
        marker = "D" if row is first else "o"
        label = f"kept: {'the defaults (trial 0)' if row is first else 'trial ' + row['trial']}"
        return {"color": KEPT, "marker": marker, "label": label, "zorder": 4}
    if row is first:
        return {"color": START, "marker": "D", "label": "defaults (trial 0)", "zorder": 3}
    return {"color": TRIED, "marker": "o", "label": "trial", "zorder": 2}


def _draw_race(axes, rows, styles, settings):
    """The objective of each trial's first seed, epoch by epoch, as far as it went."""
    for row in rows:
        for own in row["seeds"][:1]:
            values = own["history"].get(settings.objective, [])
            epochs = range(1, len(values) + 1)
            axes.plot(epochs, values, markersize=4, linewidth=1.2, **styles[row["trial"]])
    axes.set_xlabel("epoch (first seed)")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def _draw_finalists(axes, rows, styles, settings):
    """Each seed of the finalists, and their mean with its standard error."""
    for place, row in enumerate(rows):
        style = styles[row["trial"]]
        values = [own["metrics"][settings.objective] for own in row["seeds"]]
        axes.plot([place] * len(values), values, "_", color=style["color"], alpha=0.6)
        error = row["error"][settings.objective]
        axes.errorbar([place], [row["score"]], yerr=[error or 0.0], capsize=4, **style)
    axes.set_xticks(range(len(rows)), [row["trial"] for row in rows])
    axes.set_xlabel("finalists: seeds, mean ± standard error")


def _draw_value(axes, name, points, styles, space):
    values = [row["values"].get(name) for row in points]
    if not all(isinstance(value, int | float) for value in values):
        values = [str(value) for value in values]
    elif isinstance(space, Range) and space.log:
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    _draw_points(axes, values, points, styles)
    axes.set_xlabel(name.replace("_", " "))


def _draw_points(axes, places, points, styles):
    for place, row in zip(places, points, strict=True):
        axes.plot([place], [row["score"]], linestyle="", markersize=5, **styles[row["trial"]])
