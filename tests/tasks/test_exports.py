"""`tfkd export` of runs of detection and of text: what is written, and what is said to be missing.

The runs are as finished ones lie on the disk, their students as they begin.
"""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfkd import boxes, recipes, tasks
from tfkd.export import ExportCheckError, detector
from tfkd.export.tflite import read_metadata
from tfkd.files import write_text
from tfkd.models import detectors, with_detections, with_low_rank
from tfkd.models.candidates import Candidates
from tfkd.runs import ExportSettings, RunDirectory, export_run, exporting
from tfkd.runs.directory import RECORD
from tfkd.runs.record import Data, Record, RowRecord
from tfkd.runtime.graph_inspection import require_harmless
from tfkd.runtime.interpreter import Interpreter

TRANSFORMER = {"width": 8, "depth": 1, "heads": 2}
DETECTOR = {"limit": 8}
SETTINGS = {
    "wang2022": {"data": "cells", **DETECTOR},
    "chen2024": {"data": "rotated_shapes", **DETECTOR},
    "tatarnikova2025": {"length": 8, "limit": 40, "student_options": TRANSFORMER},
}


def small_detector(info):
    """The least that finds boxes: two layers on the mean colour of each cell of 8 pixels."""
    image, bins = keras.Input(info.image_shape), detectors.ANGLE_BINS if info.rotated else 0
    x = keras.layers.Rescaling(1 / 64)(keras.layers.AveragePooling2D(8)(image))
    x = keras.layers.Reshape((-1, info.image_shape[-1]))(x)
    logits = keras.layers.Dense(info.num_classes, name="class_prediction")(x)
    regression = keras.layers.Dense(4 * 3 + bins if bins else 4, name="box_prediction")(x)
    shape = (info.image_shape, info.num_classes, (3,), boxes.DETECTION)
    table = Candidates(*shape, scales=0, angle_bins=bins)(logits, regression)
    return keras.Model(image, table, name="small")


class Finished:
    """A finished run of a recipe."""

    def __init__(self, name, folder):
        settings = recipes.get(name).settings(**SETTINGS[name])
        self.out, task = folder / name, tasks.get(settings.learns)
        self.splits = task.load(settings)
        keras.utils.set_random_seed(0)
        info = self.splits.info
        if task.name == "detection":
            self.student = small_detector(info)
        else:
            self.student = task.build("student", settings, info)
        if name == "tatarnikova2025":
            self.student = with_low_rank(self.student, 2)
        task.check("student", self.student, "x", info)
        data = Data(
            name=info.name,
            image_shape=list(info.image_shape),
            label_names=list(info.label_names),
            sizes=info.sizes,
            fingerprint=info.fingerprint,
        )
        empty = {"versions": {}, "machine": {}, "settings": {}, "teachers": [], "trainings": {}}
        empty |= {"figures": {}, "summary": {}, "gains": {}, "seconds": 0.0, "kept_seed": 0}
        rows = [RowRecord(name=name, file=name, recipe=name)]
        said = {"kind": "recipe", "task": task.name, "tfkd": "0", "finished": "", "command": ""}
        record = Record(**said, **empty, data=[data], seeds=[0], rows=rows, main=name)
        write_text(self.out / "run.toml", settings.to_toml())
        self.student.save(self.out / "student.keras")
        record.write(RunDirectory(self.out) / RECORD)

    def export(self, *written, check=False, out=None):
        """Files that `tfkd export` writes, some of `EXPORTS`."""
        record = export_run(self.out, ExportSettings.of(written), out=out, check=check)
        folder = out or self.out / "export"
        assert json.loads((folder / "export.json").read_text()) == record
        return record, {name: folder / file for name, file in record["files"].items()}


@pytest.fixture(scope="module")
def cells(tmp_path_factory):
    return Finished("wang2022", tmp_path_factory.mktemp("runs"))


def test_a_detector_is_exported_with_suppression_and_its_candidates_as_tflite(cells):
    record, files = cells.export("saved_model", "float32", check=True)
    assert files["SavedModel"] == cells.out / "export/saved_model/1" and record["checked"]
    (note,) = record["notes"]
    assert note.startswith("TFLite: non-maximum suppression is none of its built-in operations")
    extra = files["SavedModel"] / "assets.extra"
    manifest = json.loads((extra / "manifest.json").read_text())
    assert manifest["run"]["data"][0]["name"] == "cells"
    assert manifest["detections"] == {"most": 100, "overlap": 0.5, "least": 0.05}
    checks = manifest["checks"]
    assert (checks["images"], checks["warmup_records"]) == (48, 2) and checks["detections"] > 48
    assert max(checks["largest_difference"].values()) <= 1e-5
    labels = list(cells.splits.info.label_names)
    assert json.loads((extra / "labels.json").read_text()) == labels
    card = (extra / "model_card.md").read_text()
    assert "raw pixels, 0..255" in card and f"it finds {checks['detections']} boxes" in card
    assert ", ".join(labels) in card and "above 0.5" in card and "scores of 0.05" in card
    require_harmless(files["SavedModel"])  # tfkd serve loads it
    images = np.stack([x for x, _ in cells.splits.test.take(2).as_numpy_iterator()])
    images = images.astype("float32")
    served = tf.saved_model.load(str(files["SavedModel"])).signatures["serving_default"]
    found, wanted = served(image=tf.constant(images)), with_detections(cells.student)(images)
    np.testing.assert_array_equal(found["count"], wanted["count"])
    np.testing.assert_allclose(found["boxes"], wanted["boxes"], atol=1e-3)
    candidates = cells.student(images).numpy()
    values = Interpreter(files["TFLite float32"]).run({"image": images})["values"]
    np.testing.assert_allclose(values, candidates, atol=1e-3)
    for change, what in (((..., slice(5, 8)), "scores"), ((..., slice(8, 12)), "boxes")):
        other = candidates.copy()
        other[change] += 0.1
        with pytest.raises(ExportCheckError, match=f"{what} on average differ"):
            detector.compare_candidates(other, candidates, cells.student, 1e-3)


def test_what_a_task_has_not_is_left_out_or_refused(cells):
    with pytest.raises(ValueError, match="No TFLite int8: a detector gives one table of pixels"):
        cells.export("saved_model", "int8")
    some, none = ("float32", "float16", "dynamic"), ()
    for name, kept in {"detection": some, "language": some, "translation": none}.items():
        task, said = tasks.get(name), "No TFLite:" if name == "translation" else "No TFLite int8:"
        found, (note,) = exporting._left_out(task, ExportSettings())
        assert found == kept and note.startswith(said)
    with pytest.raises(ValueError, match="No TFLite: a translator takes and gives text"):
        exporting._left_out(task, ExportSettings(format="tflite"))
    assert exporting._left_out(task, ExportSettings(format="saved_model")) == ((), [])


def test_turned_boxes_are_served_as_candidates_and_that_is_said(tmp_path):
    run = Finished("chen2024", tmp_path)
    record, files = run.export("saved_model", "float16")  # unchecked
    note, other = record["notes"]
    assert other.startswith("TFLite:") and files["TFLite float16"].stat().st_size > 1000
    assert note.startswith("SavedModel: the boxes are turned") and "best_candidates" in note
    images = next(iter(run.splits.test.batch(2)))[0]
    images = tf.cast(images, tf.float32)
    served = tf.saved_model.load(str(files["SavedModel"])).signatures["serving_default"]
    wanted = run.student(images)
    np.testing.assert_allclose(served(image=images)["values"], wanted, atol=1e-3)


def test_a_language_model_is_exported_from_text_to_text_and_from_tokens_to_logits(tmp_path):
    run = Finished("tatarnikova2025", tmp_path)
    record, files = run.export("saved_model", "float32", check=True)
    manifest = json.loads((files["SavedModel"] / "assets.extra/manifest.json").read_text())
    assert manifest["run"]["data"][0]["name"] == "small_grammar"
    assert (manifest["lengths"], manifest["steps"]) == ([8], 4)
    assert (manifest["checks"]["texts"], manifest["checks"]["warmup_records"]) == (4, 4)
    card = (files["SavedModel"] / "assets.extra/model_card.md").read_text()
    assert "4 tokens that continue each text" in card and '{"text": "…"}' in card
    require_harmless(files["SavedModel"])
    tokens = np.stack([x for x, _ in run.splits.test.take(3).as_numpy_iterator()])
    tokens[0, 5:] = 0
    found = Interpreter(files["TFLite float32"]).run({"tokens": tokens})["logits"]
    np.testing.assert_allclose(found, run.student(tokens), atol=1e-5)
    assert record["notes"][0].startswith("TFLite: its built-in operations know no strings")
    labels, (known,) = (
        read_metadata(files["TFLite float32"])["labels"],
        run.splits.info.vocabularies,
    )
    assert [json.loads(f'"{label}"') for label in labels[4:]] == list(known.tokens)
    assert labels[:4] == ["[PAD]", "[UNK]", "[START]", "[END]"]
