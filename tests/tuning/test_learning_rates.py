"""An optimizer that follows the learning rate."""

import keras
import pytest

from tfkd.tuning.learning_rates import Rate

schedules, optimizers = keras.optimizers.schedules, keras.optimizers


class Plain(schedules.LearningRateSchedule):
    """Computes with plain numbers: a tensor has no place in `max`."""

    def __init__(self, rate):
        self.rate = rate

    def __call__(self, step):
        return max(self.rate, 1e-3) if float(self.rate) else 0.0

    def get_config(self):
        return {"rate": self.rate}


@pytest.mark.parametrize(
    "make",
    [
        optimizers.Adam,
        lambda rate: optimizers.SGD(rate, momentum=0.9),
        lambda rate: optimizers.Adam(schedules.CosineDecay(rate, 10)),
        lambda rate: optimizers.Adam(
            schedules.CosineDecay(rate / 10, 10, warmup_target=rate, warmup_steps=4)
        ),
        lambda rate: optimizers.SGD(schedules.PolynomialDecay(rate, 10, rate / 100)),
    ],
)
def test_follows_as_if_made_anew(make):
    rate = Rate(make, 0.1, 0.2)
    assert rate.reaches(0.03)
    rate.set(0.03)
    anew = make(0.03)
    for step in (0, 1, 5, 20):
        rate.optimizer.iterations.assign(step)
        anew.iterations.assign(step)
        assert float(rate.optimizer.learning_rate) == pytest.approx(
            float(anew.learning_rate), rel=1e-6
        )


@pytest.mark.parametrize(
    "make",
    [
        lambda rate: optimizers.Adam(Plain(rate)),
        lambda rate: optimizers.AdamW(rate, weight_decay=rate / 10),
        lambda rate: optimizers.SGD(lambda: rate),
        lambda rate: optimizers.SGD(schedules.PiecewiseConstantDecay([5], [rate, rate / 10])),
    ],
)
def test_reaches_one_rate_only_where_more_depends_on_it(make):
    rate = Rate(make, 0.1, 0.2)
    assert rate.reaches(0.1) and not rate.reaches(0.2)
    rate.set(0.1)
    assert float(rate.optimizer.learning_rate) == pytest.approx(0.1)


def test_what_is_no_optimizer_is_refused():
    with pytest.raises(ValueError, match="returns a Keras optimizer"):
        Rate(lambda rate: rate, 0.1)
