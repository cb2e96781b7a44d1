"""What each execution of each trial ended in, beside KerasTuner's own files.

KerasTuner keeps the mean over a trial's executions only. The hypermodel writes `executions.json`
into the trial's directory: a list with one entry for each execution, see `Executions.add`.
"""

import json
import math
import statistics
from pathlib import Path

from tfkd.files import written

FILE = "executions.json"


class Executions:
    """The file of one trial's executions.

    Args:
        directory: the trial's directory.
    """

    def __init__(self, directory):
        self.path = Path(directory) / FILE

    def add(self, execution, seed, history, seconds, parameters, epoch=None, failure=None):
        """Adds one execution; the first of a trial (or of its repetition) starts the file anew.

        Args:
            execution: its number, from 0.
            seed: of initial weights, order and dropout.
            history: {metric: one value an epoch}.
            seconds: wall time of its training.
            parameters: number of the student's parameters.
            epoch: the epoch with the best objective, from 1; None for a failure.
            failure: why it failed, or None.
        """
        history = {name: [_finite(value) for value in values] for name, values in history.items()}
        best = (
            {} if epoch is None else {name: values[epoch - 1] for name, values in history.items()}
        )
        entry = {
            "execution": execution,
            "seed": seed,
            "epoch": epoch,
            "metrics": best,
            "history": history,
            "seconds": round(seconds, 3),
            "parameters": parameters,
            "failure": failure,
        }
        before = self.read()[:execution] if execution else []
        with written(self.path) as partial:
            partial.write_text(json.dumps([*before, entry], indent=1), encoding="utf-8")

    def read(self):
        """list of entries; empty where no execution has ended yet."""
        return json.loads(self.path.read_text(encoding="utf-8")) if self.path.exists() else []


def trials(project_directory):
    """The trials of a search as far as they are, one row each, in the order of their names.

    Reads files only: works while the search runs, and for failed trials as well.

    Args:
        project_directory: KerasTuner's `directory/project_name`.

    Returns:
        list of dicts: `trial` (name), `status` ("RUNNING", "COMPLETED", "FAILED", "INVALID"),
        `score` (the mean objective) or None, `values` ({hyperparameter: value}), `mean` and `std`
        ({metric: figure} over executions, each at its best epoch; std None for one execution),
        `executions` (list, see `Executions.add`), `parameters` of the student or None, `seconds`
        of training, `message` of a failure or None.
    """
    rows = []
    for path in sorted(Path(project_directory).glob("trial_*/trial.json")):
        try:
            state = json.loads(path.read_text(encoding="utf-8"))
        except ValueError:
            continue  # KerasTuner is writing it right now
        rows.append(_row(state, Executions(path.parent).read()))
    return rows


def mean_and_std(values):
    """Mean, and sample standard deviation (n - 1), which is None for a single value."""
    values = list(values)
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None


def _row(state, executions):
    done = [execution["metrics"] for execution in executions if execution["failure"] is None]
    figures = {}
    for name in done[0] if done else ():
        values = [metrics.get(name) for metrics in done]
        if None not in values:
            figures[name] = mean_and_std(values)
    failures = [e["failure"] for e in executions if e["failure"] is not None]
    values = state["hyperparameters"]["values"]
    return {
        "trial": state["trial_id"],
        "status": state["status"],
        "score": _finite(state["score"]),
        "values": {name: value for name, value in values.items() if not _bookkeeping(name)},
        "mean": {name: mean for name, (mean, _) in figures.items()},
        "std": {name: std for name, (_, std) in figures.items()},
        "executions": executions,
        "parameters": executions[0]["parameters"] if executions else None,
        "seconds": sum(execution["seconds"] for execution in executions),
        "message": failures[0] if failures else _last_line(state["message"]),
    }


def _bookkeeping(name):
    return name.startswith("tuner/")  # Hyperband's brackets and rounds


def _last_line(message):
    """What a traceback says in the end."""
    lines = (message or "").strip().splitlines()
    return lines[-1].partition("Error: ")[2] or lines[-1] if lines else None


def _finite(value):
    """A float that JSON knows, or None."""
    return float(value) if value is not None and math.isfinite(value) else None
