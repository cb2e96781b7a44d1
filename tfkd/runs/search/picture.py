"""The picture of a search: its objective over the trials, over each weight, and against size."""

import math

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator, PercentFormatter

from tfkd.files import written
from tfkd.settings.search import OBJECTIVES
from tfkd.tuning import Range

COLUMNS = 3
# Of Okabe and Ito's palette, as the curves of a run.
TRIED, BEST, START, FAILED = "#0072B2", "#D55E00", "#000000", "#CC79A7"
SIZES = {"parameters": ("parameters", "parameters"), "latency": ("latency_ms", "latency (ms)")}


def plot_search(rows, settings, space, front, path):
    """Draws the search.

    Args:
        rows: of the trials, see `tfkd.tuning.trials`; the first one is where the search started.
        settings: `SearchSettings`.
        space: {setting: `Range` or `Choice`}.
        front: the rows of the Pareto front, by size; empty for none.
        path: of the PNG to write.
    """
    names = list(dict.fromkeys(name for row in rows for name in row["values"]))
    panels = 1 + len(names) + bool(front)
    columns = min(COLUMNS, panels)
    lines = math.ceil(panels / columns)
    figure = Figure(figsize=(4.2 * columns, 3.4 * lines), layout="constrained")
    FigureCanvasAgg(figure)
    grid = list(figure.subplots(lines, columns, squeeze=False).flat)
    for axes in grid[panels:]:
        axes.set_axis_off()
    points = [row for row in rows if _score(row, settings) is not None]
    _draw_trials(grid[0], rows, points, settings)
    for axes, name in zip(grid[1:], names, strict=False):
        _draw_weight(axes, name, points, settings, space.get(name))
    if front:
        _draw_front(grid[panels - 1], points, front, settings)
    for axes in grid[:panels]:
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
        if settings.objective != "val_cross_entropy":
            axes.yaxis.set_major_formatter(PercentFormatter(1))
    for axes in grid[0:panels:columns]:
        axes.set_ylabel(_label(settings))
    figure.legend(
        *grid[0].get_legend_handles_labels(), loc="outside upper center", ncols=4, frameon=False
    )
    with written(path) as partial:
        figure.savefig(partial, format="png", dpi=150)


def _draw_trials(axes, rows, points, settings):
    numbers = {row["trial"]: number for number, row in enumerate(rows)}
    _draw_points(axes, [numbers[row["trial"]] for row in points], points, settings)
    better = max if OBJECTIVES[settings.objective] == "max" else min
    reached = []
    for row in points:
        reached.append(better([*reached[-1:], _score(row, settings)]))
    where = [numbers[row["trial"]] for row in points]
    best = {"color": BEST, "linewidth": 1.6, "where": "post", "label": "best so far"}
    axes.step(where, reached, zorder=1, **best)
    failed = [numbers[row["trial"]] for row in rows if row["status"] in ("FAILED", "INVALID")]
    if failed:
        bottom = axes.get_xaxis_transform()
        mark = {"marker": "x", "linestyle": "", "color": FAILED, "label": "failed"}
        axes.plot(failed, [0.03] * len(failed), transform=bottom, **mark)
    axes.set_xlabel("trial")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def _draw_weight(axes, name, points, settings, space):
    values = [row["values"].get(name) for row in points]
    if all(isinstance(value, int | float) for value in values):
        if isinstance(space, Range):
            axes.set_xlim(*_with_margin(space))
        if isinstance(space, Range) and space.log:
            axes.set_xscale("log")
            axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axes.xaxis.set_minor_locator(NullLocator())
            axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    else:
        values = [str(value) for value in values]
    _draw_points(axes, values, points, settings)
    axes.set_xlabel(name.replace("_", " "))


def _draw_front(axes, points, front, settings):
    key, label = SIZES[settings.pareto]
    known = [row for row in points if row.get(key) is not None]
    _draw_points(axes, [row[key] for row in known], known, settings)
    sizes, scores = zip(*((row[key], _score(row, settings)) for row in front), strict=True)
    axes.plot(sizes, scores, color=BEST, linewidth=1.6, zorder=1)
    axes.set_xlabel(f"{label} (line: Pareto front)")


def _draw_points(axes, places, points, settings):
    """One point a trial with its standard deviation; the first trial stands out."""
    scores = [_score(row, settings) for row in points]
    spreads = [row["std"].get(settings.objective) or 0.0 for row in points]
    if any(spreads):
        bars = {"ecolor": TRIED, "alpha": 0.5, "linestyle": "", "elinewidth": 1}
        axes.errorbar(places, scores, yerr=spreads, **bars)
    first = [row["trial"].strip("0") == "" for row in points]
    for chosen, style in (
        (False, {"color": TRIED, "marker": "o", "label": "trial"}),
        (True, {"color": START, "marker": "D", "label": "defaults (trial 0)"}),
    ):
        own = [i for i, is_first in enumerate(first) if is_first == chosen]
        xs, ys = [places[i] for i in own], [scores[i] for i in own]
        axes.plot(xs, ys, linestyle="", markersize=5, zorder=2 + chosen, **style)


def _with_margin(space):
    """The range with 4 % of air on either side."""
    low, high = space.extremes
    if space.log:
        factor = (high / low) ** 0.04
        return low / factor, high * factor
    return low - 0.04 * (high - low), high + 0.04 * (high - low)


def _score(row, settings):
    return row["mean"].get(settings.objective) if row["status"] == "COMPLETED" else None


def _label(settings):
    words = settings.objective.removeprefix("val_").replace("_", " ")
    return f"validation {words}" + (" (nats)" if "entropy" in words else "")
