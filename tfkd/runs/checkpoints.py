"""A training's state on disk, complete: what follows is what would have followed.

A checkpoint is one `.npz` file without pickled objects: every variable of the model (adapters and
the states of random layers included) and of the optimizer, the weights of the best epoch, within an
epoch the sums behind its figures, and as JSON how far the training is. Order and augmentation
follow from the epoch's number. One process and several workers write and read the same file.
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
        steps: batches of the next epoch that are done.
        history: {metric: one value an epoch}.
        best_epoch: from 1; 0 before the first.
        best_score: (validation accuracy, minus cross-entropy) of it.
        best_weights: the student's, list of arrays.
        seconds: wall time, of all attempts.
        sums: while an epoch is gone on with, what its metrics held: list of arrays.
        iterations: the optimizer's when the epoch began.
    """

    epochs: int = 0
    steps: int = 0
    history: dict = field(default_factory=dict)
    best_epoch: int = 0
    best_score: tuple = (-math.inf, -math.inf)
    best_weights: list = field(default_factory=list)
    seconds: float = 0.0
    sums: list = field(default_factory=list)
    iterations: int = 0
    _since: float = field(default_factory=time.perf_counter, compare=False, repr=False)

    def tick(self):
        """Counts the wall time since it was last counted."""
        now = time.perf_counter()
        self.seconds, self._since = self.seconds + now - self._since, now

    def add(self, logs, score, student):
        """Takes down an epoch that is done."""
        self.epochs, self.steps, self.sums = self.epochs + 1, 0, []
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
        if self.path is not None and time.monotonic() - self._last >= self._cost / COST:
            self.write(model, progress)

    def write(self, model, progress):
        """Writes the state."""
        begun = time.monotonic()
        state = {"epochs": progress.epochs, "steps": progress.steps, "history": progress.history}
        state |= {"best_epoch": progress.best_epoch, "best_score": list(progress.best_score)}
        state |= {"seconds": progress.seconds, "best_weights": len(progress.best_weights)}
        state |= {"iterations": progress.iterations, "sums": len(progress.sums)}
        state |= {"start": self.start}
        arrays = {f"v{i}": _array(v) for i, v in enumerate(variables(model))}
        arrays |= {f"b{i}": value for i, value in enumerate(progress.best_weights)}
        arrays |= {f"s{i}": value for i, value in enumerate(progress.sums)}
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
                sums = [stored[f"s{i}"] for i in range(state["sums"])]
                fits = f"v{len(own)}" not in stored and state["start"] == self.start
        except (OSError, TypeError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            return progress
        if not fits or any(v.shape != a.shape for v, a in zip(own, values, strict=True)):
            return progress
        for variable, value in zip(own, values, strict=True):
            variable.assign(value)
        if state["steps"]:
            model.optimizer.iterations.assign(state["iterations"])
        progress.epochs, progress.history = state["epochs"], state["history"]
        progress.best_epoch, progress.best_score = state["best_epoch"], tuple(state["best_score"])
        progress.best_weights, progress.seconds = best, state["seconds"]
        progress.steps, progress.sums = state["steps"], sums
        progress.iterations = state["iterations"]
        return progress

    def drop(self):
        """Removes the file, once its training is kept otherwise."""
        if self.path is not None:
            self.path.unlink(missing_ok=True)


class Saver(keras.callbacks.Callback):
    """Writes checkpoints, after each epoch and within it; the last of all callbacks.

    All workers look at the same steps whether the chief wants one written: the sums behind an
    epoch's figures are the workers' together. When to look again follows from the time that a step
    takes, at most twice as many steps later as there were.

    Args:
        checkpoint: `Checkpoint`.
        progress: `Progress`, brought up to date by another callback after each epoch.
        team: `tfkd.runs.team.Alone`, or a `Team`.
    """

    def __init__(self, checkpoint, progress, team):
        super().__init__()
        self.checkpoint, self.progress, self.team = checkpoint, progress, team
        self._pause, self._written = 60 * team.checkpoint_minutes, time.monotonic()
        # Steps of this process; at which to look again; (time, steps) of the first look.
        self._steps, self._look, self._first = 0, 1, None

    def on_epoch_begin(self, epoch, logs=None):
        self._done, self._passed = 0, self.progress.steps
        iterations = self.model.optimizer.iterations
        if self._passed:
            # Other callbacks read what it was when the epoch began; Keras has emptied the metrics.
            iterations.assign(iterations + self._passed)
            found = self.model.metrics_variables
            for variable, value in zip(found, self.progress.sums, strict=True):
                variable.assign(value)  # of sums over workers each takes its share
        else:
            self.progress.iterations = int(_array(iterations))

    def on_train_batch_end(self, batch, logs=None):
        self._done += 1
        if self._done <= self._passed:
            return
        self._steps += 1
        if self._steps < self._look or self._done == self.params["steps"]:
            return
        now = time.monotonic()
        due, ahead = self._written + self._pause - now, 1
        if self._first is None:
            self._first = now, self._steps
        elif due > 0:
            steps = self._steps - self._first[1]
            ahead = min(max(int(due * steps / (now - self._first[0])), 1), steps)
        write, ahead = self.team.says([due <= 0, ahead])
        self._look = self._steps + ahead
        if write:
            self.progress.steps = self._done
            self.progress.sums = [_array(v) for v in self.model.metrics_variables]
            self._write(self.checkpoint.write)

    def on_epoch_end(self, epoch, logs=None):
        self._write(self.checkpoint.save)

    def _write(self, write):
        self._written = time.monotonic()
        if self.team.chief and self.checkpoint.path is not None:
            self.progress.tick()
            write(self.model, self.progress)


def pass_over(model, steps):
    """Has the next `fit` of a compiled model pass over so many steps: callbacks see them go by.

    The data begins behind these batches.
    """
    model.make_train_function()
    train, left = model.train_function, iter(range(steps))

    def passing(iterator):
        return {} if next(left, None) is not None else train(iterator)

    model.train_function = passing


def variables(model):
    """All that training moves: weights, states of random layers, the optimizer's variables, and
    those of a teacher that learns."""
    of_source = model.source.variables if isinstance(model, tfkd.Distiller) else ()
    own = {id(v): v for v in [*model.variables, *model.optimizer.variables, *of_source]}
    return list(own.values())


def _array(variable):
    return keras.ops.convert_to_numpy(variable)
