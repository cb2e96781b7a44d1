"""How trials are handed out: the first, the last, and after a kill."""

from types import SimpleNamespace

import keras_tuner
import pytest

from tfkd import tuning
from tfkd.runs import SearchSettings
from tfkd.runs.search.oracle import keep_within

SPACE = {"temperature": [4.0, 1.0, 8.0], "student_width": [0.25, 0.5]}


def oracle(kind, directory, **arguments):
    space = keras_tuner.HyperParameters()
    for name, values in SPACE.items():
        space.Choice(name, values, default=values[0])
    made = kind(keras_tuner.Objective("val_accuracy", "max"), hyperparameters=space, **arguments)
    made._set_project_dir(str(directory), "trials")
    return tuning.baseline_first(SimpleNamespace(oracle=made)).oracle


def finished(made, most):
    """Values of up to `most` trials that are handed out and end one after the other."""
    values = []
    for _ in range(most):
        trial = made.create_trial("tuner0")
        if trial.status == "STOPPED":
            break
        values.append(trial.hyperparameters.values)
        made.update_trial(trial.trial_id, {"val_accuracy": 0.5})
        trial.status = "COMPLETED"
        made.end_trial(trial)
    return values


KINDS = {
    "random": keras_tuner.oracles.RandomSearchOracle,
    "bayesian": keras_tuner.oracles.BayesianOptimizationOracle,
    "grid": keras_tuner.oracles.GridSearchOracle,
}


@pytest.mark.parametrize("name", KINDS)
def test_begun_with_the_defaults_killed_and_continued_to_the_same_trials(name, tmp_path):
    settings = SearchSettings(trials=6)

    def made(directory):
        new = oracle(KINDS[name], directory, max_trials=6, seed=1)
        return new, keep_within(new, settings, 0)

    undisturbed, over = made(tmp_path / "a")
    expected = finished(undisturbed, 99)
    assert expected[0] == {"temperature": 4.0, "student_width": 0.25}
    assert len({tuple(values.values()) for values in expected}) == len(expected) == 6
    assert over()

    killed, over = made(tmp_path / "b")
    first = finished(killed, 3)
    lost = killed.create_trial("tuner0").hyperparameters.values  # under way when it was killed
    assert not over()
    again = oracle(KINDS[name], tmp_path / "b", max_trials=6, seed=1)
    again.reload()
    over = keep_within(again, settings, 0)
    rest = finished(again, 99)
    assert rest[0] == lost
    assert [*first, *rest] == expected
    assert over()
    done = oracle(KINDS[name], tmp_path / "b", max_trials=6, seed=1)
    done.reload()  # of what a chief leaves that is killed after the last trial
    assert keep_within(done, settings, 0)()


def test_no_trial_is_begun_after_the_time_but_those_begun_are_finished(tmp_path):
    settings = SearchSettings(trials=6, time_budget=10)
    made = oracle(KINDS["random"], tmp_path, max_trials=6, seed=1)
    over = keep_within(made, settings, seconds_spent=11)
    trial = made.create_trial("tuner0")
    assert trial.status == "RUNNING"  # the first one always is: there must be a result
    assert made.create_trial("tuner1").status == "STOPPED"
    assert not over() and made.create_trial("tuner0").trial_id == trial.trial_id
    made.update_trial(trial.trial_id, {"val_accuracy": 0.5})
    trial.status = "COMPLETED"
    made.end_trial(trial)
    assert over() and made.create_trial("tuner0").status == "STOPPED"
