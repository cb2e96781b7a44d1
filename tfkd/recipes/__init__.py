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

import difflib
import importlib
import os
from pathlib import Path

from tfkd.runs.directory import RunDirectory
from tfkd.runs.quiet import import_tensorflow

__all__ = ["default_out", "get", "names", "run"]

_NAMES = ("avazov2024", "xu2022", "umirzakova2024", "ye2024", "sur2026")


def names():
    """The names of all recipes."""
    return list(_NAMES)


def get(name):
    """The `tfkd.recipes.base.Recipe` of that name.

    Raises:
        ValueError: there is none; near matches are named.
    """
    if name not in _NAMES:
        near = difflib.get_close_matches(str(name), _NAMES, n=1, cutoff=0.4)
        hint = f'Did you mean "{near[0]}"? ' if near else ""
        raise ValueError(f"No recipe {name!r}. {hint}There are: {', '.join(_NAMES)}.")
    return importlib.import_module(f"tfkd.recipes.{name}").RECIPE


def default_out(name, settings):
    """Where a run goes unless told otherwise."""
    return os.path.join("saved_models", f"{name}-{Path(settings.data).name.replace(':', '-')}")


def run(name, settings, out, ablate=False, overwrite=False, resume=False):
    """Trains the student alone, with plain logit distillation and by the recipe; compares them.

    One budget for all: for each seed the same initial weights, the same batches, the same number of
    epochs, of which the one with the best validation accuracy is kept. The test split is read once,
    at the end. Every training is kept as it ends: a run that was stopped can be resumed, and a
    finished one resumed with `ablate` trains what is missing.

    Args:
        name: one of `names()`.
        settings: of the recipe's `settings` class.
        out: the run directory, new or empty.
        ablate: whether to train the paper's own comparison as well.
        overwrite: replace a run that is there.
        resume: continue a run that is there, with the same settings.

    Returns:
        dict, the content of `run.json`.

    Raises:
        ValueError: settings, files, data or models that do not fit together; a training that
            diverged. Until training starts nothing is written.
        FileExistsError: `out` holds a run, or files of something else.
        FileNotFoundError: data or a teacher file that is not there, or no run to resume.
    """
    recipe = get(name)
    if not isinstance(settings, recipe.settings):
        raise TypeError(
            f"settings are {type(settings).__name__}; expected "
            f'tfkd.recipes.get("{name}").settings(...), a {recipe.settings.__name__}.'
        )
    settings = settings.resolved()
    settings.check_files()
    directory = RunDirectory(out, recipe.settings)
    directory.check_free(settings, overwrite=overwrite, resume=resume)
    import_tensorflow()
    from tfkd.recipes.running import run

    return run(recipe, settings, directory, ablate, overwrite=overwrite, resume=resume)
