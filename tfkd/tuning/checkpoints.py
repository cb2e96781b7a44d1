"""The weights of a trial's best epoch, in one file that is written whole."""

import hashlib
import io
import math

import keras
import numpy as np

from tfkd.files import written
from tfkd.tuning.reuse import state


class BestWeights(keras.callbacks.Callback):
    """Keeps the weights of the best epoch of all executions in one file, written whole.

    KerasTuner's own callback writes HDF5, which crashes the process where the disk is full.
    """

    def __init__(self, objective, path):
        super().__init__()
        self.objective, self.path, self.best = objective, path, None

    def on_epoch_end(self, epoch, logs=None):
        value = self.objective.get_value(logs)
        better = self.best is None or self.objective.better_than(value, self.best)
        if better and math.isfinite(value):
            self.best = value
            write_weights(self.model, self.path)


def write_weights(distiller, path):
    """Writes what training moves, optimizer included, as a `.npz` file of arrays "0", "1", ..."""
    values = [keras.ops.convert_to_numpy(variable) for variable in state(distiller)]
    content = io.BytesIO()
    np.savez(content, **{str(number): value for number, value in enumerate(values)})
    with written(path) as partial:
        partial.write_bytes(content.getbuffer())


def read_weights(distiller, path):
    """Puts what `write_weights` wrote into a Distiller made in the same way.

    Raises:
        ValueError: a missing or damaged file, or one of another model.
    """
    variables = state(distiller)
    try:
        with np.load(path, allow_pickle=False) as arrays:
            values = [arrays[str(number)] for number in range(len(variables))]
            fits = len(arrays.files) == len(variables)
    except Exception as error:  # NumPy raises many kinds, from the zip and from its own reader
        reason = str(error).strip() or type(error).__name__
        raise ValueError(f'"{path}" is no whole checkpoint of this model: {reason}') from error
    for variable, value in zip(variables, values, strict=True):
        if not fits or tuple(variable.shape) != value.shape:
            raise ValueError(f'"{path}" is the checkpoint of another model.')
        variable.assign(value)


def file_hash(path):
    """SHA-256 of a file; None where there is none."""
    if not path.is_file():
        return None
    return f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"
