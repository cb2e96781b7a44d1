"""What tells models apart: a hash over weights."""

import hashlib

import keras
import numpy as np


def of_weights(*models):
    """SHA-256 over the weights of models, in their order: equal for equal values, dtypes, shapes.

    Args:
        models: built `keras.Model`s.

    Returns:
        "sha256:" and 64 hexadecimal digits.
    """
    return of_variables([weight for model in models for weight in model.weights])


def of_variables(variables):
    """The same of variables."""
    digest = hashlib.sha256()
    for variable in variables:
        value = np.ascontiguousarray(keras.ops.convert_to_numpy(variable))
        digest.update(f"{value.dtype}{value.shape}".encode())
        digest.update(value.tobytes())
    return f"sha256:{digest.hexdigest()}"
