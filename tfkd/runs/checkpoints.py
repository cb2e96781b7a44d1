"""A training's state on disk after an epoch, complete: what follows is what would have followed.

A checkpoint is one `.npz` file without pickled objects: every variable of the model (adapters and
the states of random layers included) and of the optimizer, the weights of the best epoch, and as
JSON how far the training is. Order and augmentation follow from the epoch's number.
"""

import json
import math
import time
import zipfile
from dataclasses import dataclass, field

import keras
import numpy as np

import tfkd
from tfkd.files import written

# Writing takes at most about this share of the time.
COST = 0.05


@dataclass
class Progress:
    """How far a training is.

    Attributes:
        epochs: that are done.
        history: {metric: one value an epoch}.
        best_epoch: from 1; 0 before the first.
        best_score: (validation accuracy, minus cross-entropy) of it.
        best_weights: the student's, list of arrays.
        seconds: wall time, of all attempts.
    """

    epochs: int = 0
    history: dict = field(default_factory=dict)
    best_epoch: int = 0
    best_score: tuple = (-math.inf, -math.inf)
    best_weights: list = field(default_factory=list)
    seconds: float = 0.0

    def add(self, logs, score, student):
        """Takes down an epoch that is done."""
        self.epochs += 1
        for name, value in logs.items():
            self.history.setdefault(name, []).append(float(value))
        if score > self.best_score:
            self.best_epoch, self.best_score = self.epochs, score
            self.best_weights = student.get_weights()


class Checkpoint:
    """One training's checkpoint file.

    Args:
        path: of the file; None keeps nothing.
        start: fingerprint of the weights that the training starts from: a checkpoint of another
            start is not used.
    """

    def __init__(self, path, start):
        self.path, self.start = path, start
        self._last, self._cost = -math.inf, 0.0

    def save(self, model, progress):
        """Writes the state after an epoch, unless the last writing was too short a time ago."""
        begun = time.monotonic()
        if self.path is None or begun - self._last < self._cost / COST:
            return
        state = {"epochs": progress.epochs, "history": progress.history, "start": self.start}
        state |= {"best_epoch": progress.best_epoch, "best_score": list(progress.best_score)}
        state |= {"seconds": progress.seconds, "best_weights": len(progress.best_weights)}
        arrays = {f"v{i}": _array(v) for i, v in enumerate(variables(model))}
        arrays |= {f"b{i}": value for i, value in enumerate(progress.best_weights)}
        with written(self.path) as partial:
            with open(partial, "wb") as file:
                np.savez(file, state=np.array(json.dumps(state)), **arrays)
        self._last = time.monotonic()
        self._cost = self._last - begun

    def restore(self, model):
        """Puts a model back into the state on disk.

        Returns:
            `Progress`; a new one where there is no whole checkpoint of this training.
        """
        progress, own = Progress(), variables(model)
        try:
            with np.load(self.path, allow_pickle=False) as stored:
                state = json.loads(str(stored["state"]))
                values = [stored[f"v{i}"] for i in range(len(own))]
                best = [stored[f"b{i}"] for i in range(state["best_weights"])]
                fits = f"v{len(own)}" not in stored and state["start"] == self.start
        except (OSError, TypeError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            return progress
        if not fits or any(v.shape != a.shape for v, a in zip(own, values, strict=True)):
            return progress
        for variable, value in zip(own, values, strict=True):
            variable.assign(value)
        progress.epochs, progress.history = state["epochs"], state["history"]
        progress.best_epoch, progress.best_score = state["best_epoch"], tuple(state["best_score"])
        progress.best_weights, progress.seconds = best, state["seconds"]
        return progress

    def drop(self):
        """Removes the file, once its training is kept otherwise."""
        if self.path is not None:
            self.path.unlink(missing_ok=True)


def variables(model):
    """All that training moves: weights, states of random layers, the optimizer's variables, and
    those of a teacher that learns."""
    of_source = model.source.variables if isinstance(model, tfkd.Distiller) else ()
    own = {id(v): v for v in [*model.variables, *model.optimizer.variables, *of_source]}
    return list(own.values())


def _array(variable):
    return keras.ops.convert_to_numpy(variable)
