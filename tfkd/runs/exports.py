"""Where a run's exports lie, and which run an export is of. No TensorFlow here."""

import json
from pathlib import Path

from tfkd.runs.directory import EXPORT, EXPORT_RECORD, SAVED_MODEL, RunDirectory
from tfkd.runtime.versions import list_versions


def is_export(path):
    """Whether a path looks like a `.tflite` file, a SavedModel, or a directory of versions."""
    path = Path(path).expanduser()
    return (
        path.suffix == ".tflite"
        or (path / "saved_model.pb").exists()
        or bool(list_versions(path) if path.is_dir() else ())
    )


def run_of(path):
    """`RunDirectory` of the run that an export is of: the one it lies in, else the one that the
    `export.json` beside it names.

    Raises:
        FileNotFoundError: there is none.
    """
    path = Path(path).expanduser().resolve()
    for folder in path.parents:
        if RunDirectory(folder).finished:
            return RunDirectory(folder)
    for folder in path.parents:
        if (folder / EXPORT_RECORD).exists():
            return RunDirectory(_run_named_in(folder / EXPORT_RECORD))
    raise FileNotFoundError(
        f'No run belongs to "{path}": no directory above it holds a run.json or {EXPORT_RECORD}, '
        "so the data to evaluate it on is unknown. Give an export that tfkd export wrote, in its "
        "place."
    )


def _run_named_in(path):
    """The run that an export.json names.

    Raises:
        ValueError: the file is damaged.
    """
    try:
        return str(json.loads(path.read_text(encoding="utf-8"))["run"])
    except (ValueError, KeyError, TypeError):
        raise ValueError(
            f'"{path}" is damaged, so the run of the export is unknown. Make the export again.'
        ) from None


def bases(paths):
    """{model name: base directory} of what is to be served.

    Args:
        paths: run directories (their names become the models'), `--out` directories of
            `tfkd export`, or base directories of versions.

    Raises:
        FileNotFoundError: nothing there that can be served. ValueError: two of the same name.
    """
    models = {}
    for path in paths:
        name, base = _base(Path(path).expanduser().resolve())
        if models.get(name, base) != base:
            raise ValueError(
                f'Both "{models[name]}" and "{base}" would be served as "{name}". Rename one of '
                "the directories, or serve them apart."
            )
        models[name] = base
    return models


def _base(path):
    for base in (path / EXPORT / SAVED_MODEL, path / SAVED_MODEL):
        if list_versions(base):
            return path.name, base
    if list_versions(path):
        # RUN/export/saved_model is the model of RUN.
        owner = path.parent.parent if path.parent.name == EXPORT else path.parent
        return (owner if path.name == SAVED_MODEL else path).name, path
    if (path / "saved_model.pb").exists():
        raise ValueError(
            f'"{path}" is one version of a model. Give the directory above it: {path.parent}.'
        )
    if RunDirectory(path).begun:
        raise FileNotFoundError(
            f'The run in "{path}" has no exported SavedModel. Make one: '
            f"tfkd export {path} --format saved_model"
        )
    raise FileNotFoundError(
        f'"{path}" holds neither a run nor versions of a SavedModel (1, 2, …): nothing to serve.'
    )
