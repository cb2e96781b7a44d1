"""Several models as one, and one model's answer to several views of an image."""

from collections.abc import Mapping

import keras
from keras import layers, ops

from tfkd.taps import heads_of

_MEAN = "mean_of_members"  # the layer that tells such a model
_LEAST = 1e-30  # smallest probability that a logarithm is taken of


def ensemble(members, shares=None, name="ensemble"):
    """One model of several classifiers: it returns the log of the mean of their probabilities.

    For evaluation and deployment. As teachers take them apart, by `tfkd.teachers.Ensemble(members)`
    or `Ensemble(tfkd.models.ensemble_members(model))`. It is made of stock Keras layers, and of the
    members themselves, which are called by their names inside.

    Args:
        members: built models of one input and one output of shape (batch, classes), logits or
            probabilities of one class of many; a list, called "member1", ..., or {name: model}.
        shares: of each in the mean, numbers that sum to 1; by default all alike.
        name: of the model.

    Returns:
        A functional `keras.Model`: float32 log-probabilities, shape (batch, classes).

    Raises:
        ValueError: no members, or ones that cannot be averaged.
    """
    if not isinstance(members, Mapping):
        members = {f"member{number}": model for number, model in enumerate(members, start=1)}
    if not members:
        raise ValueError("An ensemble needs a model or more, but there is none.")
    first = next(iter(members.values()))
    image = keras.Input(first.inputs[0].shape[1:], dtype=first.inputs[0].dtype, name="image")
    given = [_probabilities(model, _named(model, own)(image)) for own, model in members.items()]
    if len({tuple(each.shape) for each in given}) > 1:
        found = {own: each.shape for own, each in zip(members, given, strict=True)}
        raise ValueError(
            f"The members of an ensemble give outputs of different shapes: {found}. All must know "
            "the same classes, in the same order."
        )
    if shares is not None:
        scale = len(given)
        given = [
            layers.Rescaling(scale * float(share), dtype="float32")(each)
            for share, each in zip(shares, given, strict=True)
        ]
    mean = layers.Average(name=_MEAN, dtype="float32")(given)
    return keras.Model(image, ops.log(ops.maximum(mean, _LEAST)), name=name)


def ensemble_members(model):
    """{name: model} of what `ensemble` put together; {} for any other model."""
    inner = getattr(model, "layers", [])
    if not any(layer.name == _MEAN for layer in inner):
        return {}
    return {layer.name: layer for layer in inner if isinstance(layer, keras.Model)}


def averaged_over_views(model, name=None):
    """A classifier that looks at every image in several views and averages what it sees.

    The views are all turns by 90° and mirror images: 8 of square images, 4 (without the quarter
    turns) of others; for images without an upper side, as from above.

    Args:
        model: as a member of `ensemble`.
        name: of the model; by default the given one's.

    Returns:
        A functional `keras.Model` of the same input: the logarithm of the mean of the
        probabilities, float32, shape (batch, classes). It is the same for every such view.
    """
    image = keras.Input(model.inputs[0].shape[1:], dtype=model.inputs[0].dtype, name="image")
    square = image.shape[1] == image.shape[2]
    turned = [image, ops.transpose(image, (0, 2, 1, 3))] if square else [image]
    views = [
        ops.flip(each, axis) if axis else each for each in turned for axis in (None, 1, 2, (1, 2))
    ]
    given = _probabilities(model, model(ops.concatenate(views, axis=0)))
    apart = ops.reshape(given, (len(views), -1, given.shape[-1]))
    mean = ops.mean(ops.cast(apart, "float32"), axis=0)
    return keras.Model(image, ops.log(ops.maximum(mean, _LEAST)), name=name or model.name)


def _named(model, name):
    """A model under another name, with the same layers."""
    if model.name == name:
        return model
    if getattr(model, "inputs", None):
        return keras.Model(model.inputs, model.outputs, name=name)
    model.name = name
    return model


def _probabilities(model, output):
    output = output[0] if isinstance(output, list) else output
    several = isinstance(output, Mapping)
    found = sorted(output) if several else tuple(output.shape)
    if several or len(output.shape) != 2 or output.shape[-1] < 2:
        raise ValueError(
            f'The model "{model.name}" cannot be averaged: expected one output of shape (batch, '
            f"classes) with two classes or more, got {found}."
        )
    (head,) = heads_of(model).values()
    if head.labels == "independent" or head.kind not in ("logits", "probabilities"):
        raise ValueError(
            f'The model "{model.name}" cannot be averaged: its output holds '
            f"{head.name or 'numbers of unknown meaning'}; expected logits or probabilities of one "
            "class of many."
        )
    return output if head.kind == "probabilities" else layers.Softmax(dtype="float32")(output)
