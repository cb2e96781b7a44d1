"""The paired difference, its deviation and the sentence about it."""

import pytest

from tfkd.runs.report import best_seed, difference, difference_line, summary
from tfkd.runs.training import Outcome


def rows(alone, distilled):
    return {
        "student alone": [{"accuracy": value} for value in alone],
        "student distilled": [{"accuracy": value} for value in distilled],
    }


def test_the_difference_is_paired_by_seed():
    # Differences 0.01, 0.03, 0.02: mean 0.02, sample standard deviation 0.01.
    paired = difference(rows([0.90, 0.80, 0.85], [0.91, 0.83, 0.87]))
    assert paired["accuracy"] == pytest.approx([0.01, 0.03, 0.02])
    assert paired["mean"] == pytest.approx(0.02)
    assert paired["std"] == pytest.approx(0.01)
    assert "+2.00 ± 1.00 points" in difference_line(paired)


def test_a_loss_is_stated_like_a_gain():
    line = difference_line(difference(rows([0.9, 0.9], [0.88, 0.9])))
    assert "-1.00 ± 1.41 points of accuracy (-2.00, +0.00)" in line
    assert "one seed" in difference_line(difference(rows([0.9], [0.88])))


def test_one_value_has_no_deviation():
    result = summary(
        {"teacher": [{"accuracy": 0.5}], "student": [{"accuracy": 0.5}, {"accuracy": 0.7}]}
    )
    assert result["teacher"]["accuracy"] == {"mean": 0.5}
    assert result["student"]["accuracy"]["mean"] == pytest.approx(0.6)
    assert result["student"]["accuracy"]["std"] == pytest.approx(0.02**0.5)


def test_the_kept_seed_is_chosen_on_validation():
    outcomes = {
        0: Outcome({}, 1, 0.90, 0.30, 1.0),
        1: Outcome({}, 1, 0.95, 0.30, 1.0),
        2: Outcome({}, 1, 0.95, 0.20, 1.0),
    }
    assert best_seed(outcomes) == 2
