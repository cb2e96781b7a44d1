"""What each execution of each trial ended in, as files that are checked when they are read.

KerasTuner keeps the mean over a trial's executions only. The hypermodel writes `executions.json`
into the trial's directory: a list with one entry for each execution, see `Executions.add`.
"""

import math
import statistics
from pathlib import Path
from typing import Literal

import pydantic

from tfkd.files import written
from tfkd.tuning.race import BEGIN, FOLLOWS, own_values

FILE = "executions.json"


class Record(pydantic.BaseModel):
    """Base of what is read from a file: every value of its kind, unknown keys left alone."""

    model_config = pydantic.ConfigDict(strict=True, frozen=True)


class Execution(Record):
    """One training of a trial; see `Executions.add`."""

    execution: pydantic.NonNegativeInt
    seed: int
    initial_weights: str | None = None
    epoch: pydantic.PositiveInt | None
    metrics: dict[str, float | None]
    history: dict[str, list[float | None]]
    seconds: pydantic.NonNegativeFloat
    parameters: pydantic.NonNegativeInt
    failure: str | None


class _Observation(Record):
    value: list[float] = pydantic.Field(min_length=1)
    step: int


class _Metric(Record):
    observations: list[_Observation]


class _Metrics(Record):
    metrics: dict[str, _Metric]


class _Hyperparameters(Record):
    space: list[dict] = []
    values: dict[str, bool | int | float | str]


class TrialState(Record):
    """`trial.json`: KerasTuner's, with what a search that goes on needs to know.

    Attributes:
        begun_after: how many trials had ended when this one was begun.
        ended_as: this one's place among those that ended, from 1.
        checkpoint: SHA-256 of the file with the best weights.
    """

    trial_id: str = pydantic.Field(pattern=r"^[0-9a-zA-Z]+$")
    hyperparameters: _Hyperparameters
    metrics: _Metrics = _Metrics(metrics={})
    score: float | None
    best_step: int | None = 0
    status: Literal["RUNNING", "IDLE", "INVALID", "STOPPED", "COMPLETED", "FAILED"]
    message: str | None
    begun_after: pydantic.NonNegativeInt | None = None
    ended_as: pydantic.PositiveInt | None = None
    checkpoint: str | None = None


def read_json(path, kind):
    """The content of a JSON file, checked.

    Args:
        path: of the file.
        kind: what it must hold: a `Record` class, or a type such as `list[Execution]`.

    Returns:
        an instance of `kind`.

    Raises:
        ValueError: the file is missing, damaged, or holds something else; its name is said.
    """
    try:
        return pydantic.TypeAdapter(kind).validate_json(Path(path).read_bytes())
    except pydantic.ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        reason = f"{where}: {first['msg']}" if where else first["msg"]
    except OSError as error:
        reason = error.strerror or type(error).__name__
    raise ValueError(f'"{path}" cannot be used: {reason}.')


class Executions:
    """The file of one trial's executions.

    Args:
        directory: the trial's directory.
    """

    def __init__(self, directory):
        self.path = Path(directory) / FILE

    def add(
        self,
        execution,
        seed,
        history,
        seconds,
        parameters,
        epoch=None,
        failure=None,
        initial_weights=None,
    ):
        """Adds one execution; the first of a trial (or of its repetition) starts the file anew.

        Args:
            execution: its number, from 0.
            seed: of initial weights, order and dropout.
            history: {metric: one value an epoch}.
            seconds: wall time of its training.
            parameters: number of the student's parameters.
            epoch: the epoch with the best objective, from 1; None for a failure.
            failure: why it failed, or None.
            initial_weights: hash of the student's weights before the training.
        """
        history = {name: [_finite(value) for value in values] for name, values in history.items()}
        best = (
            {} if epoch is None else {name: values[epoch - 1] for name, values in history.items()}
        )
        entry = Execution(
            execution=execution,
            seed=seed,
            initial_weights=initial_weights,
            epoch=epoch,
            metrics=best,
            history=history,
            seconds=round(seconds, 3),
            parameters=parameters,
            failure=failure,
        )
        before = self._read()[:execution] if execution else []
        content = pydantic.TypeAdapter(list[Execution]).dump_json([*before, entry], indent=1)
        with written(self.path) as partial:
            partial.write_bytes(content)

    def read(self):
        """list of dicts; empty where no execution has ended yet.

        Raises:
            ValueError: the file is damaged.
        """
        return [entry.model_dump() for entry in self._read()]

    def _read(self):
        return read_json(self.path, list[Execution]) if self.path.exists() else []


def trials(project_directory):
    """The trials of a search as far as they are, one row each, in the order in which they began.

    Reads files only: works while the search runs, and for failed trials as well. A trial whose
    files are damaged is left out; the search trains it again.

    Args:
        project_directory: KerasTuner's `directory/project_name`.

    Returns:
        list of dicts: `trial` (name), `status` ("RUNNING", "COMPLETED", "FAILED", "INVALID"),
        `score` (the mean objective) or None, `values` ({hyperparameter: value}), `mean` and `std`
        ({metric: figure} over executions, each at its best epoch; std None for one execution),
        `executions` (list, see `Executions.add`), `parameters` of the student or None, `seconds`
        of training, `message` of a failure or None; `follows`, the trial that it goes on with or
        repeats, or None, and `begin`, the epochs that were trained before.
    """
    rows = []
    for path in trial_directories(project_directory):
        try:
            state, executions = read_json(path / "trial.json", TrialState), Executions(path).read()
        except ValueError:
            continue
        if path.name == f"trial_{state.trial_id}":  # else a copy of another one
            rows.append(_row(state, executions))
    return rows


def trial_directories(project_directory):
    """Paths of the trials' directories: those named by numbers in their order, then the others."""
    paths = [path for path in Path(project_directory).glob("trial_*") if path.is_dir()]
    return sorted(paths, key=lambda path: (_number(path), path.name))


def mean_and_std(values):
    """Mean, and sample standard deviation (n - 1), which is None for a single value."""
    values = list(values)
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None


def pareto(rows, maximize, minimize):
    """The rows that no other row beats: accuracy against size or latency, say.

    A row is beaten by one that is at least as good in both respects and better in one. Of rows that
    are equal in both, the first stays. Rows that lack one of the two figures are left out.

    Args:
        rows: list of dicts, as `trials` returns them, or anything that the keys understand.
        maximize: figure of which more is better: the name of a row's entry, or a function of the
            row such as `lambda row: row["mean"].get("val_accuracy")`.
        minimize: figure of which less is better, in the same way.

    Returns:
        list of rows, the smallest first.
    """
    good, cheap = _key(maximize), _key(minimize)
    known = [row for row in rows if _is_finite(good(row)) and _is_finite(cheap(row))]
    front = []
    for row in sorted(known, key=lambda row: (cheap(row), -good(row))):  # stable: equal rows
        if not front or good(row) > good(front[-1]):
            front.append(row)
    return front


def _row(state, executions):
    done = [execution["metrics"] for execution in executions if execution["failure"] is None]
    figures = {}
    for name in done[0] if done else ():
        values = [metrics.get(name) for metrics in done]
        if None not in values:
            figures[name] = mean_and_std(values)
    failures = [e["failure"] for e in executions if e["failure"] is not None]
    values = state.hyperparameters.values
    return {
        "trial": state.trial_id,
        "status": state.status,
        "score": _finite(state.score),
        "values": own_values(values),
        "follows": values.get(FOLLOWS),
        "begin": values.get(BEGIN, 0),
        "mean": {name: mean for name, (mean, _) in figures.items()},
        "std": {name: std for name, (_, std) in figures.items()},
        "executions": executions,
        "parameters": executions[0]["parameters"] if executions else None,
        "seconds": sum(execution["seconds"] for execution in executions),
        "message": failures[0] if failures else _last_line(state.message),
    }


def _number(path):
    digits = path.name.removeprefix("trial_")
    return int(digits) if digits.isdecimal() else math.inf


def _key(given):
    return given if callable(given) else lambda row: row.get(given)


def _is_finite(value):
    return value is not None and math.isfinite(value)


def _last_line(message):
    """What a traceback says in the end."""
    lines = (message or "").strip().splitlines()
    return lines[-1].partition("Error: ")[2] or lines[-1] if lines else None


def _finite(value):
    """A float that JSON knows, or None."""
    return float(value) if _is_finite(value) else None
