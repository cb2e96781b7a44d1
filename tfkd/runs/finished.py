"""What a finished run's later commands need of it: its data and its models."""

import os
from pathlib import Path

from tfkd import recipes, tasks
from tfkd.runs.models import load_model
from tfkd.runs.rows import deployed
from tfkd.settings import DataSettings, DistillSettings
from tfkd.settings.base import absolute, read_toml


def load_run_data(directory, record, moved=(), data_dir=None):
    """The data sets of a finished run, list of `tfkd.data.Splits`.

    Args:
        directory: `RunDirectory`.
        record: its `Record`.
        moved: where the data lies now, in the run's order; by default where run.toml says.
        data_dir: the same of TFDS's directory.

    Raises:
        FileNotFoundError: it is not there. ValueError: it changed since.
    """
    settings = read_toml(directory / "run.toml")
    names = settings.get("data", "digits")
    names = [names] if isinstance(names, str) else names
    moved = [moved] if isinstance(moved, str | os.PathLike) else list(moved)
    if moved and len(moved) != len(record.data):
        raise ValueError(
            f"The run has {len(record.data)} data sets; given are {len(moved)}. Give one --data "
            "for each, in the run's order."
        )
    kind = DistillSettings
    read = {"task", *DataSettings.model_fields, *kind.reads}
    if record.kind == "recipe":  # its data may have settings of its own, such as a text's length
        kind = recipes.get(record.row().recipe or record.main).settings
        read = set(kind.model_fields)
    read -= {"data", "data_dir", "store"}  # without its store it has the same pixels
    kept = {name: own for name, own in settings.items() if name in read}
    folder = data_dir or settings.get("data_dir")
    splits = []
    for name, known in zip(moved or names, record.data, strict=True):
        name = absolute(str(name))
        if moved and os.path.isdir(name):
            name = os.path.abspath(name)
        try:
            own = tasks.get(record.task).load(kind(data=name, data_dir=folder, **kept))
        except FileNotFoundError as error:
            raise FileNotFoundError(f"{error} Where it has moved, give --data.") from error
        if own.info.fingerprint != known.fingerprint:
            raise ValueError(
                f'The data "{name}" is no longer what the run in "{directory.path}" was trained '
                f"and tested on: its fingerprint is {own.info.fingerprint}, not "
                f"{known.fingerprint}."
            )
        splits.append(own)
    return splits


def student_of(directory, record, row=None):
    """The model that a row deploys, of the kept seed; by default student.keras.

    Returns:
        (model, path of its file).
    """
    if row is None or row == record.main:
        path = directory / "student.keras"
        return load_model(path), path
    own = record.row(row)
    path = Path(directory.model_path(f"{record.kept_seed}/{own.file}"))
    return next(iter(deployed(own.recipe, load_model(path)).values())), path
