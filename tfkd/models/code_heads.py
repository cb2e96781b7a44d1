"""Hashing models: a backbone's features and a number for each bit."""

import keras
from keras import layers

from tfkd.models import forks
from tfkd.models.linear_heads import features_layer


def with_code(model, bits=64, frozen=True):
    """A hashing model on a trained classifier: its last Dense layer gives way to one of bits.

    A bit is whether its number is above 0; `tfkd.losses.ContrastiveHashing` trains it.

    Args:
        model: functional or Sequential classifier of one output that ends in a Dense layer over
            features. It stays as it is.
        bits: of the code.
        frozen: whether only the new layer is trained: BatchNormalization keeps its statistics, but
            a Dropout before the layer acts in training as ever.

    Returns:
        Functional `keras.Model`: (batch, bits) float32, of a new layer "code".

    Raises:
        TypeError, ValueError: another model, or no bits.
    """
    if isinstance(bits, bool) or not isinstance(bits, int) or bits < 1:
        raise ValueError(f"bits must be a whole number of at least 1; got {bits!r}.")
    name = features_layer(model)
    twin = keras.models.clone_model(model)
    twin.set_weights(model.get_weights())
    end = forks.made_by(twin.outputs[0])
    while end.name != name:
        end = forks.made_by(end.input)
    for layer in twin.layers if frozen else ():
        layer.trainable = False
    code = layers.Dense(bits, dtype="float32", name="code")(end.output)
    return keras.Model(twin.inputs[0], code, name=model.name)
