"""What a cache belongs to: the teacher, by its weights and config, and the augmentation."""

import functools
import hashlib
import json
import os
import re

import keras
import numpy as np
import tensorflow as tf

from tfkd import _keras, data
from tfkd.data.seeds import view_seed

# Settings that change no output.
_LEFT_OUT = ("compile_config", "build_config", "trainable")

# Examples that teacher and augmentation are tried on, to tell them from others.
PROBE = 16

# How much of its size a number of a probe may differ on another machine.
ROUNDING = 1e-4


def teacher_fingerprint(source):
    """ "sha256:..." over the config and weights of what stands for a teacher.

    Names that Keras made up ("dense_3") do not count, so a teacher built anew with the same weights
    is the same teacher.

    Args:
        source: `tfkd.teachers.Source`.

    Raises:
        ValueError: it does not tell what it is.
    """
    try:
        config = source.identity()
    except (TypeError, NotImplementedError) as error:
        raise ValueError(
            f"{type(source).__name__} cannot be stored, as nothing would tell it from others with "
            f"other settings: {error}. Give it a get_config of plain values."
        ) from error
    made_up = {}
    _collect_made_up_names(config, made_up)
    text = json.dumps(_canonical(config, made_up), sort_keys=True, default=str)
    digest = hashlib.sha256(text.encode())
    for model in source.models():
        for weight in model.weights:
            value = np.ascontiguousarray(keras.ops.convert_to_numpy(weight))
            digest.update(f"{value.dtype}{value.shape}".encode())
            digest.update(value.tobytes())
    return f"sha256:{digest.hexdigest()}"


def _collect_made_up_names(config, found):
    if isinstance(config, dict):
        inner = config.get("config")
        if isinstance(inner, dict) and isinstance(inner.get("name"), str):
            stem = _keras.to_snake_case(str(config.get("class_name")))
            if re.fullmatch(re.escape(stem) + r"(_\d+)?", inner["name"]):
                found.setdefault(inner["name"], f"#{len(found)}")
    if isinstance(config, dict | list | tuple):
        for value in config.values() if isinstance(config, dict) else config:
            _collect_made_up_names(value, found)


def _canonical(config, made_up):
    if isinstance(config, dict):
        kept = {key: value for key, value in config.items() if key not in _LEFT_OUT}
        if config.get("class_name") == "TFSMLayer":  # it is what lies there, wherever that is
            path = os.path.join(kept["config"]["filepath"], "saved_model.pb")
            with open(path, "rb") as file:
                saved = hashlib.file_digest(file, "sha256").hexdigest()
            kept["config"] = {**kept["config"], "filepath": saved}
        return {key: _canonical(value, made_up) for key, value in kept.items()}
    if isinstance(config, list | tuple):
        return [_canonical(value, made_up) for value in config]
    return made_up.get(config, config) if isinstance(config, str) else config


def augmentation_identity(augment, name=None):
    """What the manifest says of an augmentation: {"name": ..., "settings": {...}}.

    A function is called by its module and name, a `functools.partial` of one also by its keyword
    arguments. Anything else needs `name`.

    Raises:
        ValueError: a lambda, an inner function or an object, and no `name`.
    """
    if augment is None or name is not None:
        return {"name": name, "settings": {}}
    function, settings = augment, {}
    if isinstance(augment, functools.partial) and not augment.args:
        function, settings = augment.func, dict(augment.keywords)
    name = f"{getattr(function, '__module__', '')}:{getattr(function, '__qualname__', '<none>')}"
    try:
        json.dumps(settings)
    except (TypeError, ValueError):
        settings = None
    if "<" in name or settings is None:
        raise ValueError(
            f"The augmentation {augment!r} has no name to be known by when the cache is read. Use "
            "a function at the top level of a module (functools.partial gives it settings), or "
            'give it one: augment_name="my-crop-v1", and pass it as augment= when reading, too.'
        )
    return {"name": name, "settings": settings}


def find_augmentation(identity):
    """The augmentation of `tfkd.data` behind an identity, None for no augmentation.

    Raises:
        ValueError: it is none of these: nothing is imported because a file names it.
    """
    if identity["name"] is None:
        return None
    for name in data.augmentation_names():
        augment = data.augmentation(name)
        if augment is not None and augmentation_identity(augment) == identity:
            return augment
    raise ValueError(
        f'Teacher cache: its augmentation "{identity["name"]}" is none of tfkd.data, and nothing '
        "is imported because a file names it. Pass it to dataset(..., augment=...)."
    )


def traced(augment, dataset):
    """An augmentation as one tf.function for every batch of such inputs; None for None.

    AutoGraph takes its time, and `tf.data` would trace it anew for each dataset. Where teacher and
    student have an input each, the augmentation is given one after the other, with the same seeds.
    """
    if augment is None:
        return None
    inputs = keras.tree.map_structure(
        lambda spec: tf.TensorSpec([None, *spec.shape], spec.dtype), dataset.element_spec[0]
    )

    def augmented(x, seeds):
        if isinstance(x, dict) and set(x) == {"teacher", "student"}:
            return {side: augment(part, seeds) for side, part in x.items()}
        return augment(x, seeds)

    return tf.function(augmented, input_signature=[inputs, tf.TensorSpec([None, 2], tf.int64)])


def probe(augment, first, seed):
    """One number for each of some examples, augmented: what tells this augmentation from others.

    Args:
        augment: callable (x, seeds) -> x, or None.
        first: (indices, x, y) of the dataset's first `PROBE` examples.
        seed: of the cache.

    Returns:
        list of floats.
    """
    return projected(_augmented(augment, first, seed))


def projected(values):
    """One number for each row of an array: a sum with weights between 0 and 2.

    Returns:
        list of floats, rounded to 6 digits.
    """
    rows = _rows(values)
    sums = rows @ (1 + np.cos(np.arange(rows.shape[1])))
    return [float(f"{value:.6g}") for value in sums]


def differs(now, stored, values):
    """Whether `projected(values)`, given as `now`, is more than rounding away from `stored`."""
    scale = np.abs(_rows(values)).sum(1)
    return len(now) != len(stored) or np.any(np.abs(np.subtract(now, stored)) > ROUNDING * scale)


def check_probe(augment, first, directory, manifest):
    """Raises ValueError where an augmentation is not that of a cache.

    Args:
        augment: callable (x, seeds) -> x, or None.
        first: (indices, x, y) of the dataset's first `PROBE` examples.
        directory, manifest: the cache's.
    """
    seen = _augmented(augment, first, manifest["seed"])
    if differs(projected(seen), manifest["probe"], seen):
        name = manifest["augmentation"]["name"] or "none"
        raise ValueError(
            f'Teacher cache "{directory}": the augmentation gives other images than the one that '
            f'the cache was built with, "{name}". Take that one as it was, or build another cache '
            "in another directory."
        )


def check_answers(answers, directory, manifest):
    """Raises ValueError where a teacher of the same fingerprint gives other answers than stored.

    Args:
        answers: {name: float array} on the dataset's first `PROBE` examples, in view 0.
        directory, manifest: the cache's.
    """
    for name, values in answers.items():
        if differs(projected(values), manifest["answers"][name], values):
            raise ValueError(
                f'Teacher cache "{directory}": the teacher gives another "{name}" for the first '
                "examples than the one that the cache was built with, though its name and "
                "settings are the same. Take that one as it was, or build another cache in another "
                "directory."
            )


def _augmented(augment, first, seed):
    """The numbers of the examples' first view, float64 array (n, ...)."""
    indices, x, _ = first
    if augment is not None:
        x = augment(x, view_seed(indices, 0, seed))
    parts = [np.asarray(part) for part in keras.tree.flatten(x)]
    numbers = [_rows(part) for part in parts if part.dtype.kind in "fiub"]
    return np.concatenate([np.zeros((len(indices), 1)), *numbers], axis=1)


def _rows(values):
    return np.asarray(values).reshape(len(values), -1).astype("float64")
