"""The task detection: what it refuses, how it judges, and a step of both recipes."""

import keras
import numpy as np
import pytest

from tfkd import models, recipes, tasks
from tfkd.data import drawn, labelled_boxes
from tfkd.models import detectors
from tfkd.runs import run_recipe
from tfkd.settings import SettingsError

TASK = tasks.get("detection")
SMALL = {"width": 0.25, "channels": 6}


def settings_of(name, **values):
    budget = {"limit": 8, "image_size": 32, "epochs": 1, "seeds": 1, "batch_size": 4}
    return recipes.get(name).settings(**{**budget, "student_options": SMALL, **values})


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("wang2022", {"teacher": "two_stages"}, 'for detection. Did you mean "two_stage"'),
        ("wang2022", {"teacher": ("two_stage", "retinanet")}, "should be a valid string"),
        ("wang2022", {"teacher_free": True}, "hidden_weight 0 and cross_weight 0"),
        ("chen2024", {"augment": "crop"}, "flip"),
        ("chen2024", {"label_smoothing": 0.1}, "one class an image"),
    ],
    ids=["name", "two", "free", "crop", "smooth"],
)
def test_settings_that_cannot_be(name, values, message):
    with pytest.raises(SettingsError, match=message):
        settings_of(name, **values)


def test_the_default_options_are_not_of_a_file():
    settings = settings_of("wang2022", teacher="own.keras")
    assert settings.teacher_options == {} and settings.student_options == SMALL
    assert settings.replace(epochs=2).teacher_options == {}
    with pytest.raises(SettingsError, match="teacher_options .* are for a teacher that is built"):
        settings_of("wang2022", teacher="own.keras", teacher_options={"width": 2.0})


@pytest.fixture(scope="module")
def shapes():
    return labelled_boxes.load("rotated_shapes", image_size=32, limit=8)


def test_models_that_do_not_fit_turned_boxes_are_refused(shapes):
    with pytest.raises(ValueError, match="are turned, and retinanet finds upright ones"):
        TASK.build("student", settings_of("wang2022"), shapes.info)
    upright = detectors.distribution_detector((32, 32, 3), 3, **SMALL)
    with pytest.raises(ValueError, match="3 classes apart with 0 bins.*needs 3.*18"):
        TASK.check("teacher", upright, "x", shapes.info)
    other = keras.Sequential([keras.Input((32, 32, 3)), keras.layers.Flatten()], name="flat")
    with pytest.raises(ValueError, match='"flat" is no detector'):
        TASK.check("teacher", other, "x", shapes.info)


def test_bins_that_do_not_reach_the_sides_are_refused():
    short = settings_of("chen2024", student_options={**SMALL, "bins": 4})
    with pytest.raises(ValueError, match="3.5 cells away.*4 bins of the student reach 3.*bins=5"):
        TASK.load(short)


def one_step(name, data, **values):
    """(distiller, history) after a step of a recipe on batches of its task."""
    settings = settings_of(name, data=data, **values)
    splits = TASK.load(settings)
    keras.utils.set_random_seed(0)
    teacher, student = (TASK.build(role, settings, splits.info) for role in ("teacher", "student"))
    for role, model in (("teacher", teacher), ("student", student)):
        TASK.check(role, model, role, splits.info)
    distiller = recipes.get(name).build(settings, teacher, student).distiller(teacher)
    distiller.compile("sgd", TASK.loss(splits.info, settings, None), run_eagerly=True)
    batches = TASK.batches(splits.train, settings, 0, splits.info)
    assert len(batches) == 2
    before = [np.copy(own.numpy()) for own in (*student.trainable_variables, *teacher.variables)]
    history = distiller.fit(batches.take(1), verbose=0, shuffle=False).history
    after = [own.numpy() for own in (*student.trainable_variables, *teacher.variables)]
    changed = [not np.array_equal(a, b) for a, b in zip(before, after, strict=True)]
    assert all(changed[: len(student.trainable_variables)])
    assert not any(changed[len(student.trainable_variables) :])
    figures = TASK.judge(student, splits.validation.take(4), splits.info)()
    assert set(figures) == set(TASK.figures) and 0 <= figures["map"] <= figures["map50"] <= 1
    return distiller, history


def test_a_step_of_wang2022_trains_a_student_without_its_assistant():
    teacher = {"teacher_options": {**SMALL, "proposals": 6, "hidden": 8}}
    distiller, history = one_step("wang2022", "cells", proposals=5, warm_up=0.0, **teacher)
    weights = {own.name for own in distiller.student.layers}
    assert not any("roi" in name or "fc" in name for name in weights)
    assert history["loss"][0] == pytest.approx(
        history["student_loss"][0] + history["head_assistance"][0], rel=1e-5
    )


def test_a_run_of_chen2024_leaves_a_student_of_turned_boxes(tmp_path, monkeypatch):
    monkeypatch.setattr(drawn, "COUNTS", {"train": 8, "validation": 4, "test": 12})
    keras.utils.set_random_seed(1)
    teacher = detectors.distribution_detector((32, 32, 3), 3, angle_bins=18, **SMALL)
    # A box of 8 x 4 pixels around every cell of 4 pixels, turned by 40°: a few are right.
    sides, angle = np.zeros((4, 8)), np.zeros(18)
    sides[[0, 2], 1] = sides[[1, 1, 3, 3], [0, 1, 0, 1]] = angle[4] = 20.0
    teacher.get_layer("box_prediction").bias.assign(np.concatenate([sides.ravel(), angle]))
    path = tmp_path / "teacher.keras"
    teacher.save(path)
    settings = settings_of("chen2024", teacher=str(path), tensorboard=False)
    assert settings.teacher_options == {}  # the recipe's default is of the teacher that it names
    record = run_recipe("chen2024", settings, tmp_path / "run")
    assert list(record["figures"]) == ["teacher", "alone", "distilled", "chen2024"]
    figures = {row: own[0] for row, own in record["figures"].items()}
    splits = TASK.load(settings)
    judged = TASK.judge(teacher, splits.test, splits.info)()
    assert {name: figures["teacher"][name] for name in judged} == judged
    assert judged["map50"] > 0
    alone, own = figures["alone"], figures["chen2024"]
    assert own["gain"] == own["map50"] - alone["map50"] and "gain" not in alone
    assert own["parameters"] == alone["parameters"]
    table = (tmp_path / "run" / "table.md").read_text()
    assert f"| teacher   | {100 * judged['map50']:10.1f} | {100 * judged['map']:7.1f} | " in table
    student = keras.models.load_model(tmp_path / "run" / "student.keras")
    assert models.detector_layout(student) == (3, 18)


def test_rows_to_compare_with():
    """Plain distillation is hints of the pyramid, or the mean over all positions; and ablations."""
    teacher = detectors.two_stage((32, 32, 3), 3, proposals=6, hidden=8, **SMALL)
    student = detectors.retinanet((32, 32, 3), 3, **SMALL)
    recipe, settings = recipes.get("wang2022"), settings_of("wang2022")
    plain = recipe.plain(settings, teacher, student)
    names = [(loss.teacher_layer_name, loss.student_layer_name) for loss in plain.losses]
    assert names == [("P2", "P2"), ("P3", "P3"), ("P4", "P4")]
    assert all(loss.normalize for loss in plain.losses)
    assert plain.weights == [settings.hint_weight] * 3
    ablations = recipe.ablations(settings)
    papers = recipe.build(ablations["the paper's weights"], teacher, student).losses[0]
    own = (papers.normalized, papers.assist_weight, papers.hidden_weight, papers.cross_weight)
    assert own == (False, 1.0, 2.0, 2.0)
    free = recipe.build(ablations["teacher-free"], teacher, student)
    assert not free.asks_teacher
    with pytest.raises(ValueError, match='"retinanet" has none. Give a teacher of two stages'):
        recipe.build(settings, student, student)
    recipe, settings = recipes.get("chen2024"), settings_of("chen2024")
    plain, own = (
        make(settings, None, detectors.distribution_detector((32, 32, 3), 3, **SMALL)).losses[0]
        for make in (recipe.plain, recipe.build)
    )
    assert (plain.decoupled, plain.weighted, own.decoupled, own.weighted) == (0, 0, 1, 1)
