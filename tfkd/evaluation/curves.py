"""The picture of a run: how teacher, student alone and distilled student learned."""

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from tfkd.files import written

# Okabe and Ito's palette, told apart with any colour vision; the dashes tell them apart in grey.
STYLES = [
    {"color": "#000000", "linestyle": ":"},
    {"color": "#D55E00", "linestyle": "--"},
    {"color": "#0072B2", "linestyle": "-"},
    {"color": "#009E73", "linestyle": "-."},
    {"color": "#CC79A7", "linestyle": "-"},
]
# Beside the metric: the training loss on the labels alone. A distiller's "loss" holds the
# distillation losses too and is no measure to compare with; its "student_loss" is.
LABEL_LOSSES = ("student_loss", "loss")


def plot_curves(histories, path, metric="val_accuracy"):
    """Draw a metric, and the training loss on the labels, epoch by epoch.

    A line is the mean over seeds, the band around it runs from the lowest to the highest seed.

    Args:
        histories: dict of model name to a list of histories, one a seed; a history is Keras's
            `History.history`: a dict of name to one value an epoch.
        path: of the PNG to write; written beside and renamed, so that it is whole or not there.
        metric: the name of the metric in the first panel.

    Raises:
        ValueError: no history holds the metric.
    """
    metric_curves = _curves(histories, (metric,))
    if not metric_curves:
        known = sorted({key for seeds in histories.values() for seed in seeds for key in seed})
        raise ValueError(f'No history holds "{metric}". They hold: {", ".join(known)}.')
    panels = [(_axis_label(metric), metric_curves)]
    if loss_curves := _curves(histories, LABEL_LOSSES):
        panels.append(("training loss on the labels", loss_curves))

    figure = Figure(figsize=(5.2 * len(panels), 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    styles = {name: STYLES[i % len(STYLES)] for i, name in enumerate(histories)}
    for axes, (label, curves) in zip(
        np.atleast_1d(figure.subplots(1, len(panels))), panels, strict=True
    ):
        _draw(axes, curves, styles)
        axes.set_xlabel("epoch")
        axes.set_ylabel(label)
    if metric.endswith("accuracy"):
        figure.axes[0].yaxis.set_major_formatter(PercentFormatter(1))
    figure.legend(
        *figure.axes[0].get_legend_handles_labels(),
        loc="outside upper center",
        ncols=len(STYLES),
        frameon=False,
        title=_legend_title(histories),
    )

    with written(path) as partial:
        figure.savefig(partial, format="png", dpi=150)


def _curves(histories, keys):
    """Name -> masked array (seeds, epochs) of the first key that each history holds.

    Masked are the epochs past a seed's end and the values that are not finite.
    """
    curves = {}
    for name, seeds in histories.items():
        held = [next((key for key in keys if key in seed), None) for seed in seeds]
        values = [seed[key] for seed, key in zip(seeds, held, strict=True) if key]
        if values:
            epochs = max(map(len, values))
            padded = [[*value, *[np.nan] * (epochs - len(value))] for value in values]
            curves[name] = np.ma.masked_invalid(np.array(padded, dtype=float))
    return curves


def _draw(axes, curves, styles):
    for name, values in curves.items():
        epochs = np.arange(1, values.shape[1] + 1)
        # A single epoch makes no line, so it gets a dot.
        marker = "o" if len(epochs) == 1 else None
        line = {"label": name, "marker": marker, "linewidth": 1.8, **styles[name]}
        axes.plot(epochs, values.mean(axis=0), **line)
        if len(values) > 1:
            band = {"color": styles[name]["color"], "alpha": 0.18, "linewidth": 0}
            axes.fill_between(epochs, values.min(axis=0), values.max(axis=0), **band)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)


def _legend_title(histories):
    several = max(map(len, histories.values())) > 1
    return "line: mean over seeds, band: lowest to highest seed" if several else None


def _axis_label(metric):
    validation = metric.startswith("val_")
    words = metric.removeprefix("val_").replace("_", " ")
    return f"{'validation' if validation else 'training'} {words}"
