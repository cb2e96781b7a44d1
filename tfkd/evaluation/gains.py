"""The picture of what distillation gains over how much there is to learn from."""

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from tfkd.evaluation.curves import STYLES
from tfkd.files import written


def plot_gains(lines, path):
    """Draws gains over the number of training images, one line a data set, say.

    Args:
        lines: {name: list of (images, gain, standard deviation or None)}, gains as shares of 1.
        path: of the PNG to write; written beside and renamed, so that it is whole or not there.

    Raises:
        ValueError: nothing to draw.
    """
    if not any(lines.values()):
        raise ValueError("There are no gains to draw: expected a line with a point or more.")
    figure = Figure(figsize=(6.4, 4.4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for number, (name, points) in enumerate(lines.items()):
        images, gains, spreads = zip(*sorted(points, key=lambda own: own[0]), strict=True)
        axes.errorbar(
            images,
            [100 * gain for gain in gains],
            [100 * (spread or 0.0) for spread in spreads],
            label=name,
            marker="o",
            capsize=3,
            **STYLES[number % len(STYLES)],
        )
    axes.axhline(0, color="#888888", linewidth=0.8)
    axes.set_xscale("log")
    axes.set_xlabel("training images")
    axes.set_ylabel("gain from distillation (points of accuracy)")
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    with written(path) as partial:
        figure.savefig(partial, format="png", dpi=150)
