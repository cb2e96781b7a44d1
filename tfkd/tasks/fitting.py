"""Whether a model of images, or of texts, fits its data."""

import keras

from tfkd.taps import heads_of


def check_images(role, model, name, info):
    """Raises ValueError unless a model takes the data's images."""
    shape = info.image_shape
    taken = model.inputs[0].shape[1:] if getattr(model, "inputs", None) else shape
    if len(taken) != 3 or any(taken[i] not in (None, shape[i]) for i in range(3)):
        resize = ""
        if len(taken) == 3 and taken[0] and taken[0] == taken[1] and taken[2] in (None, shape[2]):
            resize = f" Set image_size to {taken[0]} to resize the images."
        raise ValueError(
            f'The {role} "{name}" takes inputs of shape {tuple(taken)}, but the images of '
            f'"{info.name}" have {shape}.{resize}'
        )


def check(role, model, name, info):
    """Raises ValueError unless a model takes the data's images and has a number for each class."""
    check_images(role, model, name, info)
    check_classes(role, model, name, info)


def check_strings(role, model, name, info):
    """Raises ValueError unless a model takes strings, one an example."""
    inputs = [(tuple(own.shape), own.dtype) for own in getattr(model, "inputs", None) or ()]
    if inputs == [((None,), "string")]:
        return
    fix = "put the TextVectorization layer that it was trained with in front of it, in one model"
    if inputs == [((None, 1), "string")]:
        fix = "wrap it in such a model"
    raise ValueError(
        f'The {role} "{name}" takes {inputs or "inputs that are not known"}; expected one string '
        f'an example, keras.Input((), dtype="string"), for "{info.name}" is texts and says nothing '
        f'of a model\'s tokens: {fix} (text = keras.Input((), dtype="string"); '
        "keras.Model(text, model(vectorize(text)))), and save that."
    )


def check_classes(role, model, name, info, dtype="float32"):
    """Raises ValueError unless a model of inputs of a dtype has one number for each class."""
    output = model.compute_output_spec(keras.KerasTensor((None, *info.image_shape), dtype))
    outputs = keras.tree.flatten(output)
    if len(outputs) != 1 or len(outputs[0].shape) != 2:
        shapes = [tuple(own.shape) for own in outputs]
        raise ValueError(
            f'The {role} "{name}" has outputs of shape {shapes}; expected one of shape '
            "(batch, classes)."
        )
    classes = outputs[0].shape[1]
    if classes != info.num_classes:
        raise ValueError(
            f'The {role} "{name}" knows {classes} classes, but "{info.name}" has '
            f"{info.num_classes}. Give a {role} for these classes."
        )
    head = next(iter(heads_of(model).values())) if getattr(model, "inputs", None) else None
    if head is not None and (head.kind, head.labels) == ("probabilities", "independent"):
        raise ValueError(
            f'The {role} "{name}" ends in independent probabilities (a sigmoid for each class), '
            f'but "{info.name}" has one class of many. Expected logits, or a softmax.'
        )
