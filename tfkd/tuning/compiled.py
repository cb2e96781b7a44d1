"""A compiled Distiller that can be made as good as new."""

import keras
import numpy as np


class Compiled:
    """A Distiller with its optimizer, and the values that its variables had when it was new.

    Making a model anew means tracing and compiling its steps anew, and TensorFlow does not give
    back all that the old one held. Here the variables are set back instead: student (moving
    statistics and the seeds of dropout included), adapters, optimizer.

    Args:
        make: function that returns (a `tfkd.Distiller`, built and compiled, and its `Rate`).
        seed: of the initial weights.

    Attributes:
        distiller: the Distiller.
        seed: what it was made or reset from.
    """

    def __init__(self, make, seed):
        self.seed = seed
        self.distiller, self._rate = _new(make, seed)
        self._optimizer = self.distiller.optimizer
        self._initial = {seed: _values(self.distiller)}

    def fits(self, rate):
        """Whether a learning rate can be had, and the Distiller is compiled as it was made.

        (A tuner that is given an optimizer, say, compiles each Distiller anew.)
        """
        return self._rate.reaches(rate) and self.distiller.optimizer is self._optimizer

    def reset(self, seed, rate, make):
        """Sets every variable to what it is in a new Distiller.

        Args:
            seed: of the initial weights.
            rate: the learning rate.
            make: makes such a Distiller, for a seed that was not met before.
        """
        if seed not in self._initial:
            self._initial[seed] = _values(_new(make, seed)[0])
        for variable, value in zip(_state(self.distiller), self._initial[seed], strict=True):
            variable.assign(value)
        self._rate.set(rate)
        self.seed = seed


def _new(make, seed):
    keras.utils.set_random_seed(seed)
    return make()


def _state(distiller):
    """Every variable that training moves, metrics apart: those start anew each epoch."""
    return [
        *distiller.student.variables,
        *distiller.adapters.variables,
        *distiller.optimizer.variables,
    ]


def _values(distiller):
    # Copies: on a CPU what Keras gives is a view of the variable's own buffer.
    return [np.copy(keras.ops.convert_to_numpy(variable)) for variable in _state(distiller)]
