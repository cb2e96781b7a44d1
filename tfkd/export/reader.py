"""An exported model, read back as what it is: a function from images to logits, with a size and a
speed."""

import contextlib
import json
import tempfile
import time
from pathlib import Path

import numpy as np

from tfkd.export import keras_process
from tfkd.export.interpreter import Interpreter
from tfkd.export.tflite import read_metadata
from tfkd.export.versions import list_versions
from tfkd.export.worker import Worker


def open_exported(path, threads=1):
    """Open an export for measuring.

    Args:
        path: a `.tflite` file; a version directory of a SavedModel; or its base directory, of which
            the newest version is taken.
        threads: threads to run it with.

    Returns:
        `Exported`, to be used in a `with` statement.

    Raises:
        FileNotFoundError, ValueError: there is no export at `path`. LoaderError: it does not load.
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


class _TFLite(Exported):
    def __init__(self, path, threads):
        self._interpreter = Interpreter(path, threads)
        (self._input,) = self._interpreter.inputs
        self.bytes = path.stat().st_size
        with contextlib.suppress(ValueError):
            self.labels = read_metadata(path)["labels"]

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
        self._worker = Worker(path, threads)
        (self._input,) = self._worker.signatures[self.signature]["inputs"]
        weights = (path / "variables").iterdir()
        self.bytes = sum(file.stat().st_size for file in (path / "saved_model.pb", *weights))
        with contextlib.suppress(OSError, ValueError):
            self.labels = json.loads((path / "assets.extra" / "labels.json").read_text())

    def _feeds(self, images):
        return {self._input: images}


class _Keras(_Process):
    output = "output"

    def __init__(self, model, threads, directory):
        self._directory = tempfile.TemporaryDirectory(prefix=".tmp-", dir=directory)
        path = Path(self._directory.name) / "model.keras"
        model.save(path, include_optimizer=False)
        self.bytes = path.stat().st_size
        self._worker = Worker(path, threads, keras_process.__file__)

    def _feeds(self, images):
        return {"image": np.asarray(images, np.float32)}

    def close(self):
        super().close()
        self._directory.cleanup()
