"""Whether a given teacher answers the question that the labels ask.

What checks the teacher is the labelled data, not the teacher: one that knows no more than chance,
or whose classes stand in another order, would teach nonsense without any error.
"""

import math

import numpy as np
from scipy.optimize import linear_sum_assignment

DEVIATIONS = 3.0  # that a difference must exceed to count as one
GO_ON = "Give the teacher of these data; or, if it is meant to be so, --any-teacher."


def check(name, logits, labels, label_names, own_names=None):
    """Refuses a teacher that the labels contradict.

    Args:
        name: of the teacher, for messages.
        logits: array (examples, classes), the teacher's.
        labels: integer array (examples,).
        label_names: of the data.
        own_names: of the data that the teacher was trained on, where they are known.

    Raises:
        ValueError: it knows no more than chance, or another order of the classes fits the labels.
    """
    if own_names is not None and tuple(own_names) != tuple(label_names):
        raise ValueError(
            f'The teacher "{name}" was trained on the classes {_few(own_names)}, but the data has '
            f"{_few(label_names)}. {GO_ON}"
        )
    classes, counts = logits.shape[1], np.zeros((logits.shape[1],) * 2)
    np.add.at(counts, (labels, logits.argmax(axis=1)), 1)
    order = fitting_order(counts)
    if order is not None:
        pairs = [
            f'output {output} is "{label_names[label]}"'
            for label, output in enumerate(order)
            if label != output
        ]
        shown = "; ".join(pairs[:10]) + ("; …" if len(pairs) > 10 else "")
        right = counts[np.arange(classes), order].sum() / counts.sum()
        raise ValueError(
            f'The teacher "{name}" is right on {100 * np.trace(counts) / counts.sum():.1f} % of '
            f"the labelled images as it stands, but on {100 * right:.1f} % if its classes are read "
            f"in another order: {shown}. Put its outputs, or the data's classes, in the same "
            f"order. {GO_ON}"
        )
    recall, chance, deviation = balanced_recall(counts)
    if recall <= chance + 2 * deviation:
        raise ValueError(
            f'The teacher "{name}" is right on {100 * recall:.1f} % of the labelled images '
            f"(each class counted alike), where guessing gives {100 * chance:.1f} %: there is "
            f"nothing to learn from it. Does it expect other pixels (scaled to 0..1, say)? {GO_ON}"
        )


def balanced_recall(counts):
    """(mean recall of the classes, its value by chance, the standard deviation of that).

    Args:
        counts: array (classes, classes), examples of each label and answer.
    """
    sizes = counts.sum(axis=1)
    there = sizes > 0
    chance = 1.0 / len(counts)
    recall = float((counts.diagonal()[there] / sizes[there]).mean())
    variance = chance * (1 - chance) * float((1 / sizes[there]).sum()) / there.sum() ** 2
    return recall, chance, math.sqrt(variance)


def by_chance(info):
    """The validation accuracy that guessing reaches, two standard deviations included.

    Args:
        info: `tfkd.data.DataInfo`.
    """
    chance = 1.0 / info.num_classes
    return chance + 2.0 * math.sqrt(chance * (1 - chance) / info.sizes["validation"])


def fitting_order(counts):
    """The order of outputs that fits the labels clearly better than 0, 1, 2, …; None if none does.

    Only what a new order would move is compared (McNemar's test on the moved classes), so that two
    exchanged classes of a hundred are found, and a weak teacher's confusions are not taken for an
    order.

    Returns:
        list, for each label the output that answers to it.
    """
    labels, outputs = linear_sum_assignment(counts, maximize=True)
    moved = labels[labels != outputs]
    as_it_stands = counts[moved, moved].sum()
    moved_right = counts[moved, outputs[moved]].sum()
    clear = moved_right - as_it_stands > DEVIATIONS * math.sqrt(moved_right + as_it_stands)
    # A teacher that knows these classes at all is right on most of them in the right order.
    known = moved_right > 0.5 * counts[moved].sum()
    return outputs.tolist() if len(moved) and clear and known else None


def _few(names):
    shown = ", ".join(f'"{name}"' for name in list(names)[:5])
    return shown + (f", … ({len(names)})" if len(names) > 5 else "")
