"""The picture of a search, `search.png`."""

from tfkd.files import written
from tfkd.spaces import Range
from tfkd.tuning import picture

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
    space = settings.space.items()
    logarithmic = [name for name, own in space if isinstance(own, Range) and own.log]
    front = picture.Front(front, *SIZES[settings.pareto]) if front else None
    figure = picture.figure(rows, settings.objective, logarithmic, rows[0], kept, front)
    with written(path) as partial:
        figure.savefig(partial, format="png", dpi=150)
