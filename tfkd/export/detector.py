"""A detector as a SavedModel that answers with boxes, and its candidates as a TFLite file."""

import warnings

import numpy as np
import tensorflow as tf

from tfkd import boxes
from tfkd.export import loading, model_card
from tfkd.export.errors import ExportCheckError, ExportWarning
from tfkd.export.saved_model import checked_batch_sizes, concrete, publish
from tfkd.export.tflite import export_tflite
from tfkd.export.tflite_checks import LIMITS
from tfkd.files import written
from tfkd.models.detections import LEAST, MOST, OVERLAP, detector_layout, with_detections
from tfkd.runtime.interpreter import Interpreter

TOLERANCE = 1e-5  # of scores; of boxes in shares of the image's longer side
_MADE_UP, _BATCH = 4, 16  # images

_ANSWERS = """\
Boxes that are left when overlaps are gone, from the highest score down: `boxes` x1, y1, x2, y2 in
pixels of the image as it was sent, `scores`, `classes` (numbers), `labels` (their names) and
`count`, how many of an image's {most} rows hold one. Behind these, boxes and scores are 0, classes
-1 and labels "". Of two boxes of a class whose IoU is above {overlap:g}, the one of the lower
score is left out, and so are scores of {least:g} and below."""
_CHECKED = """\
Loaded in a fresh process by TensorFlow's C++ loader and compared with the Keras model on {images}
images, where it finds {detections} boxes: counts and classes are equal, scores and boxes differ
by at most {worst:.2g} (boxes in shares of the image's longer side). {warmup_records} warm-up
records replayed. {variables} variables, all of them the student's."""


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
    manifest=None,
    examples=None,
    check=True,
):
    """Writes `directory/<version>/`, checks it with TensorFlow's C++ loader, publishes it.

    The signature "serving_default" takes {"image"}: float32 pixels 0..255 (batch, height, width,
    channels), and gives "boxes" (x1, y1, x2, y2 in pixels), "scores", "classes", "labels" (names,
    "" behind the count) and "count", see `tfkd.models.with_detections`. In `assets.extra/` stand
    labels.json, the model card, and the manifest with the thresholds.

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
        manifest: dict of facts about the run, stored in `assets.extra/manifest.json`.
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
    sizes = checked_batch_sizes(warmup_batch_sizes)
    thresholds = {"most": most, "overlap": overlap, "least": least}
    model = with_detections(student, most, overlap, least)
    names = tf.constant([*labels, ""])  # the last is that of no class, -1

    def detect(feeds):
        found = model(feeds["image"], training=False)
        return {**found, "labels": tf.gather(names, found["classes"] % (classes + 1))}

    shape = student.input_shape
    functions = {
        "serving_default": concrete(
            detect, {"image": tf.TensorSpec(shape, tf.float32, name="image")}
        )
    }
    if examples is None:
        examples = np.random.RandomState(0).uniform(0, 255, (_MADE_UP, *shape[1:]))
    images = np.asarray(examples, np.float32)

    def compared(path):
        return loading.checked(
            *(path, model, functions),
            lambda worker: compare(answer(worker, images), model, images, labels),
        )

    def card(report):
        checked = model_card.UNCHECKED
        if report is not None:
            checked = _CHECKED.format(**report, worst=max(report["largest_difference"].values()))
        return model_card.Card(
            inputs=model_card.images(model.name, model_card.PIXELS),
            answers=_ANSWERS.format(**thresholds),
            checked=checked,
            labels=labels,
            facts={"detections": thresholds},
        )

    requests = [
        ("serving_default", {"image": np.resize(images, (size, *shape[1:]))}) for size in sizes
    ]
    return publish(
        *(model, directory, functions, requests, card, compared if check else None),
        manifest=manifest,
        version=version,
        keep=keep,
    )


def answer(worker, images):
    """What TensorFlow's C++ loader answers, {output name: array}, batch by batch.

    Args:
        worker: `tfkd.runtime.worker.Worker` of the version.
        images: float32 (n, height, width, channels).
    """
    parts = [
        loading.attempt(
            *("images", worker.run, "serving_default", {"image": images[start : start + _BATCH]})
        )
        for start in range(0, len(images), _BATCH)
    ]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def compare(found, model, images, labels):
    """Compares an answer of the loader with that of the Keras model.

    Args:
        found: {output name: array}, what `answer` gave.
        model: `tfkd.models.with_detections` of the student.
        images: float32 (n, height, width, channels).
        labels: names of the classes.

    Returns:
        dict: "images", "detections" (how many there are), "largest_difference" of "scores" and of
        "boxes", in shares of the image's longer side.

    Raises:
        ExportCheckError: they differ.
    """
    wanted = model.predict(images, batch_size=_BATCH, verbose=0)
    scores, side = wanted["scores"], max(images.shape[1:3])
    _require("count", np.abs(found["count"] - wanted["count"]), 0)
    _require("scores", np.abs(found["scores"] - scores), TOLERANCE)
    # Where two scores are as good as one, which box stands first is not said.
    steps = np.abs(np.diff(scores, axis=1))
    alone = np.pad(steps, ((0, 0), (1, 0)), constant_values=1) > 2 * TOLERANCE
    alone &= np.pad(steps, ((0, 0), (0, 1)), constant_values=1) > 2 * TOLERANCE
    apart = np.where(alone, np.abs(found["boxes"] - wanted["boxes"]).max(axis=-1) / side, 0)
    _require("boxes", apart, TOLERANCE)
    _require("classes", np.where(alone, found["classes"] != wanted["classes"], 0), 0)
    names = np.array([*(label.encode() for label in labels), b""], object)[found["classes"]]
    _require("labels", found["labels"] != names, 0)
    count = int(wanted["count"].sum())
    if not count:
        warnings.warn(
            f'"{model.name}" finds no box on any of the {len(images)} images that its export is '
            "checked with, so the check shows little. Give images with objects as examples.",
            category=ExportWarning,
            stacklevel=3,
        )
    largest = {"scores": np.abs(found["scores"] - scores), "boxes": apart}
    return {
        "images": len(images),
        "detections": count,
        "largest_difference": {name: float(own.max()) for name, own in largest.items()},
    }


def export_candidates(student, path, *, quantization="float32", resize, examples, check=True):
    """Writes a detector's candidates as a TFLite file, see `export_detector`.

    Pixels and logits of one table are checked apart: scores, and boxes as they are decoded, of all
    candidates that are detections.

    Args:
        student: a detector of `tfkd.models.detectors`.
        path: the file.
        quantization: "float32", "float16" or "dynamic".
        resize: as of `export_tflite`.
        examples: images (n, height, width, channels) to check with; None where nothing is checked.
        check: False leaves the check out.

    Returns:
        `pathlib.Path` of the file.

    Raises:
        ValueError: int8, whose steps would be too coarse.
        ExportCheckError: the file does not do what the student does; nothing is written.
    """
    if quantization == "int8":
        raise ValueError(
            "Candidates are pixels and logits in one table: int8 is too coarse for it."
        )
    options = {"quantization": quantization, "head": "numbers", "resize": resize}
    with written(path) as hidden:
        export_tflite(student, hidden, **options, examples=examples, check=check)
        if check:
            images = np.asarray(examples, np.float32)
            interpreter = Interpreter(hidden)
            found = [
                interpreter.run({"image": images[start : start + _BATCH]})["values"]
                for start in range(0, len(images), _BATCH)
            ]
            wanted = student.predict(images, batch_size=_BATCH, verbose=0)
            compare_candidates(np.concatenate(found), wanted, student, LIMITS[quantization].error)
    return path


def compare_candidates(found, wanted, student, limit):
    """Raises ExportCheckError where scores or boxes of two tables of candidates differ too much.

    Args:
        found, wanted: (images, rows, columns), see `tfkd.boxes`.
        student: the detector.
        limit: of the mean absolute difference: of scores, and of boxes' numbers in shares of the
            image's longer side, angles in radians.
    """
    classes, angle_bins = detector_layout(student)
    detections = wanted[..., 0] >= boxes.DETECTION
    _require("kinds of candidates", found[..., 0] != wanted[..., 0], 0)
    decoded = []
    for table in (found, wanted):
        kind, reference, logits, regression = boxes.columns(tf.constant(table), classes)
        places = boxes.decode(reference, regression, angle_bins).numpy()
        places[..., :4] /= max(student.input_shape[1:3])
        decoded.append((boxes.scores(kind, logits).numpy()[detections], places[detections]))
    for what, own, theirs in zip(("scores", "boxes"), *decoded, strict=True):
        difference = np.abs(own - theirs)
        if what == "boxes":  # half a turn is no turn
            difference[..., 4] = np.minimum(difference[..., 4], np.pi - difference[..., 4])
        _require(f"{what} on average", difference.mean(), limit)


def _require(what, differences, tolerance):
    largest = float(np.max(differences, initial=0))
    if not largest <= tolerance:
        raise ExportCheckError(
            f"The loaded detector's {what} differ from the Keras model's by {largest:.3g}; "
            f"expected at most {tolerance:g}."
        )
