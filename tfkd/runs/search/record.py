"""What a search keeps of itself: `inputs.json` when it begins, `search.json` when it ends.

Both may come from elsewhere: every value is checked, and nothing is imported or opened because one
of them says so. Data and teacher are known by name and fingerprint, so that both files mean the
same on any machine.
"""

import json
import os
from pathlib import Path
from typing import Annotated, Any

import pydantic

from tfkd.tuning.results import Record, read_json

# Settings that say where something lies, and no more.
PLACES = ("data_dir", "cache")
NAMED = ("data", "teacher", "student")

Name = Annotated[str, pydantic.Field(pattern=r"^[0-9a-zA-Z]+$")]
Figure = bool | int | float | str | None


class Data(Record):
    """A data set by name, and the fingerprint of its pixels and labels."""

    name: str
    fingerprint: str


class Teacher(Record):
    """A teacher by name, the fingerprint of the file that was given, and that of its weights."""

    name: str
    file: str | None = None
    weights: str | None = None


class Inputs(Record):
    """What a search was begun with; with anything else its trials do not fit.

    Attributes:
        settings: the settings without places; see `portable`.
    """

    settings: dict[str, Any]
    data: Data
    teacher: Teacher

    def changed(self, other):
        """Names of what is another thing in `other`, an `Inputs`; what it lacks is not compared."""
        found = []
        if self.data.fingerprint != other.data.fingerprint:
            found.append("data")
        for name in ("file", "weights"):
            own, others = getattr(self.teacher, name), getattr(other.teacher, name)
            if others is not None and own is not None and own != others:
                found.append("teacher")
        return list(dict.fromkeys(found))


class TrialRow(Record):
    """A trial, see `tfkd.tuning.trials`; without its histories."""

    trial: Name
    status: str
    score: float | None
    values: dict[str, bool | int | float | str]
    mean: dict[str, float]
    std: dict[str, float | None]
    executions: list[dict[str, Any]]
    parameters: int | None
    seconds: float
    message: str | None
    latency_ms: float | None = None


class Best(Record):
    """The best trial."""

    trial: Name
    values: dict[str, bool | int | float | str]


class DataFacts(Data):
    """A data set with what a report says of it."""

    sizes: dict[str, int]


class SearchRecord(Record):
    """The content of `search.json`, as far as it is read again."""

    inputs: Inputs
    data: DataFacts
    trials_asked_for: pydantic.PositiveInt
    trials: list[TrialRow]
    best: Best
    pareto: list[Name]
    final_seeds: Annotated[list[int], pydantic.Field(min_length=1)]
    figures: dict[str, list[dict[str, Figure]]]
    searched_minus_defaults: dict[str, float | list[float]] | None


def read_record(path):
    """The content of a `search.json`, a dict.

    Raises:
        ValueError: it is missing, damaged, or of another version.
    """
    read_json(path, SearchRecord)
    return json.loads(Path(path).read_bytes())


def inputs_of(settings, info, teacher=None):
    """The `Inputs` of a search that begins now.

    Args:
        settings: `SearchSettings`.
        info: `tfkd.data.DataInfo`.
        teacher: fingerprint of the teacher's file, where one is given.
    """
    values = portable(settings)
    return Inputs(
        settings=values,
        data=Data(name=values["data"], fingerprint=info.fingerprint),
        teacher=Teacher(name=values["teacher"], file=teacher),
    )


def portable(settings):
    """Settings as a dict that means the same on any machine: files and folders by their names."""
    values = json.loads(json.dumps(settings.to_dict()))
    for name in NAMED:
        if os.sep in values.get(name, ""):
            values[name] = Path(values[name]).name
    return {name: value for name, value in values.items() if name not in PLACES}
