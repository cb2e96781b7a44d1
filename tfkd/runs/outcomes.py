"""What trainings ended in, on disk: each is there whole or is done again."""

import zipfile

from tfkd.files import write_json, written
from tfkd.runs.record import Outcome
from tfkd.runs.teachers import sha256_of


def keep(directory, part, training, history, model):
    """Writes a training's model, and then what is known of it.

    Args:
        directory: `RunDirectory`.
        part: name of the training.
        training: `Training`.
        history: {name: list of values, one an epoch}.
        model: the trained model.

    Returns:
        `Outcome`.
    """
    path = directory.model_path(part)
    with written(path) as partial:
        model.save(partial)
    outcome = Outcome(training=training, history=history, model_sha256=sha256_of(path))
    write_json(path.with_suffix(".json"), outcome.model_dump())
    return outcome


def whole(directory, part):
    """The `Outcome` of a training whose model and record are whole; None otherwise."""
    path = directory.model_path(part)
    outcome = Outcome.read(path.with_suffix(".json"))
    if outcome is None or not path.exists() or outcome.model_sha256 != sha256_of(path):
        return None
    return outcome


def damaged(directory, record):
    """Names of a finished run's files that are not whole, given its `Record`."""
    found, epochs = [], 0
    for part in record.trainings:
        outcome = whole(directory, part)
        if outcome is None:
            found.append(part)
        else:
            epochs += len(outcome.history.get("loss", []))
    if not zipfile.is_zipfile(directory / "student.keras"):
        found.append("student.keras")
    history = directory / "history.csv"
    if not history.exists() or history.read_bytes().count(b"\n") != epochs + 1:
        found.append("history.csv")
    return found
