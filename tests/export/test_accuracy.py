"""Accuracies of an export and of its Keras student, by hand."""

import types

import numpy as np
import pytest

from tfkd.export import accuracy
from tfkd.export.errors import ExportCheckError

NAMES = ("cat", "dog", "fish", "owl")


def served(task, labels=NAMES):
    return types.SimpleNamespace(task=task, labels=labels)


def answers(classes, count=4):
    return np.eye(count)[np.asarray(classes)] * 0.7 + 0.1


def test_accuracies_by_hand():
    truth = [0, 1, 2, 3, 0]
    own, its = answers([0, 1, 2, 0, 1]), answers([0, 1, 1, 0, 1])
    expected = {"keras_accuracy": 0.6, "accuracy": 0.4, "labelled": 5}
    for labels in (truth, np.array(truth)[:, None], np.eye(4)[truth]):
        assert accuracy.compare(own, its, labels, served("classes"), 0.5) == expected
    tags, p = np.array([[1, 0], [1, 1], [0, 0]]), np.array([[0.9, 0.6], [0.2, 0.7], [0.1, 0.4]])
    assert accuracy.compare(p, p, tags, served("labels"), 0.0)["accuracy"] == pytest.approx(4 / 6)
    maps, places = answers([[0, 1], [2, 3]]), np.array([[0, 1], [2, 2]])
    found = accuracy.compare(maps, maps, places, served("classes"), 0.0)
    assert (found["accuracy"], found["labelled"]) == (0.75, 4)


def test_a_loss_of_accuracy_is_said_and_beyond_the_limit_it_is_an_error():
    truth = np.arange(100) % 4
    own, its = answers(truth), answers(np.where(np.arange(100) < 6, (truth + 1) % 4, truth))
    with pytest.warns(UserWarning, match="is 94.00% on 100 .* Keras student 100.00%: 6.00 points"):
        accuracy.compare(own, its, truth, served("classes"), 0.06)
    with pytest.raises(ExportCheckError, match="6.00 points are lost, and at most 5.00 may be"):
        accuracy.compare(own, its, truth, served("classes"), 0.05)
    # Two examples of twenty are no proof of anything; a gain is none of a loss.
    found = accuracy.compare(answers([0] * 20), answers([1] * 2 + [0] * 18), [0] * 20,
                             served("classes"), 0.0)  # fmt: skip
    assert found["accuracy"] == 0.9
    assert accuracy.compare(its, own, truth, served("classes"), 0.0)["accuracy"] == 1.0


def test_labels_in_another_order_are_found():
    predicted = np.arange(80) % 4
    for order, pairs in (
        ([1, 2, 3, 0], '"cat" as "owl", "dog" as "cat"'),
        ([1, 0, 3, 2], '"cat" as "dog", "dog" as "cat"'),
    ):
        with pytest.raises(ValueError, match=f"in another order .* labelled {pairs}"):
            labels = np.array(order)[predicted]
            accuracy.compare(*[answers(predicted)] * 2, labels, served("classes"), 0.0)
    two = np.where(predicted == 0, 1, np.where(predicted == 1, 0, predicted))
    two[:4] = predicted[:4]  # some are right all the same
    many = np.concatenate([predicted, np.full(60, 2)]), np.concatenate([two, np.full(60, 2)])
    with pytest.warns(UserWarning, match='labelled "cat" as "dog", "dog" as "cat"'):
        accuracy.compare(*[answers(many[0])] * 2, many[1], served("classes"), 0.0)
    # A student that is bad at a class, or always gives one, is not one of another order.
    for answer in (np.where(predicted == 1, 0, predicted), np.zeros(80, int)):
        accuracy.compare(*[answers(answer)] * 2, predicted, served("classes"), 0.0)
    flipped = 1 - np.arange(40) % 2
    with pytest.raises(ValueError, match='"no" as "yes"'):
        accuracy.compare(
            *[answers(flipped, 2)] * 2, np.arange(40) % 2, served("binary", ("no", "yes")), 0.0
        )


@pytest.mark.parametrize(
    "labels, task, message",
    [
        ([0, 4], "classes", "run from 0 to 4; the student's 4 classes have the numbers 0 to 3"),
        ([-1, 0], "classes", "run from -1 to 0"),
        ([0.5, 1], "classes", "run from 0.5"),
        ([[0, 1]], "classes", r"shape \(1, 2\); class numbers of the shape \(2,\)"),
        ([0, 1], "labels", r"independent labels are given as 0 and 1, shape \(2, 4\)"),
        (["cat", "dog"], "classes", "must be numbers"),
    ],
)
def test_labels_that_do_not_fit_are_refused(labels, task, message):
    with pytest.raises(ValueError, match=message):
        accuracy.compare(*[answers([0, 1])] * 2, labels, served(task), 0.0)
