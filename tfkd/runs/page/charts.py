"""The geometry of the page's pictures: scales, ticks and paths, drawn by `charts.html.jinja`.

Pictures are 380 units wide, so that on a phone a unit is about a pixel and text can be read.
"""

import math
from typing import NamedTuple

from matplotlib.ticker import LogLocator, MaxNLocator

WIDTH, HEIGHT = 380, 250
LEFT, RIGHT, TOP, BOTTOM = 48, 12, 10, 40
STYLES = 5  # that are told apart by colour and dashes, see `page.css`


class Axis(NamedTuple):
    """A scale from values to places.

    Attributes:
        label: what is measured, with its unit.
        low, high: values at the ends.
        start, end: places of the ends.
        log: whether the scale is logarithmic.
        ticks: list of (place, text).
    """

    label: str
    low: float
    high: float
    start: float
    end: float
    log: bool
    ticks: list

    def place(self, value):
        """Where a value stands."""
        low, high, value = (self._moved(own) for own in (self.low, self.high, value))
        return round(self.start + (value - low) / (high - low) * (self.end - self.start), 1)

    def _moved(self, value):
        return math.log10(value) if self.log else value


class Series(NamedTuple):
    """What is drawn in one style.

    Attributes:
        name: in the legend; "" for none.
        style: number of the style, from 0.
        line: points of a line, "x,y x,y"; "" for none.
        band: points of an area; "" for none.
        dots: list of (x, y, radius, text that is shown beside it).
    """

    name: str
    style: int
    line: str = ""
    band: str = ""
    dots: tuple = ()


class Chart(NamedTuple):
    """A picture.

    Attributes:
        title: what it shows, in a sentence, for those who do not see it, too.
        x, y: `Axis`.
        series: list of `Series`.
        width, height: of the picture.
        diagonal: points of a line from corner to corner, or "".
    """

    title: str
    x: Axis
    y: Axis
    series: list
    width: int = WIDTH
    height: int = HEIGHT
    diagonal: str = ""


def axis(label, values, start, end, log=False, integer=False, factor=1, bounds=None):
    """An `Axis` that holds some values.

    Args:
        label: what is measured.
        values: list of numbers, None left out.
        start, end: places of its ends.
        log: whether it is logarithmic; then values are above 0.
        integer: ticks at whole numbers only.
        factor: from a value to the unit of the label.
        bounds: (low, high) that it reaches at least.
    """
    values = [own for own in values if own is not None and math.isfinite(own)]
    low, high = min([*values, *(bounds or ())]), max([*values, *(bounds or ())])
    if log:
        low, high = low / 1.25, high * 1.25
        wide = high / low > 300
        ticks = LogLocator(subs=(1.0,) if wide else (1.0, 2.0, 5.0)).tick_values(low, high)
    else:
        if low == high:
            low, high = low - 0.5 / factor, high + 0.5 / factor
        locator = MaxNLocator(5, integer=integer, steps=[1, 2, 2.5, 5, 10])
        ticks = locator.tick_values(factor * low, factor * high) / factor
        if bounds is None and not integer:
            low, high = min(ticks[0], low), max(ticks[-1], high)
    slack = 1e-9 * (high - low)
    inside = [own for own in ticks if low - slack <= own <= high + slack]
    result = Axis(label, low, high, start, end, log, [])
    texts = [(result.place(own), f"{factor * own:.6g}") for own in inside]
    return result._replace(ticks=texts)


def plane(x, y, height=HEIGHT, width=WIDTH):
    """(`Axis`, `Axis`) of a picture; `x` and `y` are keywords of `axis`."""
    return (
        axis(start=LEFT, end=width - RIGHT, **x),
        axis(start=height - BOTTOM, end=TOP, **y),
    )


def points(x, y, pairs):
    """The points of a line; pairs without a value are left out."""
    known = [(a, b) for a, b in pairs if b is not None and math.isfinite(b)]
    return " ".join(f"{x.place(a)},{y.place(b)}" for a, b in known)


def curves(title, label, lines, factor=1):
    """Lines over epochs, each the mean over seeds with a band from the lowest to the highest seed.

    Args:
        title, label: of the picture and its upright axis.
        lines: {name: (style, list of lists of values, one list a seed)}.
        factor: from a value to the unit of the label.

    Returns:
        `Chart`; None where there is nothing to draw.
    """
    table = {
        name: (style, list(_epochs(seeds))) for name, (style, seeds) in lines.items() if any(seeds)
    }
    values = [v for _, epochs in table.values() for epoch in epochs for v in epoch]
    if not values:
        return None
    last = max(len(epochs) for _, epochs in table.values())
    x, y = plane(
        {"label": "epoch", "values": [1, last], "integer": True},
        {"label": label, "values": values, "factor": factor},
    )
    series = []
    for name, (style, epochs) in table.items():
        means = [(n, sum(own) / len(own)) for n, own in enumerate(epochs, 1) if own]
        band = ""
        if any(len(own) > 1 for own in epochs):
            upper = [(n, max(own)) for n, own in enumerate(epochs, 1) if own]
            lower = [(n, min(own)) for n, own in enumerate(epochs, 1) if own]
            band = points(x, y, [*upper, *reversed(lower)])
        dots = [(x.place(n), y.place(v), 2.5, "") for n, v in means] if len(means) == 1 else ()
        series.append(Series(name, style, points(x, y, means), band, dots))
    return Chart(title, x, y, series)


def _epochs(seeds):
    """For each epoch the finite values of the seeds that came so far."""
    for n in range(max(map(len, seeds), default=0)):
        reached = (own[n] for own in seeds if n < len(own))
        yield [value for value in reached if value is not None and math.isfinite(value)]


def scatter(title, x, y, named):
    """Points with their names in a legend.

    Args:
        title: of the picture.
        x, y: keywords of `axis`, without values.
        named: list of (name in the legend or "", style, x, y, what it is in words).

    Returns:
        `Chart`; None where there is nothing to draw.
    """
    if not named:
        return None
    across, up = plane(
        {**x, "values": [own[2] for own in named]}, {**y, "values": [own[3] for own in named]}
    )
    series = [
        Series(name, style % STYLES, dots=((across.place(a), up.place(b), 5, text),))
        for name, style, a, b, text in named
    ]
    return Chart(title, across, up, series)


def reliability(title, models):
    """A reliability diagram.

    Args:
        title: of the picture.
        models: list of (name, style, `tfkd.runs.page.kept.Bins`).

    Returns:
        `Chart`, the dots as large as the bins are full.
    """
    unit = {"values": [], "bounds": (0, 1), "factor": 100}
    x, y = plane({"label": "confidence (%)", **unit}, {"label": "right (%)", **unit}, height=320)
    series = []
    for name, style, bins in models:
        total = max(1, sum(bins.count))
        dots = [
            (x.place(sure), y.place(right), round(2 + 7 * math.sqrt(count / total), 1), "")
            for count, right, sure in bins.filled
        ]
        line = points(x, y, [(sure, right) for _, right, sure in bins.filled])
        series.append(Series(name, style, line, dots=tuple(dots)))
    diagonal = f"{x.place(0)},{y.place(0)} {x.place(1)},{y.place(1)}"
    return Chart(title, x, y, series, height=320, diagonal=diagonal)


class Upright(NamedTuple):
    """An axis of parallel coordinates: where it stands, and its scale."""

    across: float
    axis: Axis


class Parallel(NamedTuple):
    """Parallel coordinates.

    Attributes:
        title: as of `Chart`.
        axes: list of `Upright`.
        series: list of `Series`, a line each.
    """

    title: str
    axes: list
    series: list
    width: int
    height: int = HEIGHT


SPACING = 105  # between upright axes
WIDE_RANGE = 20  # of positive values; from here on an axis is logarithmic


def parallel(title, columns, lines):
    """Parallel coordinates: an axis a value, a line a trial.

    Args:
        title: of the picture.
        columns: {label: (values, one a line, and the factor to the unit of the label)}.
        lines: list of (name in the legend or "", style), one a line.

    Returns:
        `Parallel`.
    """
    axes, places = [], [[] for _ in lines]
    for number, (label, (values, factor)) in enumerate(columns.items()):
        across = 60 + SPACING * number
        upright, found = _upright(label, values, factor)
        axes.append(Upright(across, upright))
        for own, place in zip(places, found, strict=True):
            own.append((across, place))
    series = [
        Series(name, style, " ".join(f"{x},{y}" for x, y in own if y is not None))
        for (name, style), own in zip(lines, places, strict=True)
    ]
    return Parallel(title, axes, series, 120 + SPACING * (len(columns) - 1))


def _upright(label, values, factor):
    """(`Axis`, the place of each value, None of those that are missing)."""
    ends = {"start": HEIGHT - 16, "end": 34}
    known = [own for own in values if own is not None]
    if all(isinstance(own, int | float) and not isinstance(own, bool) for own in known):
        log = bool(known) and min(known) > 0 and max(known) / min(known) >= WIDE_RANGE
        result = axis(label, known or [0], log=log, factor=factor, **ends)
        return result, [None if own is None else result.place(own) for own in values]
    texts = sorted({str(own) for own in known})
    result = Axis(label, 0, max(1, len(texts) - 1), **ends, log=False, ticks=[])
    result = result._replace(ticks=[(result.place(n), text) for n, text in enumerate(texts)])
    return result, [None if own is None else result.place(texts.index(str(own))) for own in values]
