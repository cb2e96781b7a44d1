"""The models of a run: built from a name, loaded from a file, or made by a user's function; and
whether they fit the data."""

import contextlib
import difflib
import importlib
import os
import sys

import keras

from tfkd import preprocessors, tasks
from tfkd.settings import SettingsError
from tfkd.settings.base import is_path, is_reference


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
    task = tasks.get(settings.learns)
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
            model = task.build(role, settings, info)
    task.check(role, model, text, info)
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
