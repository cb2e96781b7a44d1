"""Mean average precision on examples worked by hand."""

import math

import numpy as np
import pytest

from tfkd.evaluation import mean_average_precision, suppressed
from tfkd.evaluation.detections import overlaps

SQUARE = (10, 10, 8, 8, 0)
OTHER = (30, 30, 8, 8, 0)


def rows(*labels):
    return np.array([(*box, kind) for box, kind in labels], float)


def answer(*detections):
    box, scores, kinds = zip(*detections, strict=True) if detections else ((), (), ())
    return np.array(box, float).reshape(-1, 5), np.array(scores), np.array(kinds)


@pytest.mark.parametrize("rotated", [False, True], ids=["upright", "turned"])
def test_one_wrong_between_two_right(rotated):
    # From the highest score down: right, wrong, right. Up to recall 1/2 (51 of 101 points) the
    # precision is 1, above it 2/3; at every overlap, for the right ones are exact.
    truth = [rows((SQUARE, 0), (OTHER, 0))]
    wrong = (50, 50, 8, 8, 0)
    found = [answer((SQUARE, 0.9, 0), (wrong, 0.8, 0), (OTHER, 0.7, 0))]
    wanted = (51 + 50 * 2 / 3) / 101
    figures = mean_average_precision(truth, found, 2, rotated)
    assert figures == pytest.approx({"map50": wanted, "map": wanted})


def test_an_overlap_of_six_tenths_counts_at_three_of_ten_thresholds():
    # Moved by a quarter of its width: 6 of 10 parts are shared.
    truth = [rows((SQUARE, 1)), np.full((3, 6), -1.0)]
    found = [answer(((12, 10, 8, 8, 0), 0.9, 1)), answer()]
    figures = mean_average_precision(truth, found, 3)
    assert figures == pytest.approx({"map50": 1.0, "map": 0.3})


def test_a_box_found_across_its_length_is_not_found_where_turns_count():
    truth = [rows(((20, 20, 16, 4, 0), 0))]
    found = [answer(((20, 20, 16, 4, math.pi / 2), 0.9, 0))]
    assert mean_average_precision(truth, found, 1, rotated=True)["map50"] == 0
    upright = mean_average_precision(truth, found, 1)["map50"]  # its sides are the same
    assert upright == pytest.approx(1)


def test_nothing_near_a_turned_box_is_nothing_found():
    truth, found = [rows((SQUARE, 0))], [answer((OTHER, 0.9, 0))]
    assert mean_average_precision(truth, found, 1, rotated=True) == {"map50": 0, "map": 0}


def test_no_box_at_all_is_refused():
    with pytest.raises(ValueError, match="No image has a box"):
        mean_average_precision([np.full((2, 6), -1.0)], [answer()], 2)


def test_overlaps_of_turned_boxes_by_hand():
    first = np.array([(0, 0, 1, 1, 0), (0, 0, 4, 2, 0)])
    second = np.array([(0, 0, 1, 1, math.pi / 4), (0, 0, 4, 2, math.pi / 2), (9, 9, 1, 1, 0)])
    octagon = 2 * (math.sqrt(2) - 1)
    wanted = [
        [octagon / (2 - octagon), 1 / 8, 0],
        [1 / 8, 4 / (8 + 8 - 4), 0],
    ]
    np.testing.assert_allclose(overlaps(first, second), wanted, atol=1e-12)


def test_suppression_keeps_the_best_of_each_place():
    turned = np.array([SQUARE, (11, 10, 8, 8, 0), OTHER, SQUARE], float)
    assert suppressed(turned, np.array([0.5, 0.9, 0.3, 0.1]), 0.5).tolist() == [1, 2]
    assert suppressed(turned[:0], np.zeros(0), 0.5).tolist() == []
