"""Range, Choice and the quantities they are given for."""

import math

import keras_tuner
import pytest

from tfkd.settings import DistillSettings
from tfkd.tuning import Choice, Range, spaces


@pytest.mark.parametrize(
    ("space", "baseline", "first"),
    [
        (Range(0.0, 1.0), 0.1, 0.1),
        (Range(0.3, 1.0), 0.1, 0.3),
        (Range(1, 3), 4.0, 3.0),
        (Range(0.0, 1.0, default=0.6), 0.1, 0.6),
        (Choice([0.5, 0.1]), 0.1, 0.1),
        (Choice([0.5, 0.2]), 0.1, 0.5),
        (Choice([0.5, 0.2], default=0.2), 0.1, 0.2),
    ],
)
def test_a_search_begins_at_the_baseline_or_near_it(space, baseline, first):
    hp = keras_tuner.HyperParameters()
    assert space.first(baseline) == space.declare(hp, "weight", baseline) == first
    assert hp.space[0].default == first


@pytest.mark.parametrize("space", [Range(0.0, 1.0, name="hints"), Choice([0.2, 1.0], name="hints")])
def test_quantities_with_spaces_of_one_name_share_a_value(space):
    hp = keras_tuner.HyperParameters()
    space.declare(hp, "weight_1", 0.5)
    hp.values["hints"] = 0.2
    assert space.declare(hp, "weight_2", 0.5) == 0.2
    assert [own.name for own in hp.space] == ["hints"]


def test_a_logarithmic_range_spreads_factors_evenly():
    hp = keras_tuner.HyperParameters()
    Range(1, 16, log=True).declare(hp, "temperature", 4.0)
    assert hp.space[0].prob_to_value(0.5) == pytest.approx(4.0)  # the geometric mean


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Range(2, 1), "low must be less than high"),
        (lambda: Range(1, 1), "low must be less than high"),
        (lambda: Range(0, 1, log=True), "low must be greater than 0"),
        (lambda: Range(0, math.inf), "finite"),
        (lambda: Range("0", 1), "finite number"),
        (lambda: Range(0, 1, default=2), "between 0 and 1"),
        (lambda: Choice([1.0]), "two different values"),
        (lambda: Choice([1.0, 1.0, 2.0]), "two different values"),
        (lambda: Choice([1.0, math.nan]), "finite"),
        (lambda: Choice([1.0, 2.0], default=3.0), "one of the values"),
        (lambda: spaces.TEMPERATURE.check(Range(0, 4)), "temperature must be greater than 0"),
        (lambda: spaces.STUDENT_LOSS_WEIGHT.check(1.5), "between 0 and 1"),
        (lambda: spaces.LOSS_WEIGHT.check(True), "finite number"),
    ],
)
def test_what_cannot_be_searched(make, words):
    with pytest.raises(ValueError, match=words):
        make()


def test_baselines_are_the_defaults_of_tfkd_distill():
    settings = DistillSettings()
    assert spaces.STUDENT_LOSS_WEIGHT.baseline == settings.student_loss_weight
    assert spaces.SOFTNESS.baseline == settings.softness
    assert spaces.LEARNING_RATE.baseline == settings.learning_rate
    assert spaces.LOSS_WEIGHT.baseline == settings.logits_weight
