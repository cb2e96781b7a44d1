"""The papers that tfkd is founded on, each as one file that can be run, read and changed.

    >>> recipe = tfkd.recipes.get("xu2022")
    >>> settings = recipe.settings(temperature=4.0)
    >>> system = recipe.build(settings, teacher, student)
    >>> distiller = system.distiller(teacher)
    >>> distiller.compile("adam", system.loss, loss_weights=system.loss_weights)
    >>> distiller.fit(train, epochs=30)
    >>> recipe.deployed(distiller.student)["soft vote"].save("student.keras")

`tfkd recipes` lists them, `tfkd recipes run NAME` measures one. Nothing here imports TensorFlow
before something is built or run.
"""

import importlib

from tfkd.near_names import meant

__all__ = ["get", "names"]

_NAMES = (
    "avazov2024",
    "xu2022",
    "umirzakova2024",
    "ye2024",
    "sur2026",
    "song2024",
    "li2024",
    "hossain2024",
    "feng2021",
    "he2024",
    "tu2022",
    "si2026",
    "mao2025",
    "tatarnikova2025",
    "wan2023",
    "belinga2024",
    "wulandari2024",
    "wang2022",
    "chen2024",
)


def names():
    """The names of all recipes."""
    return list(_NAMES)


def get(name):
    """The `tfkd.recipes.base.Recipe` of that name.

    Raises:
        ValueError: there is none; near matches are named.
    """
    if name not in _NAMES:
        hint = meant(name, _NAMES, most=1, cutoff=0.4)
        raise ValueError(f"No recipe {name!r}. {hint}There are: {', '.join(_NAMES)}.")
    return importlib.import_module(f"tfkd.recipes.{name}").RECIPE
