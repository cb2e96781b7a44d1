"""Preprocessors that stand beside a model instead of in it: those of KerasHub's tasks.

A task runs its preprocessor in its own `fit`, `predict` and `evaluate`. Where the model itself is
called, in a Distiller, an evaluation or an export, it is left out.
"""

import sys

import keras
import numpy as np
from keras import layers

_OPEN_SIDE = 40  # pixels of made-up images where the height or width is open


def check_none(model, role="model"):
    """Raises ValueError where a model has a preprocessor that a call of it leaves out."""
    if not _is_task(model) or model.preprocessor is None:
        return
    raise ValueError(
        f'The {role} "{model.name}" is a KerasHub task with a preprocessor '
        f"({type(model.preprocessor).__name__}), which runs in the task's own fit, predict and "
        "evaluate but not here, where the model itself is called: it would see images or texts "
        "that nobody has prepared. Make one model of both, for images: "
        "tfkd.models.with_preprocessor(task, input_shape). Or prepare the data with "
        "dataset.map(task.preprocessor), and set task.preprocessor = None."
    )


def with_preprocessor(task, input_shape=None, name=None):
    """One model of a KerasHub image task and its preprocessor: raw pixels to the task's output.

    ```python
    task = keras_hub.models.ImageClassifier.from_preset("vit_base_patch16_224_imagenet")
    teacher = tfkd.models.with_preprocessor(task, (32, 32, 3))
    distiller = tfkd.Distiller(teacher, student)
    ```

    The preprocessor becomes stock layers, "resize" and "normalise", that are saved and exported
    with the model. The task's layers stand in a layer named "task" and are tapped by path, such as
    "task/vi_t_backbone/vit_encoder/transformer_block_1"; they are the task's own, no copies. On
    integer pixels KerasHub rounds after resizing; this model does not.

    Args:
        task: a `keras_hub.models.Task` of one image input, with a preprocessor that resizes and
            scales (a `keras_hub.layers.ImageConverter`), or with none.
        input_shape: (height, width, channels) of the images; by default (None, None, channels of
            the task). Images of 1 channel are repeated to the 3 that a task takes.
        name: of the model; by default the task's.

    Returns:
        A functional `keras.Model`: images (batch, *input_shape), raw pixels -> the task's output.

    Raises:
        ValueError: no task of images, a preprocessor that does anything else, or images that it
            does not bring to the size that the task takes.
    """
    if not _is_task(task) or len(task.inputs) != 1 or len(task.inputs[0].shape) != 4:
        raise ValueError(
            f"{getattr(task, 'name', task)!r} is no KerasHub task of one image input. Expected a "
            "task such as keras_hub.models.ImageClassifier; any other model owns its "
            "preprocessing, as layers."
        )
    taken = tuple(task.inputs[0].shape[1:])
    image = keras.Input(input_shape or (None, None, taken[-1]), name="image", dtype="float32")
    x = image
    if x.shape[-1] == 1 and taken[-1] == 3:
        x = layers.Concatenate(dtype="float32", name="grey_to_rgb")([x, x, x])
    steps = _as_layers(task.preprocessor)
    _check_same(task.preprocessor, steps, tuple(x.shape[1:]))
    for step in steps:
        x = step(x)
    given = tuple(x.shape[1:])
    if any(size not in (None, own) for size, own in zip(taken, given, strict=True)):
        raise ValueError(
            f'The task "{task.name}" takes images of shape {taken}, but those of shape '
            f"{tuple(image.shape[1:])} reach it as {given}: its preprocessor does not resize them "
            "to what it takes. Give input_shape the size and channels that the task takes."
        )
    inner = keras.Model(task.input, task.output, name="task")
    return keras.Model(image, inner(x), name=name or task.name)


def _is_task(model):
    hub = sys.modules.get("keras_hub")  # imported where there is a model of it
    return hub is not None and isinstance(model, hub.models.Task)


def _as_layers(preprocessor):
    """The stock layers that do what the image converter of a preprocessor does."""
    converter = getattr(preprocessor, "image_converter", preprocessor)
    if converter is None:
        return []
    if not isinstance(converter, sys.modules["keras_hub"].layers.ImageConverter):
        raise ValueError(_other_than(preprocessor))
    steps = []
    if converter.image_size is not None:
        config = {**converter.resizing.get_config(), "name": "resize", "dtype": "float32"}
        steps.append(layers.Resizing.from_config(config))
    if converter.scale is not None or converter.offset is not None:
        scale = 1.0 if converter.scale is None else converter.scale
        offset = 0.0 if converter.offset is None else converter.offset
        steps.append(layers.Rescaling(scale, offset, dtype="float32", name="normalise"))
    return steps


def _check_same(preprocessor, steps, shape):
    """Raises ValueError unless layers do to made-up images what a preprocessor does."""
    if preprocessor is None:
        return
    shape = (2, *(size or _OPEN_SIDE for size in shape))
    images = np.random.default_rng(0).uniform(0, 255, shape).astype("float32")
    wanted, found = preprocessor(images), images
    for step in steps:
        found = step(found)
    same = np.shape(wanted) == np.shape(found)
    if not same or not np.allclose(wanted, found, rtol=1e-4, atol=1e-4):
        raise ValueError(_other_than(preprocessor))


def _other_than(preprocessor):
    return (
        f"The preprocessor {type(preprocessor).__name__} does something other than to resize and "
        "scale images, which stock layers cannot repeat. Prepare the data with "
        "dataset.map(task.preprocessor), and set task.preprocessor = None."
    )
