"""What of a model can be tapped: every layer's path and the shape of what it returns."""

from typing import NamedTuple

import keras
import tensorflow as tf

from tfkd import _keras
from tfkd.recording import make_tappable, recording
from tfkd.taps import arranged, input_signature


class Listed(NamedTuple):
    """A layer of a model.

    Attributes:
        path: as losses take it, "backbone/block3_conv".
        kind: name of its class.
        shape: of the one tensor that it returns, batch included; None where there is none to tap.
        parameters: number of its weights, those of layers inside included.
        reason: why it cannot be tapped, or None.
    """

    path: str
    kind: str
    shape: tuple | None
    parameters: int
    reason: str | None = None


def layers_of(model):
    """Every layer of a model, nested ones below the model that they stand in.

    Args:
        model: a built `keras.Model`. The `call` of its layers is wrapped, as by a tap.

    Returns:
        list of `Listed`, in the model's order.

    Raises:
        ValueError: the model's inputs are not known.
    """
    signature = input_signature(model)
    if signature is None:
        raise ValueError(f'The inputs of "{model.name}" are not known. Call it once on a batch.')
    layers, returned = list(_walk(model)), {}
    for _, layer in layers:
        make_tappable(layer)

    def run(inputs):
        arguments = {"training": False} if _keras.takes_training(model) else {}
        with recording([layer for _, layer in layers]) as seen:
            model(arranged(model, inputs), **arguments)
        returned.update(seen)
        return ()

    tf.function(run, autograph=False).get_concrete_function(signature)
    return [_listed(path, layer, returned[id(layer)]) for path, layer in layers]


def _walk(model, prefix=""):
    for layer in _keras.layers_of(model, recursive=False):
        yield prefix + layer.name, layer
        yield from _walk(layer, f"{prefix}{layer.name}/")


def _listed(path, layer, output):
    shape = reason = None
    if tf.is_tensor(output):
        shape = tuple(output.shape)
    elif output is None:
        reason = "not called" if not isinstance(layer, keras.layers.InputLayer) else "input"
    else:
        reason = "returns several tensors"
    return Listed(path, type(layer).__name__, shape, layer.count_params(), reason)
