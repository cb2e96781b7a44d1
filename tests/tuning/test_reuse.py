"""What lets trials share one compiled Distiller: recorded questions, an adjustable optimizer."""

import keras
import keras_tuner
import pytest

from tfkd.tuning.reuse import (
    AdjustableOptimizer,
    AskedHyperparameters,
    uses_global_generator,
)

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
    rate = AdjustableOptimizer(make, 0.1, 0.2)
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
    rate = AdjustableOptimizer(make, 0.1, 0.2)
    assert rate.reaches(0.1) and not rate.reaches(0.2)
    rate.set(0.1)
    assert float(rate.optimizer.learning_rate) == pytest.approx(0.1)


def test_what_is_no_optimizer_is_refused():
    with pytest.raises(ValueError, match="returns a Keras optimizer"):
        AdjustableOptimizer(lambda rate: rate, 0.1)


def test_keras_forgets_its_global_generator_when_the_seed_is_set():
    keras.utils.set_random_seed(0)
    assert not uses_global_generator()
    keras.random.normal((2,), seed=keras.random.SeedGenerator(1))
    assert not uses_global_generator()
    first = keras.random.normal((2,))
    assert uses_global_generator()
    keras.utils.set_random_seed(0)
    assert not uses_global_generator()
    assert bool(keras.ops.all(keras.random.normal((2,)) == first))


def hyperparameters(**values):
    hp = keras_tuner.HyperParameters()
    hp.values = values
    return hp


def asked_by(hp, ask):
    recorded = AskedHyperparameters()
    values = hp.values
    with recorded.record(hp):
        ask(hp)
    assert hp.values is values and type(values) is dict
    return recorded


def test_what_was_asked_counts_and_nothing_else():
    recorded = asked_by(hyperparameters(width=8, weight=0.1), lambda hp: hp.Int("width", 4, 16))
    assert recorded.answers == {"width": 8}
    assert recorded.same_answers(hyperparameters(width=8, weight=0.7))
    assert not recorded.same_answers(hyperparameters(width=9))
    assert not recorded.same_answers(hyperparameters())
    assert not asked_by(hyperparameters(width=8), lambda hp: None)


def test_every_way_to_ask():
    ways = [
        lambda hp: hp.get("width"),
        lambda hp: hp["width"],
        lambda hp: "width" in hp,
        lambda hp: hp.values["width"],
        lambda hp: hp.values.get("width"),
        lambda hp: "width" in hp.values,
        lambda hp: dict(hp.values.items()),
        lambda hp: list(hp.values),
        lambda hp: hp.copy(),
    ]
    for ask in ways:
        assert "width" in asked_by(hyperparameters(width=8), ask).answers


def test_repeating_declares_what_asking_declared():
    def ask(hp):
        kind = hp.Choice("kind", ["plain", "dropped"])
        with hp.conditional_scope("kind", ["dropped"]):
            if kind == "dropped":
                hp.Float("rate", 0.1, 0.5)

    asked = hyperparameters(kind="dropped")
    recorded = asked_by(asked, ask)
    again = hyperparameters(kind="dropped", rate=0.1)
    assert recorded.same_answers(again)
    for _ in range(2):  # nothing is declared twice
        recorded.repeat(again)
    assert [p.get_config() for p in again.space] == [p.get_config() for p in asked.space]
    assert again.active_scopes[0] == asked.active_scopes[0] and not again.inactive_scopes
