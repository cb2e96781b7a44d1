"""What `Distiller.compile` makes of its arguments."""

import warnings

import keras

_CROSSENTROPIES = {
    "sparse_categorical_crossentropy": keras.losses.SparseCategoricalCrossentropy,
    "categorical_crossentropy": keras.losses.CategoricalCrossentropy,
    "binary_crossentropy": keras.losses.BinaryCrossentropy,
}


def loss_of_logits(loss):
    """The loss to use on logits: a crossentropy by name gets `from_logits=True`, and a warning.

    Keras would take the logits for probabilities.
    """
    if not isinstance(loss, str) or loss not in _CROSSENTROPIES:
        return loss
    made = _CROSSENTROPIES[loss](from_logits=True)
    warnings.warn(
        f'loss="{loss}" expects probabilities, but the student ends in logits: it is read as '
        f"{type(made).__name__}(from_logits=True). Pass that to silence this.",
        stacklevel=3,
    )
    return made


def are_metrics(given):
    """Whether what stands in the third place of `compile` is metrics, not loss weights."""
    flat = keras.tree.flatten(given)
    return any(isinstance(item, str | keras.metrics.Metric) or callable(item) for item in flat)


def labels_of_outputs(y, y_pred):
    """Labels in the structure of the outputs: given once, they are those of every output."""
    if keras.tree.is_nested(y) or not keras.tree.is_nested(y_pred):
        return y
    return keras.tree.map_structure(lambda _: y, y_pred)
