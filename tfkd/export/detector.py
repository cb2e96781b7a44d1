"""A detector as a SavedModel that answers with boxes: non-maximum suppression is inside."""

import numpy as np
import tensorflow as tf

from tfkd.export.errors import ExportCheckError, on_disk
from tfkd.export.saved_model import concrete, save_functions
from tfkd.files import write_json
from tfkd.models.detections import LEAST, MOST, OVERLAP, detector_layout, with_detections
from tfkd.runtime import warmup
from tfkd.runtime.loader import LoaderError
from tfkd.runtime.versions import new_version
from tfkd.runtime.worker import Worker, WorkerDied

TOLERANCE = 1e-5  # of scores; of boxes in shares of the image's longer side
_MADE_UP = 4  # images


def export_detector(
    student,
    directory,
    *,
    labels=None,
    version=None,
    keep=None,
    warmup_batch_sizes=(1, 8),
    most=MOST,
    overlap=OVERLAP,
    least=LEAST,
    examples=None,
    check=True,
):
    """Writes `directory/<version>/`, checks it with TensorFlow's C++ loader, publishes it.

    The signature "serving_default" takes {"image"}: float32 pixels 0..255 (batch, height, width,
    channels), and gives "boxes" (x1, y1, x2, y2 in pixels), "scores", "classes", "labels" (names,
    "" behind the count) and "count", see `tfkd.models.with_detections`. The classes' names and the
    thresholds stand in `assets.extra/detector.json`.

    TFLite has no such suppression among its built-in operations. `tfkd.export.export_tflite` of the
    student itself with head="numbers" gives the candidates (`tfkd.boxes`), and who calls it
    suppresses.

    Args:
        student: a detector of `tfkd.models.detectors`, of upright boxes.
        directory: base directory of the model.
        labels: names of the classes; default "0", "1", ....
        version: number of the version; None takes the next one.
        keep: keep only so many of the newest versions.
        warmup_batch_sizes: batch sizes of the warm-up records.
        most, overlap, least: see `tfkd.models.with_detections`.
        examples: images to check with (n, height, width, channels); default: made-up ones.
        check: False leaves the check out.

    Returns:
        `pathlib.Path` of the version.

    Raises:
        ValueError: no detector of upright boxes; labels that are not as many as the classes.
        ExportCheckError: the loader's answer is not the Keras model's.
        DiskFullError: there is no space left. In each case nothing is published.
    """
    classes, _ = detector_layout(student)
    labels = tuple(map(str, range(classes)) if labels is None else labels)
    if len(labels) != classes:
        raise ValueError(f"{len(labels)} labels were given, but there are {classes} classes.")
    model = with_detections(student, most, overlap, least)
    names = tf.constant([*labels, ""])  # the last is that of no class, -1

    def detect(feeds):
        found = model(feeds["image"], training=False)
        return {**found, "labels": tf.gather(names, found["classes"] % (classes + 1))}

    shape = student.input_shape
    spec = {"image": tf.TensorSpec(shape, tf.float32, name="image")}
    functions = {"serving_default": concrete(detect, spec)}
    if examples is None:
        examples = np.random.RandomState(0).uniform(0, 255, (_MADE_UP, *shape[1:]))
    images = np.asarray(examples, np.float32)
    needed = sum(np.asarray(weight).nbytes for weight in student.get_weights())
    with on_disk(directory, needed), new_version(directory, version, keep) as new:
        save_functions(functions, new.directory, model)
        requests = [
            ("serving_default", {"image": np.resize(images, (size, *shape[1:]))})
            for size in warmup_batch_sizes
        ]
        warmup.write(new.directory, student.name, requests)
        settings = {"labels": list(labels), "most": most, "overlap": overlap, "least": least}
        write_json(new.directory / "assets.extra" / "detector.json", settings)
        if check:
            compare(answer(new.directory, images), model, images)
    return new.path


def answer(path, images):
    """What TensorFlow's C++ loader answers, {output name: array}, in a process of its own."""
    try:
        worker = Worker(path)
        try:
            return worker.run("serving_default", {"image": images})
        finally:
            worker.close()
    except (LoaderError, WorkerDied, TimeoutError, ValueError) as error:
        raise ExportCheckError(f"TensorFlow's C++ loader failed: {error}") from error


def compare(found, model, images):
    """Raises ExportCheckError unless an answer of the loader is that of the Keras model."""
    wanted = {name: np.asarray(value) for name, value in model.predict(images, verbose=0).items()}
    scores, side = wanted["scores"], max(images.shape[1:3])
    _require("count", np.abs(found["count"] - wanted["count"]), 0)
    _require("scores", np.abs(found["scores"] - scores), TOLERANCE)
    # Where two scores are as good as one, which box stands first is not said.
    steps = np.abs(np.diff(scores, axis=1))
    alone = np.pad(steps, ((0, 0), (1, 0)), constant_values=1) > 2 * TOLERANCE
    alone &= np.pad(steps, ((0, 0), (0, 1)), constant_values=1) > 2 * TOLERANCE
    apart = np.abs(found["boxes"] - wanted["boxes"]).max(axis=-1) / side
    _require("boxes", np.where(alone, apart, 0), TOLERANCE)
    _require("classes", np.where(alone, found["classes"] != wanted["classes"], 0), 0)


def _require(what, differences, tolerance):
    largest = float(np.max(differences, initial=0))
    if not largest <= tolerance:
        raise ExportCheckError(
            f"The loaded detector's {what} differ from the Keras model's by {largest:.3g}; "
            f"expected at most {tolerance:g}."
        )
