"""What a cache belongs to: the teacher, by its weights and config, and the augmentation."""

import functools
import hashlib
import importlib
import json
import os
import re

import keras
import numpy as np
import tensorflow as tf

from tfkd import _keras
from tfkd.data.seeds import view_seed

# Settings that change no output.
_LEFT_OUT = ("compile_config", "build_config", "trainable")

# Examples that an augmentation is tried on, to tell it from others.
PROBE = 16


def teacher_fingerprint(teacher):
    """ "sha256:..." over a model's config and weights.

    Names that Keras made up ("dense_3") do not count, so a teacher built anew with the same weights
    is the same teacher.
    """
    digest = hashlib.sha256(json.dumps(_config(teacher), sort_keys=True, default=str).encode())
    for weight in teacher.weights:
        value = np.ascontiguousarray(keras.ops.convert_to_numpy(weight))
        digest.update(f"{value.dtype}{value.shape}".encode())
        digest.update(value.tobytes())
    return f"sha256:{digest.hexdigest()}"


def _config(teacher):
    try:
        config = keras.saving.serialize_keras_object(teacher)
    except NotImplementedError:  # a subclassed model without get_config
        return type(teacher).__name__
    path = (config.get("config") or {}).get("filepath")
    if path is not None:  # a TFSMLayer is what lies there, wherever that is
        with open(os.path.join(path, "saved_model.pb"), "rb") as file:
            config["config"]["filepath"] = hashlib.file_digest(file, "sha256").hexdigest()
    made_up = {}
    _collect_made_up_names(config, made_up)
    return _canonical(config, made_up)


def _collect_made_up_names(config, found):
    if isinstance(config, dict):
        inner = config.get("config")
        if isinstance(inner, dict) and isinstance(inner.get("name"), str):
            stem = _keras.to_snake_case(str(config.get("class_name")))
            if re.fullmatch(re.escape(stem) + r"(_\d+)?", inner["name"]):
                found.setdefault(inner["name"], f"#{len(found)}")
    for value in config.values() if isinstance(config, dict) else config:
        if isinstance(value, dict | list | tuple):
            _collect_made_up_names(value, found)


def _canonical(config, made_up):
    if isinstance(config, dict):
        kept = {key: value for key, value in config.items() if key not in _LEFT_OUT}
        return {key: _canonical(value, made_up) for key, value in kept.items()}
    if isinstance(config, list | tuple):
        return [_canonical(value, made_up) for value in config]
    return made_up.get(config, config) if isinstance(config, str) else config


def augmentation_identity(augment, name=None):
    """What the manifest says of an augmentation: {"name": ..., "settings": {...}}.

    A function is called by its module and name, a `functools.partial` of one also by its keyword
    arguments: such a one is found again when the cache is read. Anything else needs `name`.

    Raises:
        ValueError: a lambda, an inner function or an object, and no `name`.
    """
    if augment is None or name is not None:
        return {"name": name, "settings": {}}
    function, settings = augment, {}
    if isinstance(augment, functools.partial) and not augment.args:
        function, settings = augment.func, dict(augment.keywords)
    identity = {
        "name": f"{getattr(function, '__module__', '')}:{getattr(function, '__qualname__', '')}",
        "settings": settings,
    }
    try:
        found = _imported(identity["name"]) is function
        json.dumps(settings)
    except (ImportError, AttributeError, TypeError, ValueError):
        found = False
    if not found:
        raise ValueError(
            f"The augmentation {augment!r} has no name to be known by when the cache is read. Use "
            "a function at the top level of a module (functools.partial gives it settings), or "
            'give it one: augment_name="my-crop-v1", and pass it as augment= when reading, too.'
        )
    return identity


def find_augmentation(identity):
    """The callable behind an identity, None for no augmentation.

    Raises:
        ValueError: it cannot be imported.
    """
    if identity["name"] is None:
        return None
    try:
        function = _imported(identity["name"])
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(
            f'Teacher cache: its augmentation "{identity["name"]}" cannot be imported ({error}). '
            "Pass it to dataset(..., augment=...)."
        ) from None
    settings = identity["settings"]
    return functools.partial(function, **settings) if settings else function


def traced(augment, spec):
    """An augmentation as one tf.function for every batch of such images; None for None.

    AutoGraph takes its time, and `tf.data` would trace it anew for each dataset.
    """
    if augment is None:
        return None
    images = tf.TensorSpec([None, *spec.shape], spec.dtype)
    return tf.function(augment, input_signature=[images, tf.TensorSpec([None, 2], tf.int64)])


def probe(augment, images, seed):
    """One number for each of some images, augmented: what tells this augmentation from others.

    Args:
        augment: callable (images, seeds) -> images, or None.
        images: tensor (n, height, width, channels), the dataset's first `PROBE` examples.
        seed: of the cache.

    Returns:
        list of n floats.
    """
    if augment is not None:
        seeds = view_seed(tf.range(len(images), dtype=tf.int64), 0, seed)
        images = augment(images, seeds)
    pixels = np.asarray(images).reshape(len(images), -1).astype("float64")
    return (pixels @ np.cos(np.arange(pixels.shape[1]))).round(3).tolist()


def check_probe(augment, images, directory, manifest):
    """Raises ValueError where an augmentation is not that of a cache.

    Args:
        augment: callable, or None.
        images: the dataset's first `PROBE` examples.
        directory, manifest: the cache's.
    """
    now, stored = probe(augment, images, manifest["seed"]), manifest["probe"]
    # Room for the rounding of floating point on other machines.
    scale = np.abs(np.asarray(images).astype("float64")).reshape(len(images), -1).sum(1)
    if np.any(np.abs(np.subtract(now, stored)) > 1e-4 * scale + 1e-3):
        name = manifest["augmentation"]["name"] or "none"
        raise ValueError(
            f'Teacher cache "{directory}": the augmentation gives other images than the one that '
            f'the cache was built with, "{name}". Take that one as it was, or build another cache '
            "in another directory."
        )


def _imported(name):
    module, _, path = name.partition(":")
    found = importlib.import_module(module)
    for part in path.split("."):
        found = getattr(found, part)
    return found
