"""A model of several exits: how good each is, and what it saves to leave by the first sure one."""

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, PercentFormatter
from scipy.special import softmax

from tfkd.evaluation.curves import STYLES
from tfkd.evaluation.operations import multiply_adds
from tfkd.evaluation.predictions import predict
from tfkd.files import written
from tfkd.models import exits

THRESHOLDS = np.linspace(0, 1, 101)


def exit_probabilities(model, dataset):
    """Runs a model of several exits once over a labelled dataset.

    Args:
        model: `keras.Model` whose outputs are a dict of logits, as `tfkd.models.with_exits` and
            `with_branches` make.
        dataset: batched `tf.data.Dataset` of (images, integer labels, anything more).

    Returns:
        ({name: float64 array (examples, classes)}, labels): probabilities of every exit, shallow to
        deep, two classes for exits of one logit; integer array (examples,).

    Raises:
        ValueError: no dict of outputs, or a dataset that `predict` does not take.
    """
    names = exits.exit_names(model)
    together, labels = predict(exits.joined(model), dataset)
    logits = np.split(together.astype(np.float64), len(names), axis=1)
    if logits[0].shape[1] == 1:  # one logit z says what the two logits (0, z) say
        logits = [np.hstack([np.zeros_like(column), column]) for column in logits]
    return {name: softmax(each, axis=1) for name, each in zip(names, logits, strict=True)}, labels


def exit_accuracies(model, dataset):
    """Accuracy of every exit and of their votes.

    Args:
        model, dataset: as for `exit_probabilities`.

    Returns:
        dict of floats from 0 to 1: one an exit, shallow to deep, then "soft_vote" and "hard_vote"
        of all of them, as `tfkd.models.vote` decides.
    """
    probabilities, labels = exit_probabilities(model, dataset)
    accuracies = {
        name: float((each.argmax(axis=1) == labels).mean()) for name, each in probabilities.items()
    }
    stacked = np.stack(list(probabilities.values()))
    mean = stacked.mean(axis=0)
    marks = stacked == stacked.max(axis=2, keepdims=True)
    hard = (marks / marks.sum(axis=2, keepdims=True)).sum(axis=0) + exits.TIE * mean
    accuracies["soft_vote"] = float((mean.argmax(axis=1) == labels).mean())
    accuracies["hard_vote"] = float((hard.argmax(axis=1) == labels).mean())
    return accuracies


def exit_costs(model, image_shape=None):
    """What it costs to leave by each exit, those passed before included.

    Args:
        model: `keras.Model` whose outputs are a dict.
        image_shape: see `multiply_adds`.

    Returns:
        {name: multiply-adds for one image}, shallow to deep.
    """
    names = exits.exit_names(model)
    return {
        name: multiply_adds(exits.joined(model, names[:count]), image_shape)
        for count, name in enumerate(names, start=1)
    }


def early_exit_curve(probabilities, labels, costs, thresholds=THRESHOLDS):
    """Accuracy and mean cost when every example leaves by the first exit that is sure enough.

    An exit is sure enough where its largest probability reaches the threshold; whoever is left
    takes the last exit. Choose a threshold on validation data.

    Args:
        probabilities: {name: float array (examples, classes)}, shallow to deep.
        labels: integer array (examples,).
        costs: {name: cost of leaving by that exit}, in any unit (see `exit_costs`).
        thresholds: numbers from 0 (all leave by the first exit) upwards; above 1 all take the last.

    Returns:
        dict: "thresholds", "accuracy" and "cost" (mean over the examples), arrays (thresholds,);
        "shares", {name: array (thresholds,)}, the share of examples that leaves there; "exits",
        {name: (accuracy, cost)} where all leave by that exit.

    Raises:
        ValueError: names, shapes or values that do not fit (logits instead of probabilities, say).
    """
    names, labels, thresholds = list(probabilities), np.asarray(labels), np.asarray(thresholds)
    arrays = _checked(probabilities, labels, costs, thresholds)
    confidence = arrays.max(axis=2)
    confidence[-1] = np.inf
    correct = arrays.argmax(axis=2) == labels
    paid = np.array([costs[name] for name in names], dtype=float)
    # (thresholds, examples): number of the first exit that is sure enough.
    taken = np.stack([(confidence >= threshold).argmax(axis=0) for threshold in thresholds])
    return {
        "thresholds": thresholds.astype(float),
        "accuracy": correct[taken, np.arange(len(labels))].mean(axis=1),
        "cost": paid[taken].mean(axis=1),
        "shares": {name: (taken == index).mean(axis=1) for index, name in enumerate(names)},
        "exits": {
            name: (float(correct[index].mean()), float(paid[index]))
            for index, name in enumerate(names)
        },
    }


def plot_early_exit(curves, path, cost_label="multiply-adds an image, mean"):
    """Draws accuracy over cost: a line over the thresholds, a dot for each exit used alone.

    Args:
        curves: dict of model name to what `early_exit_curve` returned.
        path: of the PNG to write; written beside and renamed, so that it is whole or not there.
        cost_label: what the costs are, with their unit.

    Raises:
        ValueError: no curve to draw.
    """
    if not curves:
        raise ValueError("No curve to draw: expected a dict of name to early_exit_curve(...).")
    figure = Figure(figsize=(5.6, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for number, (name, curve) in enumerate(curves.items()):
        style = STYLES[(number + 2) % len(STYLES)]
        axes.plot(curve["cost"], curve["accuracy"], label=name, linewidth=1.8, **style)
        for exit_name, (accuracy, cost) in curve["exits"].items():
            axes.plot(cost, accuracy, "o", color=style["color"], markersize=5)
            axes.annotate(
                exit_name, (cost, accuracy), xytext=(5, -11), textcoords="offset points", size=8
            )
    axes.set_xlabel(cost_label)
    axes.set_ylabel("accuracy")
    axes.xaxis.set_major_formatter(EngFormatter())
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    axes.margins(0.1)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="lower right", frameon=False, title="line: thresholds, dots: one exit for all")
    with written(path) as partial:
        figure.savefig(partial, format="png", dpi=150)


def _checked(probabilities, labels, costs, thresholds):
    """Probabilities as one array, shape (exits, examples, classes)."""
    if len(probabilities) < 2:
        raise ValueError(f"Early exit needs two exits or more; given {list(probabilities)}.")
    missing = sorted(set(probabilities) ^ set(costs))
    if missing:
        raise ValueError(
            f"probabilities are of {list(probabilities)}, costs of {list(costs)}; {missing} stand "
            "in one only."
        )
    shapes = {name: np.shape(array) for name, array in probabilities.items()}
    if len(set(shapes.values())) > 1 or any(
        len(shape) != 2 or shape[0] != len(labels) or not len(labels) for shape in shapes.values()
    ):
        raise ValueError(
            f"probabilities have the shapes {shapes}; expected (examples, classes), the same for "
            f"every exit, with as many examples as labels ({len(labels)}), and at least one."
        )
    arrays = np.stack([np.asarray(array, dtype=float) for array in probabilities.values()])
    if not (np.abs(arrays.sum(axis=2) - 1) < 1e-3).all() or arrays.min() < 0:  # true for NaN too
        raise ValueError(
            "probabilities are not from 0 to 1 with the sum 1 in every row. Of logits, take the "
            "softmax first (exit_probabilities does)."
        )
    if thresholds.ndim != 1 or not thresholds.size or np.isnan(thresholds).any():
        raise ValueError(f"thresholds must be a list of numbers from 0 to 1; given {thresholds}.")
    return arrays
