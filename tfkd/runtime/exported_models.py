"""An exported model, read back as what it is: a function from images to logits, with a size and a
speed."""

import json
import tempfile
import time
import zipfile
from pathlib import Path

import numpy as np

from tfkd.runtime import keras_process
from tfkd.runtime.interpreter import Interpreter
from tfkd.runtime.versions import list_versions
from tfkd.runtime.worker import Worker

_LARGEST_RECORD = 16_000_000  # bytes; labels of a million classes fit


def open_exported(path, threads=1):
    """Open an export for measuring.

    Args:
        path: a `.tflite` file; a version directory of a SavedModel; or its base directory, of which
            the newest version is taken.
        threads: threads to run it with.

    Returns:
        `Exported`, to be used in a `with` statement.

    Raises:
        FileNotFoundError, ValueError: there is no export at `path`, or its labels are damaged.
        LoaderError: it does not load.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"There is nothing at {path}.")
    if path.suffix == ".tflite":
        return _TFLite(path, threads)
    if not (path / "saved_model.pb").exists():
        versions = list_versions(path)
        if not versions:
            raise ValueError(
                f"{path} is neither a .tflite file nor a SavedModel nor a directory of versions."
            )
        path = versions[max(versions)]
    return _SavedModel(path, threads)


def open_keras(model, threads=1, directory=None):
    """The same for a Keras model: it is saved in `directory` and loaded in a fresh process."""
    return _Keras(model, threads, directory)


class Exported:
    """What `open_exported` gives.

    Attributes:
        bytes: size on disk (of a SavedModel: the graph and the weights).
        labels: class names, or None.
    """

    bytes = 0
    labels = None

    def logits(self, images):
        """Logits, float32, shape (batch, outputs), of images (batch, height, width, channels)."""
        raise NotImplementedError

    def seconds(self, images, repeats):
        """Durations of `repeats` runs on the same images: list of floats."""
        times = []
        for _ in range(repeats):
            start = time.perf_counter()
            self.logits(images)
            times.append(time.perf_counter() - start)
        return times

    def predict(self, dataset):
        """(logits, labels) over a batched dataset of (images, labels), in its order."""
        logits, labels = [], []
        for batch in dataset.as_numpy_iterator():
            logits.append(self.logits(batch[0]))
            labels.append(batch[1])
        if not labels:
            raise ValueError("The dataset is empty: there is nothing to evaluate.")
        return np.concatenate(logits), np.concatenate(labels)

    def close(self):
        """Free what was opened."""

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.close()


class Behind(Exported):
    """An export behind a function, which makes what it takes of examples.

    Args:
        exported: `Exported`.
        function: of a batch of examples to an array that the export takes.
    """

    def __init__(self, exported, function):
        self._exported, self._function = exported, function
        self.bytes, self.labels = exported.bytes, exported.labels

    def logits(self, images):
        return self._exported.logits(self._function(images))

    def seconds(self, images, repeats):
        return self._exported.seconds(self._function(images), repeats)

    def close(self):
        self._exported.close()


class _TFLite(Exported):
    def __init__(self, path, threads):
        self.labels = _tflite_labels(path)
        self._interpreter = Interpreter(path, threads)
        (self._input,) = self._interpreter.inputs
        self.bytes = path.stat().st_size

    def logits(self, images):
        return self._interpreter.run({self._input: images})["logits"]


class _Process(Exported):
    signature, output = "serving_default", "logits"

    def _feeds(self, images):
        return {"image": images}

    def logits(self, images):
        return self._worker.run(self.signature, self._feeds(images))[self.output]

    def seconds(self, images, repeats):
        return self._worker.submit(self.signature, self._feeds(images), repeats).result(600)

    def close(self):
        self._worker.close()


class _SavedModel(_Process):
    def __init__(self, path, threads):
        self.labels = _saved_model_labels(path)
        self._worker = Worker(path, threads)
        inputs = self._worker.signatures.get(self.signature, {"inputs": ()})["inputs"]
        if len(inputs) != 1:
            self.close()
            raise ValueError(
                f'{path} has no signature "{self.signature}" of one input: its inputs are '
                f"{sorted(inputs)}."
            )
        (self._input,) = inputs
        weights = (path / "variables").glob("*")
        self.bytes = sum(file.stat().st_size for file in (path / "saved_model.pb", *weights))

    def _feeds(self, images):
        return {self._input: images}


class _Keras(_Process):
    output = "output"

    def __init__(self, model, threads, directory):
        self._directory = tempfile.TemporaryDirectory(prefix=".tmp-", dir=directory)
        try:
            path = Path(self._directory.name) / "model.keras"
            model.save(path, include_optimizer=False)
            self.bytes = path.stat().st_size
            self._worker = Worker(path, threads, keras_process.__file__)
        except BaseException:  # a full disk, classes that another process does not know
            self._directory.cleanup()
            raise

    def _feeds(self, images):
        images = np.asarray(images)
        return {"image": images if images.dtype == object else images.astype(np.float32)}

    def close(self):
        super().close()
        self._directory.cleanup()


def _saved_model_labels(path):
    file = path / "assets.extra" / "labels.json"
    if not file.exists():
        return None
    try:
        return _labels(json.loads(file.read_bytes()))
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"{file} holds no class names: {error}.") from error


def _tflite_labels(path):
    """The class names that tfkd writes into a .tflite file; None in a file of somebody else."""
    if not zipfile.is_zipfile(path):
        return None
    try:
        with zipfile.ZipFile(path) as archive:
            if "tfkd.json" not in archive.namelist():
                return None
            if archive.getinfo("tfkd.json").file_size > _LARGEST_RECORD:
                raise ValueError("it is too large")
            return _labels(json.loads(archive.read("tfkd.json"))["labels"])
    except Exception as error:  # a damaged archive: zipfile and zlib raise nearly anything
        raise ValueError(f"tfkd.json in {path} holds no class names: {error}.") from error


def _labels(found):
    if not isinstance(found, list) or not all(isinstance(label, str) for label in found):
        raise ValueError("expected a list of strings")
    if len(set(found)) < len(found):
        raise ValueError("names stand there twice")
    return found
