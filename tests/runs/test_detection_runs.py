"""A run of a recipe of detection on few drawn cells: its rows, and the student that it leaves."""

import csv

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfkd import recipes, tasks
from tfkd.data import drawn
from tfkd.models import detectors, with_detections
from tfkd.runs import run_recipe

ROWS = ["alone", "distilled", "wang2022"]
TINY = {"width": 0.25, "channels": 4}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """(settings, directory, record) of ten images, with a teacher that is given."""
    folder = tmp_path_factory.mktemp("detection")
    keras.utils.set_random_seed(1)
    teacher = detectors.two_stage((32, 32, 3), 3, proposals=6, hidden=8, **TINY)
    teacher.save(folder / "teacher.keras")
    settings = recipes.get("wang2022").settings(
        teacher=str(folder / "teacher.keras"),
        student_options=TINY,
        proposals=5,
        tensorboard=False,
        **{"image_size": 32, "epochs": 1, "batch_size": 3, "seeds": 1, "seed": 3},
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(drawn, "COUNTS", {"train": 6, "validation": 2, "test": 2})
        patch.setattr(drawn, "cells", drawn.cells.__wrapped__)  # not those that are kept
        tf.config.run_functions_eagerly(True)  # of so few steps tracing would be most of the time
        yield settings, folder / "run", run_recipe("wang2022", settings, folder / "run")
        tf.config.run_functions_eagerly(False)


def test_every_row_is_judged_by_boxes_and_begins_alike(run):
    _, out, record = run
    assert list(record["figures"]) == ["teacher", *ROWS]
    figures = {row: own[0] for row, own in record["figures"].items()}
    for own in figures.values():
        assert 0 <= own["map"] <= own["map50"] <= 1
    for row in ROWS[1:]:
        assert figures[row]["gain"] == figures[row]["map50"] - figures["alone"]["map50"]
    begun = {record["trainings"][f"3/{row}"]["student_start"] for row in ROWS}
    assert len(begun) == 1
    table = (out / "table.md").read_text()
    assert "mAP@50 (%)" in table and "points of mAP@50" in table
    with open(out / "history.csv", newline="") as file:
        lines = list(csv.DictReader(file))
    assert [line["row"] for line in lines if line["head_assistance"]] == ["wang2022"]
    assert {line["row"] for line in lines} >= set(ROWS)


def test_the_student_that_is_left_is_the_detector_alone(run):
    settings, out, record = run
    student = keras.models.load_model(out / "student.keras")
    task, alone = tasks.get("detection"), detectors.retinanet((32, 32, 3), 3, **TINY)
    assert [type(own) for own in student.layers] == [type(own) for own in alone.layers]
    assert [own.shape for own in student.weights] == [own.shape for own in alone.weights]
    sizes = {record["figures"][row][0]["parameters"] for row in ROWS}
    assert sizes == {student.count_params()}
    splits = task.load(settings)
    found = task.judge(student, splits.test, splits.info)()
    figures = record["figures"]["wang2022"][0]
    assert found == {name: figures[name] for name in ("map50", "map")}
    answer = with_detections(student)(np.zeros((1, 32, 32, 3), "float32"))
    assert set(answer) == {"boxes", "scores", "classes", "count"}
