"""A user's own model on data of his own: every figure counted by hand."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfkd import evaluation

# The model says the class of the largest input. Labels: 0 0 0 1 1 2; it says 0 0 1 1 1 0.
X = np.eye(3, dtype="float32")[[0, 0, 1, 1, 1, 0]] * 2
Y = np.array([0, 0, 0, 1, 1, 2])
CONFUSION = [[2, 1, 0], [0, 2, 0], [1, 0, 0]]


def identity(activation=None, units=3, name="own"):
    inputs = keras.Input((units,))
    eye = keras.initializers.Identity()
    dense = keras.layers.Dense(units, activation, kernel_initializer=eye, use_bias=False)
    return keras.Model(inputs, dense(inputs), name=name)


@pytest.fixture(scope="module")
def measured():
    return evaluation.report(identity(), (X, Y), ["cat", "d[o]g", "fish"], costs=False)


def test_figures_and_classes_are_those_counted_by_hand(measured):
    assert measured.confusion.tolist() == CONFUSION
    right, wrong = np.exp(2) / (np.exp(2) + 2), 1 / (np.exp(2) + 2)
    entropy = -(4 * np.log(right) + 2 * np.log(wrong)) / 6
    assert measured.figures == {
        "accuracy": pytest.approx(4 / 6),
        "cross_entropy": pytest.approx(entropy, rel=1e-6),
        "calibration_error": pytest.approx(right - 4 / 6, rel=1e-6),  # all in one bin
    }
    assert measured.classes == [
        {"name": "cat", "examples": 3, "predicted": 3, "accuracy": 2 / 3, "precision": 2 / 3},
        {"name": "d[o]g", "examples": 2, "predicted": 3, "accuracy": 1.0, "precision": 2 / 3},
        {"name": "fish", "examples": 1, "predicted": 0, "accuracy": 0.0, "precision": None},
    ]
    np.testing.assert_allclose(measured.probabilities[0], [right, wrong, wrong], rtol=1e-6)


def test_it_is_read_as_text_and_as_json(measured):
    lines = [line.split() for line in repr(measured).splitlines()]
    assert ["accuracy", "(%)", "66.7"] in lines
    worst = [line for line in lines if line[:1] in (["fish"], ["cat"], ["d[o]g"])]
    assert worst == [
        ["fish", "1", "0.0", "cat", "(1)"],
        ["cat", "3", "66.7", "66.7", "d[o]g", "(1)"],
        ["d[o]g", "2", "100.0", "66.7"],
    ]
    assert max(map(len, repr(measured).splitlines())) <= 80 and "\x1b" not in repr(measured)
    content = json.loads(json.dumps(measured.to_dict()))
    assert (content["examples"], content["confusion"]) == (6, CONFUSION)
    assert content["accuracy"] == measured.figures["accuracy"]


def test_probabilities_are_seen_through(measured):
    dataset = tf.data.Dataset.from_tensor_slices((X, Y)).batch(4)
    found = evaluation.report(identity("softmax"), dataset, costs=False)
    assert found.figures == pytest.approx(measured.figures, rel=1e-6)
    assert [own["name"] for own in found.classes] == ["0", "1", "2"]


def test_a_binary_head_tells_two_classes():
    x = np.array([[2.0], [-1.0], [3.0]], "float32")
    found = evaluation.report(identity("sigmoid", 1), (x, np.array([1, 0, 0])), costs=False)
    assert found.confusion.tolist() == [[1, 1], [0, 1]]
    assert found.probabilities[0, 1] == pytest.approx(1 / (1 + np.exp(-2)), rel=1e-5)


def test_costs_are_those_of_the_room(monkeypatch):
    monkeypatch.setattr(evaluation.costs, "SECONDS_PER_MODEL", 0.0)
    figures = evaluation.report(identity(), (X, Y)).figures
    assert (figures["parameters"], figures["multiply_adds"]) == (9, 9)
    assert figures["latency_ms"] > 0 and figures["file_bytes"] > 0


def twice(model):
    return keras.Model(model.input, [model.output, model.output])


@pytest.mark.parametrize(
    ("make", "options", "message"),
    [
        (lambda: identity("sigmoid"), {}, r"holds probabilities \(independent\); expected logits"),
        (identity, {"class_names": ["a", "b"]}, "2 names, but the model tells 3 apart"),
        (lambda: twice(identity()), {}, "expected one of shape"),
    ],
    ids=["independent", "names", "outputs"],
)
def test_what_is_no_classifier_is_refused(make, options, message):
    with pytest.raises(ValueError, match=message):
        evaluation.report(make(), (X, Y), costs=False, **options)
