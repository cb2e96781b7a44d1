"""The temperature that calibrates: closed forms, a grid search and the edges."""

import numpy as np
import pytest

from tfkd.evaluation import fitted_temperature, quality


def two_classes(logit, right=3, wrong=1):
    """Logits (z, 0) of which a share of right / (right + wrong) has label 0."""
    labels = np.array([0] * right + [1] * wrong)
    return np.tile([logit, 0.0], (len(labels), 1)), labels


@pytest.mark.parametrize("logit", [0.1, 3.0, 20.0])
def test_two_classes_have_a_closed_form(logit):
    """The best confidence is the share that is right, 3/4, so z / T = ln 3."""
    logits, labels = two_classes(logit)
    temperature = fitted_temperature(logits, labels)
    assert temperature == pytest.approx(logit / np.log(3), rel=1e-7)
    assert quality(logits / temperature, labels)["calibration_error"] == pytest.approx(0, abs=1e-7)
    assert fitted_temperature(logits[:, :1] * [[-1.0]], labels) == pytest.approx(temperature)


def test_no_temperature_of_a_grid_is_better():
    generator = np.random.default_rng(3)
    labels = generator.integers(0, 5, 400)
    logits = generator.normal(size=(400, 5)) + 1.5 * np.eye(5)[labels]
    grid = np.exp(np.linspace(np.log(0.05), np.log(20), 3000))
    exponents = np.exp(logits[None] / grid[:, None, None])
    own = exponents[:, np.arange(400), labels] / exponents.sum(axis=2)
    best = grid[np.log(own).mean(axis=1).argmax()]
    assert fitted_temperature(logits, labels) == pytest.approx(best, rel=2e-3)
    # Logits that are c times as large need c times the temperature; a shift changes nothing.
    shift = generator.normal(size=(400, 1))
    assert fitted_temperature(7 * logits + shift, labels) == pytest.approx(7 * best, rel=2e-3)


@pytest.mark.parametrize(
    ("logits", "labels", "expected"),
    [
        (*two_classes(5.0, right=4, wrong=0), 1.0),  # falls until T = 0: not told
        (np.full((6, 3), 2.5), np.array([0, 1, 2, 0, 1, 2]), 1.0),  # equal: any T is as good
        (*two_classes(2.0, right=2, wrong=2), 100.0),  # no better than chance: infinite
        (*two_classes(2.0, right=1, wrong=3), 100.0),
        (*two_classes(0.001), 0.01),  # 0.001 / ln 3 is below the bound
        (*two_classes(1000.0), 100.0),  # 1000 / ln 3 is above it
    ],
)
def test_the_edges(logits, labels, expected):
    assert fitted_temperature(logits, labels) == expected


def test_what_cannot_be_scored_cannot_be_fitted():
    with pytest.raises(ValueError, match="not finite for 1 of 2"):
        fitted_temperature(np.array([[np.nan, 0.0], [1.0, 0.0]]), np.array([0, 1]))
