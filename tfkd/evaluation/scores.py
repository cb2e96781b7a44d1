"""How good a classifier's outputs are. NumPy in float64; no model, no TensorFlow."""

import numpy as np

CALIBRATION_BINS = 15


def quality(logits, labels, teacher_logits=None):
    """Score logits against labels, and against a teacher's logits.

    Args:
        logits: float array, shape (examples, classes), before softmax; or (examples, 1) from a
            one-logit binary head, before sigmoid.
        labels: integer array, shape (examples,), from 0.
        teacher_logits: the teacher's logits on the same examples, or None.

    Returns:
        dict of floats: `accuracy` (share from 0 to 1), `cross_entropy` (mean, nats),
        `calibration_error` (expected calibration error, 15 bins of equal width, from 0 to 1:
        Guo et al. 2017, eq. 3) and, with a teacher, `agreement` (share of examples on which both
        name the same class: Stanton et al. 2021).

    Raises:
        ValueError: shapes that do not fit, labels out of range, logits that are not finite.
    """
    logits, labels = checked(logits, labels)
    classes = logits.shape[1]
    log_probabilities = _log_softmax(logits)
    predicted = logits.argmax(axis=1)
    correct = predicted == labels
    confidence = np.exp(log_probabilities.max(axis=1))
    figures = {
        "accuracy": float(correct.mean()),
        "cross_entropy": float(-log_probabilities[np.arange(len(labels)), labels].mean()),
        "calibration_error": _calibration_error(confidence, correct),
    }
    if teacher_logits is not None:
        teacher = _two_or_more(_checked(teacher_logits, len(labels), "teacher_logits"))
        if teacher.shape[1] != classes:
            raise ValueError(
                f"logits are of {classes} classes, teacher_logits of {teacher.shape[1]}: the two "
                "models do not answer the same question."
            )
        figures["agreement"] = float((teacher.argmax(axis=1) == predicted).mean())
    return figures


def reliability(logits, labels):
    """How often a classifier is right where it is so sure: the bins of a reliability diagram.

    The bins are those of `quality`'s `calibration_error`, which is the mean distance of confidence
    and accuracy over them, weighted by their counts (Guo et al. 2017, figure 1).

    Args:
        logits, labels: as for `quality`.

    Returns:
        dict of lists, one value a bin of width 1/15: `count` (examples), `confidence` and
        `accuracy` (means from 0 to 1; 0 where there is no example).

    Raises:
        ValueError: as `quality`.
    """
    logits, labels = checked(logits, labels)
    confidence = np.exp(_log_softmax(logits).max(axis=1))
    bins, correct = _bins(confidence), logits.argmax(axis=1) == labels
    count = np.bincount(bins, minlength=CALIBRATION_BINS)
    sums = (np.bincount(bins, own, CALIBRATION_BINS) for own in (confidence, correct))
    confidence, accuracy = ((own / np.maximum(count, 1)).tolist() for own in sums)
    return {"count": count.tolist(), "confidence": confidence, "accuracy": accuracy}


def checked(logits, labels):
    """Logits in float64 with two columns or more, and their labels.

    A one-logit head z says what the two logits (0, z) say: softmax of them is sigmoid(z).

    Raises:
        ValueError: shapes that do not fit, labels out of range, logits that are not finite.
    """
    labels = np.asarray(labels)
    logits = _two_or_more(_checked(logits, len(labels), "logits"))
    classes = logits.shape[1]
    if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(
            f"labels have shape {labels.shape} and dtype {labels.dtype}; expected integers of "
            "shape (examples,). Turn one-hot labels into class numbers with argmax."
        )
    if labels.min() < 0 or labels.max() >= classes:
        raise ValueError(
            f"labels run from {labels.min()} to {labels.max()}, but logits of {classes} classes "
            f"need labels from 0 to {classes - 1}."
        )
    return logits, labels


def _checked(logits, examples, name):
    logits = np.asarray(logits, dtype=np.float64)
    if logits.ndim != 2 or len(logits) != examples or logits.size == 0:
        raise ValueError(
            f"{name} have shape {logits.shape}; expected (examples, classes) with as many examples "
            f"as labels ({examples}), and at least one."
        )
    broken = np.flatnonzero(~np.isfinite(logits).all(axis=1))
    if broken.size:
        raise ValueError(
            f"{name} are not finite for {broken.size} of {examples} examples (the first is number "
            f"{broken[0]}): the training diverged or the model's file is damaged. "
            "A lower learning rate or gradient clipping often cures the first."
        )
    return logits


def _two_or_more(logits):
    return np.hstack([np.zeros_like(logits), logits]) if logits.shape[1] == 1 else logits


def _log_softmax(logits):
    shifted = logits - logits.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


def _calibration_error(confidence, correct):
    """Mean gap between confidence and accuracy over bins ((m-1)/15, m/15], by their counts."""
    # |sum of correct - sum of confidence| of a bin is its count times its gap.
    gaps = np.bincount(_bins(confidence), weights=correct - confidence)
    return float(np.abs(gaps).sum() / len(confidence))


def _bins(confidence):
    """The bin, from 0, of each confidence."""
    edges = np.arange(1, CALIBRATION_BINS) / CALIBRATION_BINS
    return np.digitize(confidence, edges, right=True)
