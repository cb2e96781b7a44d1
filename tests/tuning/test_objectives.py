"""Which figures may choose between trials."""

import keras_tuner
import pytest

from tfkd.tuning import objective, objectives


@pytest.mark.parametrize(
    ("name", "direction"),
    [
        ("val_accuracy", "max"),
        ("val_teacher_agreement", "max"),
        ("val_top_5_accuracy", "max"),
        ("val_auc", "max"),
        ("val_cross_entropy", "min"),
        ("val_mean_squared_error", "min"),
        ("val_student_loss", "min"),
    ],
)
def test_the_name_tells_the_direction(name, direction):
    assert objective(name) == keras_tuner.Objective(name, direction)


def test_the_direction_can_be_said():
    assert objective("val_vigour", "max").direction == "max"
    with pytest.raises(ValueError, match='direction="max".* or direction="min"'):
        objective("val_vigour")
    with pytest.raises(ValueError, match='"max", "min" or None'):
        objective("val_vigour", "up")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("val_loss", "weighted sum of all losses"),
        ("val_total_loss", "weighted sum of all losses"),
        ("val_distillation_loss", "weighted sum of the distillation losses"),
        ("accuracy", 'training data.*"val_accuracy"'),
    ],
)
def test_figures_that_mean_another_thing_in_each_trial_are_refused(name, words):
    with pytest.raises(ValueError, match=words):
        objective(name)


def test_a_tuner_without_an_objective_is_refused():
    with pytest.raises(ValueError, match="no objective"):
        objectives.check(keras_tuner.Objective("default_objective", "min"), None, None, {})


def test_the_first_of_the_best_epochs_counts():
    history = {"val_accuracy": [0.5, 0.75, 0.75, 0.25], "val_error": [4.0, 3.0, 1.0, 1.0]}
    assert objectives.best_epoch(keras_tuner.Objective("val_accuracy", "max"), history) == 2
    assert objectives.best_epoch(keras_tuner.Objective("val_error", "min"), history) == 3
