"""What a search's trials came to, as it stands in `search.json`. No TensorFlow here."""

from typing import Annotated, Any, Literal

from pydantic import Field

from tfkd.runs.record import Part, validated

FILE = "search.json"

Name = Annotated[str, Field(pattern=r"^[0-9]+$")]


class TrialRecord(Part):
    """A trial, see `tfkd.tuning.race.joined`; without its histories."""

    trial: Name
    status: str
    score: float | None
    values: dict[str, bool | int | float | str]
    mean: dict[str, float]
    error: dict[str, float | None]
    epochs: int
    seeds: list[dict[str, Any]]
    parameters: int | None
    seconds: float
    message: str | None
    latency_ms: float | None = None


class Found(Part):
    """The content of `search.json`: what the trials came to.

    Attributes:
        trials: list of `TrialRecord`, the defaults first.
        trials_asked_for: how many there were to be.
        best: of the trials that went on to the end, the one with the best mean.
        kept: the trial whose settings the final students are trained with.
        differences: objective of `best` minus that of the defaults, for each further seed.
        said: which trial is kept and why, in words.
        pareto: names of the trials on the front, the smallest first.
        race: {trial: objective of its first seed, epoch by epoch}.
    """

    format: Literal[2] = 2
    tfkd: str
    trials: Annotated[list[TrialRecord], Field(min_length=1)]
    trials_asked_for: Annotated[int, Field(ge=1)]
    best: Name
    kept: Name
    differences: list[float]
    said: str
    pareto: list[Name]
    seconds_of_trials: float
    race: dict[Name, list[float | None]] = {}


def read(directory, say):
    """The `Found` of a search; None where there is none, or none that can be used."""
    if not (directory / FILE).exists():
        return None
    try:
        return Found(**validated(Found, directory / FILE))
    except ValueError as error:
        say(str(error))
        return None
