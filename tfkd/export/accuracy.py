"""The accuracy of an export beside that of the Keras student, on labelled examples."""

import warnings

import numpy as np
from scipy.optimize import linear_sum_assignment

from tfkd.export.errors import ExportCheckError, ExportWarning

_LEAST = 5  # examples of a class, before anything is said of its place
_MOVED = 0.8  # share of a class's examples that one other class gets
_EXAMPLES_OF_CHANCE = 2  # so many more wrong answers prove nothing on any number of examples
_WORTH_SAYING = 0.01  # a loss of accuracy of one point


def compare(expected, found, labels, served, limit):
    """Accuracy of the Keras student and of its export.

    Args:
        expected, found: probabilities (n, ..., classes) of the Keras student and of the export.
        labels: class numbers (n, ...), one-hot or independent labels (n, ..., classes).
        served: the student; its task says how labels are read.
        limit: the greatest share of examples by which the export's accuracy may be lower.

    Returns:
        dict: "keras_accuracy", "accuracy", "labelled" (how many labels).

    Raises:
        ValueError: labels that do not fit, or that stand in another order than the classes.
        ExportCheckError: the accuracy falls by more than `limit`.
    """
    truth = _truth(labels, expected, served)
    own, its = (_answers(p, served.task) == truth for p in (expected, found))
    if served.task in ("classes", "binary"):
        require_order(expected.argmax(-1), truth, served.labels)
    figures = {
        "keras_accuracy": float(own.mean()),
        "accuracy": float(its.mean()),
        "labelled": int(truth.size),
    }
    said = require_small_drop("the export", own, its, limit)
    if said:
        warnings.warn(said, category=ExportWarning, stacklevel=3)
    return figures


def require_small_drop(name, own, its, limit):
    """A loss of accuracy against the Keras student, in words; beyond the limit it is an error.

    Args:
        name: of the export.
        own, its: arrays of bool: where the Keras student and the export are right.
        limit: the greatest share that may be lost; None for any.

    Returns:
        The words, "" where nothing worth saying is lost.
    """
    lost = int(own.sum()) - int(its.sum())
    drop, beyond = lost / own.size, limit is not None and lost > limit * own.size + 1e-9
    if lost <= _EXAMPLES_OF_CHANCE or not (beyond or drop >= _WORTH_SAYING):
        return ""
    said = (
        f"The accuracy of {name} is {its.mean():.2%} on {own.size} labelled examples, that of the "
        f"Keras student {own.mean():.2%}: {100 * drop:.2f} points are lost"
    )
    if beyond:
        raise ExportCheckError(
            f"{said}, and at most {100 * limit:.2f} may be. For int8, calibrate with more images "
            "drawn from the training data, in the range that the student was trained on; or export "
            "as dynamic or float16."
        )
    return f"{said}."


def _truth(labels, expected, served):
    """Labels in the form of `_answers`."""
    labels, shape = np.asarray(labels), expected.shape
    if labels.dtype.kind not in "biuf":
        raise ValueError(f"Labels must be numbers, got the dtype {labels.dtype}.")
    if served.task == "labels":
        if labels.shape != shape:
            raise ValueError(
                f"The labels have the shape {labels.shape}; independent labels are given as 0 and "
                f"1, shape {shape}."
            )
        return labels > 0.5
    if labels.shape == shape and shape[-1] > 1 and np.all(labels.sum(-1) == 1):
        labels = labels.argmax(-1)
    labels = labels[..., 0] if labels.shape == (*shape[:-1], 1) else labels
    if labels.shape != shape[:-1]:
        raise ValueError(
            f"The labels have the shape {labels.shape}; class numbers of the shape {shape[:-1]} "
            "are expected."
        )
    if labels.min() < 0 or labels.max() >= shape[-1] or (labels != np.round(labels)).any():
        raise ValueError(
            f"The labels run from {labels.min():g} to {labels.max():g}; the student's {shape[-1]} "
            f"classes have the numbers 0 to {shape[-1] - 1}."
        )
    return labels.astype("int64")


def _answers(probabilities, task):
    return probabilities > 0.5 if task == "labels" else probabilities.argmax(-1)


def require_order(predicted, truth, names):
    """Finds labels that stand in another order than the student's classes.

    Args:
        predicted, truth: class numbers, of the same shape.
        names: of the classes.

    Raises:
        ValueError: they do for half of the examples; a warning says so of fewer.
    """
    counts = np.zeros((len(names), len(names)), int)
    np.add.at(counts, (truth.ravel(), predicted.ravel()), 1)
    totals = counts.sum(axis=1)
    place = linear_sum_assignment(-counts)[1]
    moved = {
        int(row)
        for row, column in enumerate(place)
        if row != column and totals[row] >= _LEAST and counts[row, column] >= _MOVED * totals[row]
    }
    while broken := {row for row in moved if place[row] not in moved}:
        moved -= broken
    if not moved:
        return
    pairs = ", ".join(f'"{names[row]}" as "{names[place[row]]}"' for row in sorted(moved)[:6])
    said = (
        f"The labels stand in another order than the student's classes: it answers nearly all "
        f"examples labelled {pairs}. Give labels, and their names, in the order in which the "
        "student was trained."
    )
    if totals[sorted(moved)].sum() >= truth.size / 2:
        raise ValueError(said)
    warnings.warn(said, category=ExportWarning, stacklevel=4)
