"""The picture of any KerasTuner search: what was stopped early looks stopped."""

import keras
import keras_tuner
import pytest

from tfkd import tuning
from tfkd.tuning import picture
from tfkd.tuning.results import Executions

METRIC = "val_accuracy"


def row(name, accuracy, epochs, **values):
    seeds = [
        {
            "seed": 0,
            "epochs": epochs,
            "metrics": {METRIC: accuracy},
            "history": {METRIC: [accuracy]},
        }
    ]
    own = {"trial": name, "score": accuracy, "epochs": epochs, "values": values, "seeds": seeds}
    return {**own, "error": {METRIC: None}}


def marks(axes):
    """{trial's accuracy: whether its mark is hollow}."""
    return {
        line.get_ydata()[0]: line.get_markerfacecolor() == "white"
        for line in axes.lines
        if len(line.get_ydata())
    }


def test_stopped_trials_are_hollow_in_every_panel():
    rows = [row("0", 0.5, 9, rate=0.1), row("1", 0.75, 2, rate=0.01), row("2", 0.6, 9, rate=1.0)]
    rows.append({**row("3", None, 0, rate=0.2), "seeds": []})
    drawn = picture.figure(rows, METRIC, ["rate"], rows[0], rows[2])
    race, rate = (axes for axes in drawn.axes if axes.axison)
    assert marks(race) == marks(rate) == {0.5: False, 0.75: True, 0.6: False}
    assert (rate.get_xscale(), rate.get_xlabel()) == ("log", "rate")
    assert race.get_ylabel() == "validation accuracy"
    (legend,) = drawn.legends
    assert {text.get_text() for text in legend.get_texts()} == {
        "defaults (trial 0)",
        "trial, stopped after fewer epochs",
        "kept: trial 2",
    }


class Plain(keras_tuner.HyperModel):
    """A hypermodel that knows nothing of tfkd; nothing is trained."""

    def build(self, hp):
        hp.Float("rate", 1e-3, 1.0, sampling="log")
        hp.Choice("kind", ["a", "b"])
        return keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])

    def fit(self, hp, model, **settings):
        return {"val_loss": hp["rate"]}


def test_any_tuner_is_drawn_by_trials_and_values(tmp_path):
    made = keras_tuner.RandomSearch(
        Plain(), keras_tuner.Objective("val_loss", "min"), max_trials=3, directory=tmp_path, seed=0
    )
    with pytest.raises(ValueError, match="No trial in .* has ended with a val_loss yet"):
        tuning.plot(made)
    made.search(verbose=0)
    order, rate, kind = (axes for axes in tuning.plot(made).axes if axes.axison)
    values = [trial.hyperparameters["rate"] for trial in made.oracle.trials.values()]
    assert [line.get_xdata()[0] for line in order.lines] == [0, 1, 2]
    assert sorted(line.get_ydata()[0] for line in order.lines) == pytest.approx(sorted(values))
    assert rate.get_xscale() == "log" and kind.get_xscale() == "linear"
    assert not any(marks(rate).values())
    # With what a `DistillationHyperModel` keeps of each epoch.
    for number, trial in enumerate(made.oracle.trials.values()):
        history = {"val_loss": [trial.score + 1, trial.score][: 2 - number % 2]}
        kept = Executions(tmp_path / "untitled_project" / f"trial_{trial.trial_id}")
        kept.add(0, 7, history, 1.0, 9, epoch=len(history["val_loss"]))
    race, rate, _ = (axes for axes in tuning.plot(made).axes if axes.axison)
    assert [len(line.get_ydata()) for line in race.lines] == [2, 1, 2]
    assert list(marks(rate).values()) == [False, True, False]
