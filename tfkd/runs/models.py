"""The models of a run: built from a name, loaded from a file, or made by a user's function; and
whether they fit the data."""

import contextlib
import difflib
import importlib
import os
import sys

import keras
import numpy as np
import tensorflow as tf

from tfkd import models, preprocessors
from tfkd.settings import SettingsError
from tfkd.settings.base import is_path, is_reference
from tfkd.taps import heads_of


def build(role, settings, info):
    """A new model, "teacher" or "student", from Keras's global seed; or the one that is given.

    Args:
        role: which of the settings' models.
        settings: `TrainingSettings`.
        info: `tfkd.data.DataInfo`.

    Raises:
        SettingsError: options that the model does not have, or a function that is not found.
        ValueError: a model that does not fit the data.
    """
    text, options = getattr(settings, role), getattr(settings, f"{role}_options")
    if is_path(text):
        model = load_model(text)
    elif is_reference(text):
        model = referred(role, text)
        with explained(role, f"{text}({info.image_shape}, {info.num_classes}, ...)"):
            model = model(info.image_shape, info.num_classes, **options)
        if not isinstance(model, keras.Model):
            raise SettingsError(
                f"{role}: {text} returned a {type(model).__name__}; expected a keras.Model that "
                "takes the images and returns a number for each class."
            )
        if not model.built:
            model.build((None, *info.image_shape))
    else:
        with explained(role):
            model = models.build(text, info.image_shape, info.num_classes, **options)
    check_fits(role, model, text, info)
    return model


@contextlib.contextmanager
def explained(role, call=None):
    """Says which model it was that could not be built."""
    try:
        yield
    except (TypeError, ValueError) as error:
        what = f"{call} failed: " if call else ""
        raise SettingsError(f"{role}: {what}{error}") from error


def referred(role, text):
    """The object that "package.module:name" names; modules in the working directory count.

    Raises:
        SettingsError: it is not there; says what was tried.
    """
    module, _, name = text.partition(":")
    here = os.getcwd()
    sys.path.insert(0, here)
    try:
        found = importlib.import_module(module)
    except ImportError as error:
        raise SettingsError(
            f'{role}: cannot import "{module}" of "{text}" ({error}). Tried {here} and the '
            "installed packages."
        ) from error
    finally:
        sys.path.remove(here)
    for part in name.split("."):
        if not hasattr(found, part):
            near = difflib.get_close_matches(part, dir(found), n=2)
            meant = f' Did you mean "{module}:{near[0]}"?' if near else ""
            raise SettingsError(f'{role}: "{module}" has no "{name}".{meant}')
        found = getattr(found, part)
    if not callable(found) and not isinstance(found, keras.callbacks.Callback):
        raise SettingsError(f'{role}: "{text}" is a {type(found).__name__}; expected a function.')
    return found


def load_model(path):
    """A model from a `.keras` file, without its optimizer.

    Raises:
        ValueError: a damaged file, classes that Keras does not know, or a model with a
            preprocessor that would be left out.
    """
    try:
        model = keras.saving.load_model(path, compile=False)
    except Exception as error:  # Keras raises many kinds, from the zip, HDF5 and its own reader
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ValueError(
            f'"{path}" cannot be loaded as a Keras model: {reason} Expected a whole file written '
            "by model.save('NAME.keras'), of layers that Keras knows."
        ) from error
    if not isinstance(model, keras.Model):
        raise ValueError(f'"{path}" holds a {type(model).__name__}; expected a keras.Model.')
    preprocessors.check_none(model, f'model of "{path}",')
    return model


def check_fits(role, model, name, info):
    """Raises ValueError unless a model takes the data's images and has a number for each class."""
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
    output = model.compute_output_spec(keras.KerasTensor((None, *shape), "float32"))
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
            f'but an image of "{info.name}" has one class of many. Expected logits, or a softmax.'
        )


class Logits:
    """A model as a function of images that returns logits, also where it ends in a softmax.

    Args:
        model: built, with one output of shape (batch, classes), or a dict of such.
        images: some of the data's, on which the output is looked at.
        output: of a dict, the output to return.

    Attributes:
        from_logits: whether the model's own output is logits.
    """

    def __init__(self, model, images, output=None):
        self.model, self.name, self._output = model, model.name, output
        output = self._of(model(images, training=False))
        # Probabilities in half precision sum to 1 but for their rounding.
        off = 1e-3 if output.dtype == tf.float32 else 0.02
        values = np.asarray(tf.cast(output, tf.float64))
        within = bool(((values >= 0) & (values <= 1)).all())
        self.from_logits = not (within and np.allclose(values.sum(axis=-1), 1.0, atol=off))

    def _of(self, output):
        return output[self._output] if self._output else keras.tree.flatten(output)[0]

    def __call__(self, images, training=False):
        output = tf.cast(self._of(self.model(images, training=training)), tf.float32)
        return output if self.from_logits else tf.math.log(tf.maximum(output, 1e-30))
