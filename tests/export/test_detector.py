"""A detector with suppression inside, through the C++ loader; its candidates as TFLite."""

import json

import keras
import numpy as np
import pytest

from tfkd.export import ExportCheckError, detector, export_detector, export_tflite
from tfkd.models import detectors, with_detections
from tfkd.runtime.interpreter import Interpreter
from tfkd.runtime.worker import Worker

SHAPE = (32, 32, 3)


@pytest.fixture(scope="module")
def student():
    keras.utils.set_random_seed(0)
    model = detectors.retinanet(SHAPE, 2, width=0.25, channels=4)
    head = model.get_layer(
        "class_prediction"
    )  # bolder than at the beginning, so that scores differ
    head.set_weights([30 * head.kernel.numpy(), head.bias.numpy()])
    return model


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).uniform(0, 255, (3, *SHAPE)).astype("float32")


def test_the_loader_answers_as_keras_does(student, images, tmp_path):
    path = export_detector(student, tmp_path / "model", labels=["a", "b"], most=7, check=False)
    model = with_detections(student, most=7)
    with Worker(path) as worker:
        found = detector.answer(worker, images)
    # Boxes and scores to 1e-5, counts, classes and names exactly.
    report = detector.compare(found, model, images, ("a", "b"))
    assert report["images"] == 3 and report["detections"] == found["count"].sum()
    assert set(found) == {"boxes", "scores", "classes", "count", "labels"}
    assert found["boxes"].shape == (3, 7, 4) and found["count"].min() > 0
    names = np.array(["a", "b", ""])[found["classes"]]
    assert (found["labels"].astype(str) == names).all()
    said = json.loads((path / "assets.extra" / "manifest.json").read_text())
    assert said["detections"] == {"most": 7, "overlap": 0.5, "least": 0.05}
    assert json.loads((path / "assets.extra" / "labels.json").read_text()) == ["a", "b"]
    for name, change in (("scores", 2e-5), ("boxes", 2e-5 * 32), ("count", 1), ("classes", 1)):
        with pytest.raises(ExportCheckError, match=f"{name} differ from the Keras model's"):
            detector.compare({**found, name: found[name] + change}, model, images, ("a", "b"))
    with pytest.raises(ExportCheckError, match="labels differ"):
        detector.compare(found, model, images, ("b", "a"))


def test_labels_that_are_not_as_many_as_the_classes(student, tmp_path):
    with pytest.raises(ValueError, match="3 labels were given, but there are 2 classes"):
        export_detector(student, tmp_path / "model", labels=["a", "b", "c"])


def test_tflite_gives_the_candidates(student, images, tmp_path):
    path = export_tflite(student, tmp_path / "d.tflite", head="numbers", check=False)
    found = Interpreter(path).run({"image": images[:1]})["values"]
    wanted = student(images[:1]).numpy()
    np.testing.assert_allclose(found, wanted, atol=1e-4 * np.abs(wanted).max())
