"""The table of a run's figures, for the terminal and for a README: one grid, two coats."""

import statistics
from typing import NamedTuple

from rich import box
from rich.table import Table


class Measure(NamedTuple):
    """How a figure is shown: heading with unit, factor to that unit, decimals, whether ± std."""

    heading: str
    factor: float
    decimals: int
    spread: bool


# In the order shown. Size belongs to an architecture, not to a seed: no spread.
MEASURES = {
    "accuracy": Measure("accuracy (%)", 100, 1, True),
    "gain": Measure("gain (points)", 100, 2, True),
    "validation_accuracy": Measure("validation (%)", 100, 1, True),
    "cross_entropy": Measure("cross-entropy (nats)", 1, 3, True),
    "calibrated_cross_entropy": Measure("cross-entropy, calibrated (nats)", 1, 3, True),
    "calibration_error": Measure("calibration error (%)", 100, 1, True),
    "calibrated_calibration_error": Measure("calibration error, calibrated (%)", 100, 1, True),
    "agreement": Measure("agreement with teacher (%)", 100, 1, True),
    "parameters": Measure("parameters", 1, 0, False),
    "multiply_adds": Measure("multiply-adds (M)", 1e-6, 2, False),
    "file_bytes": Measure("file size (kB)", 1e-3, 1, False),
    "latency_ms": Measure("latency of one image (ms)", 1, 2, True),
    "latency_p95_ms": Measure("latency, 95 % below (ms)", 1, 2, True),
    "seconds": Measure("training time (s)", 1, 0, True),
}
ABSENT = "–"
GAP = 3  # spaces between columns


def table(rows, title=None, models_down=False, measures=MEASURES):
    """Lay figures out as a `rich` table, mean ± sample standard deviation over seeds.

    Args:
        rows: dict of model name to its figures, as `quality` and `cost` return them: a dict, or a
            list of dicts, one a seed. Keys not in `measures` are left out.
        title: line above the table, or None.
        models_down: one line a model however few there are.
        measures: {figure: `Measure`} of what is shown, in this order.

    Returns:
        What a `rich` console prints as a table. The longer side goes down, so that three models
        with eight figures fit in 80 columns, and twenty models with three figures too. Columns for
        which the console is too narrow stand in a further table below.

    Raises:
        ValueError: no figure to show.
    """
    return _Fitting(*grid(rows, models_down, measures), title)


def parts(names, widths, width):
    """The columns of a table, in parts that each fit beside the column of names.

    Args:
        names: width of the longest name; names are wrapped where they would take half of the width.
        widths: of the other columns.
        width: of the console.

    Returns:
        list of lists of positions, from 1; each has one or more.
    """
    room, found = width - min(names, width // 2), [[]]
    for position, own in enumerate(widths, start=1):
        taken = sum(widths[column - 1] + GAP for column in found[-1])
        if found[-1] and taken + own + GAP > room:
            found.append([])
        found[-1].append(position)
    return found


class _Fitting:
    """A grid as one table, or as several below each other in a console that is too narrow."""

    def __init__(self, headings, lines, title):
        self._headings, self._lines, self._title = headings, lines, title

    def __rich_console__(self, console, options):
        title = self._title
        names, *widths = (
            max(map(len, column)) for column in zip(self._headings, *self._lines, strict=True)
        )
        for columns in parts(names, widths, options.max_width):
            yield self._table(columns, title)
            title = None

    def _table(self, columns, title):
        result = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, title=title)
        result.add_column(self._headings[0])
        for column in columns:
            # Cells are padded to equal width already; "right" would strip that padding.
            result.add_column(self._headings[column], no_wrap=True)
        for line in self._lines:
            result.add_row(line[0], *(line[column] for column in columns))
        return result


def markdown(rows, models_down=False, measures=MEASURES):
    """The same table as `table` makes, in Markdown.

    Args:
        rows, measures: as for `table`.
        models_down: one line a model however few there are.

    Returns:
        str, one line a row, each ended by a newline.

    Raises:
        ValueError: no figure to show.
    """
    headings, lines = grid(rows, models_down, measures)
    widths = [max(map(len, column)) for column in zip(headings, *lines, strict=True)]

    def row(cells):
        first, *others = zip(cells, widths, strict=True)
        return f"| {first[0]:<{first[1]}} | " + " | ".join(f"{c:>{w}}" for c, w in others) + " |\n"

    rule = f"|{'-' * (widths[0] + 2)}|" + "".join(f"{'-' * (w + 1)}:|" for w in widths[1:]) + "\n"
    return row(headings) + rule + "".join(row(line) for line in lines)


def grid(rows, models_down=False, measures=MEASURES):
    """The cells of the table, for whoever lays it out.

    Args:
        rows, models_down, measures: as for `markdown`.

    Returns:
        (headings, the corner first; list of lines of strings, the cells of a column equally wide).

    Raises:
        ValueError: no figure to show.
    """
    rows = {name: [row] if isinstance(row, dict) else list(row) for name, row in rows.items()}
    seeds = [figures for row in rows.values() for figures in row]
    shown = [key for key in measures if any(key in figures for figures in seeds)]
    if not shown:
        raise ValueError(
            f"No figure to show: expected rows with some of {', '.join(measures)}, got {rows}."
        )
    across, down = list(rows), [measures[key].heading for key in shown]
    columns = [[_cell(rows[model], key, measures[key]) for key in shown] for model in across]
    corner = ""
    if models_down or len(across) >= len(down):
        across, down, columns = down, across, list(zip(*columns, strict=True))
        corner = "model"
    padded = [_padded(heading, column) for heading, column in zip(across, columns, strict=True)]
    headings, *lines = zip([corner, *down], *padded, strict=True)
    return headings, lines


def _cell(figures, key, measure):
    """(mean, spread) as strings; the spread is empty for a single seed."""
    values = [measure.factor * seed[key] for seed in figures if key in seed]
    if not values:
        return ABSENT, ""
    mean = f"{statistics.fmean(values):,.{measure.decimals}f}"
    if len(values) == 1 or not measure.spread:
        return mean, ""
    return mean, f" ± {statistics.stdev(values):,.{measure.decimals}f}"


def _padded(heading, column):
    """The heading and its (mean, spread) cells, equally wide, the ± standing below each other."""
    means, spreads = zip(*column, strict=True)
    mean_width, spread_width = max(map(len, means)), max(map(len, spreads))
    cells = [f"{mean:>{mean_width}}{spread:<{spread_width}}" for mean, spread in column]
    width = max(len(heading), len(cells[0]))
    return [text.rjust(width) for text in (heading, *cells)]
