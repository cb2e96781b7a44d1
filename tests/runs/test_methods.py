"""Named losses on the layers of two models: one for each pair of stages, or one."""

import keras
import pytest

from tfkd import models
from tfkd.runs.rows import distill_table, distilled
from tfkd.settings import DistillSettings, SettingsError


@pytest.fixture(scope="module")
def pair():
    teacher = models.build("resnet", (8, 8, 1), 10, depth=8, width=0.25)
    return teacher, models.build("streamlined_student", (8, 8, 1), 10, width=0.1)


def test_each_method_reads_what_it_compares(pair):
    settings = DistillSettings(loss=["kd:0.5", "at", "sp", "rkd", "review:0.6"], temperature=3.0)
    system = distilled(settings, *pair)
    assert system.label_weights == 1.0
    stages = [models.stages(model) for model in pair]
    count = min(map(len, stages))
    ends = [own[-count:] for own in stages]
    wanted = {"kd": (0.5, None, None)}
    wanted |= {f"at{n}": (1000.0, *names) for n, names in enumerate(zip(*ends, strict=True), 1)}
    wanted["sp"] = (3000.0, ends[0][-1], ends[1][-1])
    wanted["rkd"] = (1.0, *(models.features_layer(model) for model in pair))
    wanted["review"] = (0.6, tuple(ends[0]), tuple(ends[1]))
    found = {
        loss.name: (weight, loss.teacher_layer_name, loss.student_layer_name)
        for loss, weight in zip(system.losses, system.weights, strict=True)
    }
    assert found == wanted
    assert system.losses[0].temperature == 3.0
    distiller = system.distiller(pair[0])
    assert len(distiller.distillation_losses) == 4 + count
    command = distill_table(settings).command
    assert "--loss kd:0.5 --loss at --loss sp --loss rkd --loss review:0.6" in command


def test_models_without_stages_or_features(pair):
    dense = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Flatten()])
    dense.add(keras.layers.Dense(10))
    for name, message in (("at", "the student none"), ("vid", "there are none to pair")):
        with pytest.raises(SettingsError, match=message):
            distilled(DistillSettings(loss=[name]), pair[0], dense)
    end = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Conv2D(10, 8)])
    end.add(keras.layers.Flatten())
    with pytest.raises(SettingsError, match="rkd compares pooled features.*not in a Dense layer"):
        distilled(DistillSettings(loss=["rkd"]), pair[0], end)
