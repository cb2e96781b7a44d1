"""Figures worked out by hand."""

import numpy as np
import pytest

from tfkd.evaluation import quality, reliability


def from_probabilities(first):
    """Two-class logits whose softmax gives the first class these probabilities."""
    first = np.array(first)
    return np.log(np.stack([first, 1 - first], axis=1))


def test_accuracy_and_cross_entropy():
    # Probabilities of the right class: 3/4 and 1/4, so -(ln 3/4 + ln 1/4) / 2.
    figures = quality(np.log([[3.0, 1.0], [1.0, 3.0]]), np.array([0, 0]))
    assert figures["accuracy"] == 0.5
    assert figures["cross_entropy"] == pytest.approx(0.8369882167858358, abs=1e-12)
    assert set(figures) == {"accuracy", "cross_entropy", "calibration_error"}


def test_a_large_cross_entropy_is_neither_clipped_nor_infinite():
    figures = quality(np.array([[1000.0, 0.0]], np.float32), np.array([1]))
    assert figures["cross_entropy"] == 1000.0


def test_one_logit_is_a_sigmoid():
    figures = quality(np.log([[3.0], [1 / 3]]), np.array([1, 1]))
    assert figures["accuracy"] == 0.5
    assert figures["cross_entropy"] == pytest.approx(0.8369882167858358, abs=1e-12)
    assert quality(np.array([[-40.0]]), np.array([1]))["cross_entropy"] == 40.0


def test_calibration_error_of_three_bins():
    # (14/15, 1]: confidence 0.95, 1 of 2 right, gap 0.45. (9/15, 10/15]: mean confidence 0.63,
    # 1 of 2 right, gap 0.13. (7/15, 8/15]: confidence 0.52, right, gap 0.48.
    logits = from_probabilities([0.95, 0.95, 0.62, 0.64, 0.52])
    labels = np.array([0, 1, 0, 1, 0])
    expected = (2 * 0.45 + 2 * 0.13 + 1 * 0.48) / 5
    assert quality(logits, labels)["calibration_error"] == pytest.approx(expected, abs=1e-12)


def test_a_calibrated_model_has_no_calibration_error():
    labels = np.array([0] * 8 + [1] * 2)
    figures = quality(from_probabilities([0.8] * 10), labels)
    assert figures["calibration_error"] == pytest.approx(0, abs=1e-12)


def test_agreement_is_the_share_of_equal_first_choices():
    student = np.eye(3)[[0, 1, 1, 2]]
    teacher = 5 * np.eye(3)[[0, 1, 2, 2]]
    assert quality(student, np.array([1, 1, 1, 1]), teacher)["agreement"] == 0.75


@pytest.mark.parametrize(
    ("logits", "labels", "message"),
    [
        (np.zeros((2, 3)), np.array([0, 3]), "labels from 0 to 2"),
        (np.zeros((2, 3)), np.array([-1, 0]), "labels run from -1 to 0"),
        (np.zeros((2, 1)), np.array([0, 2]), "2 classes need labels from 0 to 1"),
        (np.zeros((2, 3)), np.zeros((2, 3), int), "one-hot"),
        (np.zeros((3, 3)), np.array([0, 1]), r"\(3, 3\); expected"),
        (np.zeros((0, 3)), np.zeros(0, int), "at least one"),
        (np.array([[0.0, 1.0], [np.nan, 1.0]]), np.array([0, 1]), "1 of 2 .* number 1"),
    ],
)
def test_bad_input_is_named(logits, labels, message):
    with pytest.raises(ValueError, match=message):
        quality(logits, labels)


def test_a_teacher_of_other_classes_is_refused():
    with pytest.raises(ValueError, match="2 classes, teacher_logits of 3"):
        quality(np.zeros((4, 2)), np.zeros(4, int), np.zeros((4, 3)))


def test_the_bins_of_a_reliability_diagram():
    # As above: one example in (7/15, 8/15], two in (9/15, 10/15], two in (14/15, 1].
    logits = from_probabilities([0.95, 0.95, 0.62, 0.64, 0.52])
    bins = reliability(logits, np.array([0, 1, 0, 1, 0]))
    assert bins["count"] == [0] * 7 + [1, 0, 2, 0, 0, 0, 0, 2]
    assert [bins["accuracy"][n] for n in (7, 9, 14)] == [1.0, 0.5, 0.5]
    assert [bins["confidence"][n] for n in (7, 9, 14)] == pytest.approx([0.52, 0.63, 0.95])
    assert bins["accuracy"][0] == bins["confidence"][0] == 0.0
