"""What can be seen before any student is trained: of the labels, and of a given teacher's answers.

What checks the teacher is the labelled data, not the teacher: one that knows no more than chance,
or whose classes stand in another order, would teach nonsense without any error.
"""

import math
from typing import NamedTuple

import numpy as np
from scipy.optimize import linear_sum_assignment

from tfkd import evaluation

DEVIATIONS = 3.0  # that a difference must exceed to count as one
# A teacher is said to be badly calibrated from this calibration error, or from so many times the
# cross-entropy that one temperature gives: one that is nearly always right has no large error.
LARGE_ERROR, LARGE_RATIO = 0.05, 1.25
GO_ON = "Give the teacher of these data; or, if it is meant to be so, --any-teacher."
# What is assumed of the students' accuracy, as long as nothing better is known.
ACCURACY = 0.9


class Finding(NamedTuple):
    """Something that was seen: a sentence or more on what, what it means and how to fix it.

    Attributes:
        text: for people.
        refused: whether the run is not begun because of it.
        waived: whether `any_teacher` has it begun all the same.
    """

    text: str
    refused: bool = False
    waived: bool = False


def settled(findings, any_teacher=False):
    """Texts of the findings with which a run is begun.

    Raises:
        ValueError: one of them is refused.
    """
    for finding in findings:
        if finding.refused and not (any_teacher and finding.waived):
            raise ValueError(f"{finding.text} {GO_ON}" if finding.waived else finding.text)
    return [finding.text for finding in findings]


def look(info, labels=None, answers=None, name=None, own_names=None):
    """What the validation split and, of a teacher that is given, its answers tell before training.

    Args:
        info: `tfkd.data.DataInfo`.
        labels: integer array (examples,), of the validation split.
        answers: array (examples, classes), the teacher's logits for it; without labels and answers
            (of a teacher that is still to be trained) only the split itself is looked at.
        name: of the teacher.
        own_names: of the classes that the teacher was trained on, where they are known.

    Returns:
        list of `Finding`; what makes others meaningless comes alone.
    """
    if answers is None:
        return _small_validation(info, ACCURACY)
    broken = _not_finite(name, answers, labels, info)
    if broken:
        return broken
    found = _other_classes(name, info, own_names) or _contradicted(name, answers, labels, info)
    found = found or _badly_calibrated(name, answers, labels)
    accuracy = float((answers.argmax(axis=1) == labels).mean())
    return found + _small_validation(info, min(ACCURACY, max(0.5, accuracy)))


def only_class(dataset):
    """The class of all of a dataset's examples; None where there are several.

    Args:
        dataset: unbatched `tf.data.Dataset` of (image, label); read until two labels differ.
    """
    seen = set()
    for labels in dataset.map(lambda image, label: label).batch(256).as_numpy_iterator():
        seen.update(labels.tolist())
        if len(seen) > 1:
            return None
    return seen.pop()


def require_classes(splits):
    """Refuses data of which the labels to learn, or to choose by, are all one class.

    Args:
        splits: `tfkd.data.Splits`.

    Raises:
        ValueError: they are.
    """
    info = splits.info
    for role, dataset in (("training", splits.train), ("validation", splits.validation)):
        label = only_class(dataset)
        if label is not None:
            size = info.sizes["train" if role == "training" else role]
            raise ValueError(
                f'All {size} {role} {info.things} of "{info.name}" are of one class, '
                f'"{info.label_names[label]}": there is nothing to tell apart. Look at the labels '
                f"(a folder of {info.things} has one folder a class), or, where there are more, "
                "raise the limit."
            )


def trained(name, accuracy, info):
    """What is seen of a teacher that the run trained.

    Args:
        name: of the teacher.
        accuracy: on the validation split.
        info: `tfkd.data.DataInfo`.

    Returns:
        list of `Finding`.
    """
    chance = 1.0 / info.num_classes
    if accuracy > limit_of_chance(info.num_classes, info.sizes["validation"]):
        return []
    text = (
        f'The teacher "{name}" is right on {100 * accuracy:.1f} % of the validation {info.things}, '
        f"where guessing gives {100 * chance:.1f} %: it can teach nothing. Train it for longer "
        "(--teacher-epochs), or with another learning rate."
    )
    return [Finding(text)]


def limit_of_chance(classes, examples):
    """The accuracy that guessing reaches, two standard deviations included."""
    chance = 1.0 / classes
    return chance + 2 * math.sqrt(chance * (1 - chance) / examples)


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


def images_needed(accuracy, difference=0.01):
    """How many images make a difference of two students' accuracies twice its standard error.

    The variance of the difference is at most that of two independent binomial shares, 2 p (1 - p) /
    n; on the same images it is smaller, for both students find the same ones hard.

    Args:
        accuracy: of both, from 0 to 1.
        difference: of their accuracies.
    """
    return math.ceil(2 * accuracy * (1 - accuracy) / (difference / 2) ** 2 - 1e-6)


def _not_finite(name, answers, labels, info):
    broken = ~np.isfinite(answers).all(axis=1)
    if not broken.any():
        return []
    hit, sizes = np.unique(labels[broken], return_counts=True)
    if broken.all():
        where = "all of them"
    elif len(hit) == 1:
        all_of_it = sizes[0] == (labels == hit[0]).sum()
        where = f'all of the class "{info.label_names[hit[0]]}"'
        where += f" (every {info.things.removesuffix('s')} of it)" * bool(all_of_it)
    else:
        where = f"of {len(hit)} of {info.num_classes} classes"
    text = (
        f'The answers of the teacher "{name}" are not finite (NaN or infinity) for {broken.sum()} '
        f"of {len(labels)} validation {info.things}, {where}: students would become the same. It "
        "diverged in training, or computes something that overflows or divides by 0 for such "
        f"{info.things}. Look at its layers and its weights, or train it anew with a lower "
        "learning rate."
    )
    return [Finding(text, refused=True)]


def _other_classes(name, info, own_names):
    if own_names is None or tuple(own_names) == tuple(info.label_names):
        return []
    text = (
        f'The teacher "{name}" was trained on the classes {_few(own_names)}, but the data has '
        f"{_few(info.label_names)}."
    )
    return [Finding(text, refused=True, waived=True)]


def _contradicted(name, answers, labels, info):
    """Constant answers, another order of the classes, or no more than chance: the first of them."""
    if _constant(answers):
        flat = np.ptp(answers, axis=1).max() == 0
        thing = info.things.removesuffix("s")
        same = f"answers every {thing} alike"
        same = f"rates all classes alike for every {thing}" if flat else same
        text = (
            f'The teacher "{name}" {same}, so there is nothing to learn from '
            "it. Are its weights loaded, and does it expect other inputs (pixels scaled to 0..1, "
            "say)?"
        )
        return [Finding(text, refused=True, waived=True)]
    counts = np.zeros((answers.shape[1],) * 2)
    np.add.at(counts, (labels, answers.argmax(axis=1)), 1)
    order = fitting_order(counts)
    if order is not None:
        pairs = [
            f'output {output} is "{info.label_names[label]}"'
            for label, output in enumerate(order)
            if label != output
        ]
        shown = "; ".join(pairs[:10]) + ("; …" if len(pairs) > 10 else "")
        right = counts[np.arange(len(counts)), order].sum() / counts.sum()
        text = (
            f'The teacher "{name}" is right on {100 * np.trace(counts) / counts.sum():.1f} % of '
            f"the labelled {info.things} as it stands, but on {100 * right:.1f} % if its classes "
            f"are read in another order: {shown}. Put its outputs, or the data's classes, in the "
            "same order."
        )
        return [Finding(text, refused=True, waived=True)]
    recall, chance, deviation = balanced_recall(counts)
    if recall <= chance + 2 * deviation:
        text = (
            f'The teacher "{name}" is right on {100 * recall:.1f} % of the labelled {info.things} '
            f"(each class counted alike), where guessing gives {100 * chance:.1f} %: there is "
            "nothing to learn from it. Does it expect other inputs (pixels scaled to 0..1, say)?"
        )
        return [Finding(text, refused=True, waived=True)]
    return []


def _constant(answers):
    """Whether the classes' order of preference and its degree are the same for every image."""
    relative = answers - answers.max(axis=1, keepdims=True)
    # A constant answer may be computed with other roundings in another batch.
    return np.ptp(relative, axis=0).max() <= 1e-6 * np.abs(answers).max()


def _badly_calibrated(name, answers, labels):
    """Confidence that one temperature would better, beyond what chance explains."""
    temperature = evaluation.fitted_temperature(answers, labels)
    own = evaluation.quality(answers, labels)
    fitted = evaluation.quality(answers / temperature, labels)
    # The likelihood-ratio statistic of one parameter: squared standard deviations.
    ratio = 2 * len(labels) * (own["cross_entropy"] - fitted["cross_entropy"])
    costly = own["cross_entropy"] > LARGE_RATIO * fitted["cross_entropy"]
    if ratio < DEVIATIONS**2 or not (costly or own["calibration_error"] > LARGE_ERROR):
        return []
    too_sure = temperature > 1
    text = (
        f'The teacher "{name}" is {"too sure" if too_sure else "not sure enough"} of its answers: '
        f"on validation its cross-entropy is {own['cross_entropy']:.3f} nats and its calibration "
        f"error {100 * own['calibration_error']:.1f} %; with its logits divided by a temperature "
        f"of {temperature:.2f}, fitted there, {fitted['cross_entropy']:.3f} nats and "
        f"{100 * fitted['calibration_error']:.1f} %. The default targets have a softness of their "
        f"own; a fixed --temperature should be {'higher' if too_sure else 'lower'} for it."
    )
    return [Finding(text)]


def _small_validation(info, accuracy):
    """A validation split on which nothing, or no difference of a point, can be chosen."""
    size = info.sizes["validation"]
    if size < info.num_classes:
        text = (
            f'"{info.name}" has {size} validation {info.things} for {info.num_classes} classes: '
            f"epochs and settings cannot be chosen on fewer {info.things} than classes. Put more "
            "into the validation split, or into the training split that it is cut from; for a "
            f"difference of 1 point to be twice its standard error {images_needed(accuracy):,} are "
            "enough."
        )
        return [Finding(text, refused=True)]
    error = math.sqrt(2 * accuracy * (1 - accuracy) / size)
    if error <= 0.01:
        return []
    text = (
        f'"{info.name}" has {size} validation {info.things}: at an accuracy of '
        f"{100 * accuracy:.0f} % two students' difference has a standard error of up to "
        f"{100 * error:.1f} points, so which epoch or setting is best there is partly luck. For a "
        f"difference of 1 point to be twice its standard error {images_needed(accuracy):,} "
        f"{info.things} are enough; more --seeds help, too."
    )
    return [Finding(text)]


def _few(names):
    shown = ", ".join(f'"{name}"' for name in list(names)[:5])
    return shown + (f", … ({len(names)})" if len(names) > 5 else "")
