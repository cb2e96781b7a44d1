"""Kinds of task: what is learnt, and how it is judged. No TensorFlow before something is built.

>>> task = tfkd.tasks.get("classification")
>>> list(task.figures)
['accuracy', 'cross_entropy']
"""

import importlib

from tfkd.near_names import meant

__all__ = ["get", "names"]

_HOMES = {
    "classification": "tfkd.tasks.classification:Classification",
    "text": "tfkd.tasks.text:Text",
    "hashing": "tfkd.tasks.hashing:Hashing",
    "multi-label": "tfkd.tasks.multi_label:MultiLabel",
    "segmentation": "tfkd.tasks.segmentation:Segmentation",
    "detection": "tfkd.tasks.detection:Detection",
    "language": "tfkd.tasks.language:Language",
    "translation": "tfkd.tasks.translation:Translation",
}


def names():
    """The names of all kinds of task."""
    return list(_HOMES)


def get(name):
    """The `tfkd.tasks.base.Task` of that name.

    Raises:
        ValueError: there is none; near matches are named.
    """
    if name not in _HOMES:
        hint = meant(name, _HOMES, most=1, cutoff=0.4)
        raise ValueError(f"No task {name!r}. {hint}There are: {', '.join(_HOMES)}.")
    module, _, kind = _HOMES[name].partition(":")
    return getattr(importlib.import_module(module), kind)()
