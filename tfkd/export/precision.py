"""Exports compute in float32: a clone of a student that does not."""

import keras
import numpy as np

from tfkd import _keras
from tfkd.export import model_inputs

_TOLERANCE = 0.1  # of the largest output: a clone against its half-precision original


def in_float32(model):
    """The model itself if it computes in float32, else a float32 clone with the same weights.

    Raises:
        ValueError: the model needs a clone and cannot be rebuilt from its configuration.
    """
    layers = (model, *_keras.layers_of(model))
    if not {layer.compute_dtype for layer in layers} & {"float16", "bfloat16", "float64"}:
        return model
    try:
        configuration = keras.saving.serialize_keras_object(model)
        _set_policies(configuration)
        clone = keras.saving.deserialize_keras_object(configuration)
        for mine, its in zip(layers, (clone, *_keras.layers_of(clone)), strict=True):
            if hasattr(mine, "get_vocabulary") and its.get_vocabulary() != mine.get_vocabulary():
                its.set_vocabulary(mine.get_vocabulary())
        clone.set_weights(model.get_weights())
    except Exception as error:
        raise ValueError(
            f'Student "{model.name}" does not compute in float32, as exports do, and could not be '
            f"rebuilt from its configuration ({error}). Give its classes a get_config and register "
            "them with keras.saving.register_keras_serializable."
        ) from error
    return clone


def _set_policies(node):
    """Sets every dtype policy of a floating type to float32, in place."""
    if isinstance(node, dict):
        if node.get("class_name") == "DTypePolicy" and "float" in node["config"]["name"]:
            node["config"]["name"] = "float32"
        node = list(node.values())
    if isinstance(node, list | tuple):
        for child in node:
            _set_policies(child)


def require_same_answers(student, clone, inputs):
    """Raises ValueError if a float32 clone answers otherwise than the student, roundings aside."""
    feeds = model_inputs.made_up(student, inputs, 4)
    pairs = [
        [np.asarray(tensor, "float32") for tensor in keras.tree.flatten(returned)]
        for returned in (
            model_inputs.call(student, inputs, feeds),
            model_inputs.call(clone, inputs, feeds),
        )
    ]
    for own, its in zip(*pairs, strict=True):
        finite = np.isfinite(own)  # float16 overflows where float32 does not
        largest = max(1.0, float(np.abs(own[finite]).max(initial=0.0)))
        difference = float(np.abs(own - its)[finite].max(initial=0.0))
        if difference > _TOLERANCE * largest:
            raise ValueError(
                f'The float32 copy of student "{student.name}" that would be exported answers '
                f"otherwise than the student: its outputs differ by up to {difference:.3g}. "
                "Something of the student is neither in its configuration nor in its weights. "
                "Export a student that is built and trained in float32."
            )
