"""How much each of several teachers counts, for each example: weights that sum to 1.

All take the members' logits, float tensor, shape (batch, members, classes), of one class of many,
and give a tensor of shape (batch, members). A single member has weight 1.
"""

from collections.abc import Callable, Mapping

import numpy as np
import tensorflow as tf
from keras import ops

from tfkd import validation
from tfkd.losses.classes import label_classes


def confidence(logits, targets):
    """The less a member errs on the label, the more: (1 - softmax of the losses) / (members - 1).

    Zhang et al. 2022, "Confidence-Aware Multi-Teacher Knowledge Distillation" (CA-MKD),
    arXiv:2201.00007; the softmax over the members is that of their cross-entropies.

    Args:
        logits: see above.
        targets: float tensor, shape (batch, classes), rows that sum to 1: labels as one-hot rows.
    """
    losses = -ops.sum(targets[:, None] * ops.log_softmax(logits), axis=-1)
    return _complement(ops.softmax(losses, axis=1))


def entropy(logits):
    """The surer a member is, the more: (1 - its share of the entropies) / (members - 1).

    Kwon et al. 2020, "Adaptive Knowledge Distillation Based on Entropy" (EBKD), as the authors of
    CA-MKD compute it, there without the division. Members that are all quite sure weigh the same.
    """
    logs = ops.log_softmax(logits)
    entropies = -ops.sum(ops.exp(logs) * logs, axis=-1)
    return _complement(_shares(entropies))


def correct(logits, targets):
    """Only members whose likeliest class is the label's, alike; all of them where none is right.

    Arguments as in `confidence`.
    """
    right = ops.equal(ops.argmax(logits, axis=-1), ops.argmax(targets, axis=-1)[:, None])
    return _shares(ops.cast(right, logits.dtype))


def _complement(shares):
    members = shares.shape[1]
    return (1.0 - shares) / (members - 1) if members > 1 else ops.ones_like(shares)


def _shares(values):
    """Values >= 0 as shares of their sum over the members; equal ones where the sum is 0."""
    total = ops.sum(values, axis=1, keepdims=True)
    return ops.where(total > 0, values / ops.where(total > 0, total, 1.0), 1.0 / values.shape[1])


WEIGHINGS = {"confidence": confidence, "entropy": entropy, "correct": correct}
OF_LABELS = ("confidence", "correct")


def weights_of(weights, logits, labels):
    """Weights of the members for each example, float32, shape (batch, members).

    Args:
        weights: what `checked` gave.
        logits: float32 tensor, shape (batch, members, ...).
        labels: of the examples, where `weights` is one of `OF_LABELS`.
    """
    members = logits.shape[1]
    if not isinstance(weights, str):
        numbers = np.asarray(weights or [1.0] * members, "float64")
        shares = tf.constant(numbers / numbers.sum(), tf.float32)
        return tf.broadcast_to(shares, (tf.shape(logits)[0], members))
    if weights not in OF_LABELS:
        return WEIGHINGS[weights](logits)
    return WEIGHINGS[weights](logits, _targets(labels, logits.shape[-1], f'weights="{weights}"'))


def checked(weights, members):
    """The weights as they are kept: None, a name or a list of floats."""
    if weights is None or (isinstance(weights, str) and weights in WEIGHINGS):
        return weights
    numbers = None if isinstance(weights, str | Mapping | Callable) else np.asarray(weights)
    if numbers is None or numbers.ndim != 1 or numbers.dtype.kind not in "fiu":
        raise ValueError(
            f"weights must be None, one of {sorted(WEIGHINGS)}, or a number for each member of the "
            f"Ensemble; got {weights!r}."
        )
    if len(numbers) != len(members):
        raise ValueError(
            f"weights hold {len(numbers)} numbers for {len(members)} members of the Ensemble "
            f"({', '.join(members)}). Give one for each, in their order."
        )
    if not np.isfinite(numbers).all() or (numbers < 0).any() or not numbers.any():
        raise ValueError(
            f"weights of an Ensemble must be finite, at least 0 and not all 0; got {weights!r}."
        )
    return [float(number) for number in numbers]


def _targets(labels, classes, reader):
    """Labels, integers or rows of shares, as rows that sum to 1: float32, (batch, classes)."""
    labels = tf.convert_to_tensor(labels)
    if len(labels.shape) != 2 or labels.shape[-1] != classes:
        return tf.one_hot(label_classes(labels, classes, reader), classes)
    rows = tf.cast(labels, tf.float32)
    return validation.one_label(rows, reader)
