"""From settings to layers and losses."""

import keras
import pytest

from tfkd import models
from tfkd.runs import DistillSettings, SettingsError
from tfkd.runs.preparation import distiller, hint_pairs


@pytest.fixture(scope="module")
def pair():
    teacher = models.build("resnet", (8, 8, 1), 10, depth=8, width=0.25)
    return teacher, models.build("modified_alexnet", (8, 8, 1), 10, width=0.05)


def test_hints_pair_stage_ends_from_the_deepest(pair):
    assert hint_pairs(DistillSettings(), *pair) == [
        ("stage1_out", "stage2_out"),
        ("stage2_out", "stage3_out"),
        ("stage3_out", "stage4_out"),
    ]
    assert hint_pairs(DistillSettings(hints="none"), *pair) == []
    assert hint_pairs(DistillSettings(hint_weight=0), *pair) == []
    named = DistillSettings(hints=("stage1_block1_add:conv1_relu",))
    assert hint_pairs(named, *pair) == [("stage1_block1_add", "conv1_relu")]


def test_settings_become_losses_and_weights(pair):
    settings = DistillSettings(
        temperature=2, logits_weight=0.5, hint_weight=3, student_loss_weight=0.25
    )
    made = distiller(settings, *pair, hint_pairs(settings, *pair))
    assert [loss.name for loss in made.distillation_losses] == [
        *("logits_distillation", "hint1", "hint2", "hint3")
    ]
    assert made.distillation_losses[0].temperature == 2.0
    assert list(made.distillation_loss_weights) == [0.5, 3.0, 3.0, 3.0]
    assert made.student_loss_weight == 0.25
    hints_only = distiller(DistillSettings(logits_weight=0), *pair, [("stage1_out", "stage1_out")])
    assert [loss.name for loss in hints_only.distillation_losses] == ["hint1"]


def test_nothing_to_pair_and_no_logits(pair):
    dense = keras.Sequential(
        [keras.Input((8, 8, 1)), keras.layers.Flatten(), keras.layers.Dense(10)]
    )
    settings = DistillSettings(logits_weight=0)
    with pytest.raises(SettingsError, match="found no stages"):
        distiller(settings, dense, pair[1], hint_pairs(settings, dense, pair[1]))
