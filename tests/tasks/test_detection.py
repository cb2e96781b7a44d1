"""The task detection: what it refuses, how it judges, and both recipes through the engine."""

import keras
import pytest

from tfkd import models, recipes, tasks
from tfkd.data import labelled_boxes
from tfkd.models import detectors
from tfkd.runs import RunDirectory, engine
from tfkd.runs.rows import Row, Table
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


def run(tmp_path, name, teacher, **values):
    """The record of one row of a recipe through the engine, taught by an untrained teacher."""
    teacher.save(tmp_path / "teacher.keras")
    given = {"teacher": str(tmp_path / "teacher.keras"), "teacher_options": {}}
    settings = settings_of(name, any_teacher=True, **given, **values)
    row = Row(name, settings, recipes.get(name).build, name)
    table = Table("recipe", settings, [row], name, recipes.get(name), "x")
    directory = RunDirectory(tmp_path / "run")
    return directory, engine.run(table, directory)


def test_wang2022_runs_and_leaves_a_student_without_its_assistant(tmp_path):
    keras.utils.set_random_seed(0)
    teacher = detectors.two_stage((32, 32, 3), 3, proposals=6, hidden=8, **SMALL)
    directory, record = run(tmp_path, "wang2022", teacher, data="cells", proposals=5)
    student = keras.models.load_model(directory / "student.keras")
    assert student.count_params() == detectors.retinanet((32, 32, 3), 3, **SMALL).count_params()
    figures = record.figures["wang2022"][0]
    assert {"map50", "map", "validation_map50", "parameters"} <= set(figures)
    splits = labelled_boxes.load("cells", image_size=32, limit=8)
    again = TASK.judge(student, splits.test, splits.info)()
    assert again == pytest.approx({name: figures[name] for name in ("map50", "map")})


def test_chen2024_runs_on_turned_shapes(tmp_path, shapes):
    keras.utils.set_random_seed(0)
    teacher = detectors.distribution_detector((32, 32, 3), 3, angle_bins=18, **SMALL)
    directory, record = run(tmp_path, "chen2024", teacher)
    student = keras.models.load_model(directory / "student.keras")
    assert models.detector_layout(student) == (3, 18)
    assert 0 <= record.figures["chen2024"][0]["map"] <= record.figures["chen2024"][0]["map50"] <= 1
