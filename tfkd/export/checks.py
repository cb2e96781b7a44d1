"""Does a SavedModel do in TensorFlow's C++ loader what the student does in Keras?"""

from pathlib import Path

import numpy as np
import tensorflow as tf

from tfkd.export import accuracy, codes, loading, records
from tfkd.export.errors import ExportCheckError
from tfkd.export.served_head import contradiction
from tfkd.export.student import THRESHOLD
from tfkd.runtime import loader, warmup

BATCH_SIZES = (1, 7, 64)
TOLERANCE = 1e-5  # of the largest output, or of 1 if that is larger
LARGEST_DROP = 0.001  # of the accuracy against the Keras student, as a share
_LOGITS_TOLERANCE = 1e-4  # of a probability: logits recovered from probabilities are rounded
_LABELLED_BATCH = 64


def check_saved_model(path):
    """Check a version directory by itself, as after a copy: checksums, structure, warm-up records
    in the C++ loader.

    Returns:
        dict: "files" checked, "warmup_records" replayed.

    Raises:
        ExportCheckError: says what is wrong. FileNotFoundError: no such directory.
    """
    path = Path(path)
    if not path.is_dir():
        raise FileNotFoundError(f"There is no directory {path}.")
    recorded = records.manifest(path / "assets.extra" / "manifest.json").files
    found = loading.checksums(path)
    for name in sorted(set(recorded) | set(found)):
        if recorded.get(name) != found.get(name):
            state = (
                "missing" if name not in found else "foreign" if name not in recorded else "changed"
            )
            raise ExportCheckError(
                f"{path / name} is {state} since the export. Copy or export it anew."
            )
    with loading.loaded(path) as worker:
        count = loading.attempt("a warm-up record", warmup.replay, worker.run, path)
    return {"files": len(found), "warmup_records": count}


def compare_saved_model(path, served, functions, examples=None):
    """Load a version directory in a fresh process and compare every signature with the student.

    Args:
        path: version directory, perhaps not published yet.
        served: `student.Served`, the reference: the Keras model itself is called.
        functions: {signature: concrete function} that were saved, for the expected names, shapes
            and dtypes.
        examples: `suitability.Examples` to compare on; default made-up ones.

    Returns:
        dict: "batch_sizes", "largest_difference" {signature: float}, "warmup_records",
        "variables"; with labelled examples "keras_accuracy", "accuracy" and "labelled".

    Raises:
        ExportCheckError: says what differed.
    """

    def compare(worker):
        differences, figures = {}, {}
        for signature in functions:
            differences[signature] = max(
                _compare(
                    worker,
                    signature,
                    served,
                    served.sample(size, seed=size) if examples is None else examples.batch(size),
                )
                for size in BATCH_SIZES
            )
        if "serve_bytes" in functions:
            _check_refusal(worker)
        if examples is not None and examples.labels is not None and served.names_classes:
            figures = _accuracy(worker, served, examples)
        return {
            "batch_sizes": list(BATCH_SIZES),
            "largest_difference": differences,
            **figures,
        }

    return loading.checked(path, served.model, functions, compare)


def reference(signature, served, feeds):
    """What the Keras student gives for a signature; {output name: array}.

    The student is called as Keras calls it, and what follows from its numbers is computed in NumPy
    in float64, so that nothing of the export takes part. A head that the numbers contradict fails
    the check.
    """
    if signature == "features":
        return {name: tensor.numpy() for name, tensor in served.feature_maps(feeds).items()}
    own = served.own_output(feeds)
    said = contradiction(own, served.head)
    if said:
        raise ExportCheckError(
            f'The export takes the head of student "{served.model.name}" for '
            f'"{served.head.name}", but {said}.'
        )
    if not served.names_classes:
        return {"values": own}
    if own.ndim == 1:
        own = own[:, None]
    expected = {"probabilities": probabilities(own, served)}
    return {"logits": own, **expected} if served.head.kind == "logits" else expected


def probabilities(own, served, kind=None):
    """Probabilities in float64, shape (n, ..., classes), of a student's outputs, by its head.

    Args:
        own: float array (n, ..., outputs).
        served: the student; a binary head's one output gives two classes.
        kind: "logits" or "probabilities", that of the student's head by default.
    """
    wide = own.astype(np.float64)
    if (kind or served.head.kind) == "logits":
        if served.task == "classes":
            powers = np.exp(wide - wide.max(-1, keepdims=True))
            wide = powers / powers.sum(-1, keepdims=True)
        else:
            wide = 0.5 * (1 + np.tanh(wide / 2))
    return np.concatenate([1 - wide, wide], axis=-1) if served.task == "binary" else wide


def _accuracy(worker, served, examples):
    expected = reference("serving_default", served, examples.feeds)["probabilities"]
    parts = []
    for start in range(0, len(examples), _LABELLED_BATCH):
        feeds = {n: array[start : start + _LABELLED_BATCH] for n, array in examples.feeds.items()}
        parts.append(loading.attempt("labelled examples", worker.run, "serving_default", feeds))
    found = np.concatenate([part["probabilities"] for part in parts])
    return accuracy.compare(expected, found, examples.labels, served, LARGEST_DROP)


def _compare(worker, signature, served, feeds):
    sent = feeds
    if signature == "serve_bytes":
        pixels = np.clip(np.round(feeds["image"]), 0, 255).astype(np.uint8)
        feeds = {"image": pixels}
        encoded = [tf.io.encode_png(image).numpy() for image in pixels]
        sent = {"image_bytes": np.array(encoded, object)}
    expected = reference(signature, served, feeds)
    size = len(next(iter(feeds.values())))
    where = f'signature "{signature}" at batch size {size}'
    found = loading.attempt(where, worker.run, signature, sent)
    largest = 0.0
    for name, value in expected.items():
        if found[name].shape != value.shape:
            raise ExportCheckError(
                f'"{name}" of {where} has the shape {found[name].shape}, not {value.shape}.'
            )
        difference = float(np.max(np.abs(found[name] - value), initial=0.0))
        allowed = TOLERANCE * max(1.0, float(np.max(np.abs(value), initial=0.0)))
        if not difference <= allowed:  # also true for NaN
            raise ExportCheckError(
                f'"{name}" of {where} differs from the Keras student by {difference:.3g} (allowed: '
                f"{allowed:.3g})."
            )
        largest = max(largest, difference)
    if signature != "features" and served.names_classes:
        _check_consistency(found, served, where)
    if signature != "features" and served.task == "code":
        codes.require_consistent(found, where)
    return largest


def _check_consistency(found, served, where):
    """Logits, probabilities, classes and names of one answer must say the same."""
    served_probabilities = found["probabilities"]
    implied = probabilities(found["logits"], served, "logits")
    difference = float(np.max(np.abs(implied - served_probabilities), initial=0.0))
    if not difference <= _LOGITS_TOLERANCE:
        raise ExportCheckError(
            f'"logits" and "probabilities" of {where} differ by {difference:.3g} as probabilities.'
        )
    labels = np.array([label.encode() for label in served.labels], object)
    if served.task == "labels":
        expected = {"labels": np.where(served_probabilities > THRESHOLD, labels, b"")}
    else:
        chosen = served_probabilities.argmax(-1)
        expected = {"class_id": chosen, "label": labels[chosen]}
    for name, values in expected.items():
        if name in found and not np.array_equal(found[name], values):
            raise ExportCheckError(f'"{name}" of {where} does not follow from the probabilities.')


def _check_refusal(worker):
    try:
        worker.run("serve_bytes", {"image_bytes": np.array([b"no image"], object)})
    except loader.LoaderError as error:
        if error.code == loader.INVALID_ARGUMENT:
            return
        raise ExportCheckError(
            f'Signature "serve_bytes" fails on bytes that are no image: {error}'
        ) from error
    raise ExportCheckError('Signature "serve_bytes" answers bytes that are no image.')
