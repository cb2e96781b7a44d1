"""What a search shows while it runs, and keeps up to date on the way: CSV, TensorBoard."""

import contextlib
import shutil
import time

import tensorflow as tf
from tensorboard.plugins.hparams import api as hparams

from tfkd import terminal
from tfkd.files import write_text
from tfkd.runs import progress_line, tensorboard
from tfkd.runs.directory import TENSORBOARD, TRIALS
from tfkd.runs.search import report
from tfkd.settings.search import SIGNS
from tfkd.tuning import trials
from tfkd.tuning.race import RUNNING, joined

SECONDS = 1.0  # between looks at the trials' files


class Progress:
    """A line for each finished training; on a terminal, how far they are, too.

    Args:
        directory: `RunDirectory`.
        settings: `SearchSettings`.

    Attributes:
        rows: of the trials as far as they are, see `tfkd.tuning.race.joined`.
    """

    def __init__(self, directory, settings):
        self.directory, self.settings = directory, settings
        self._ended, self._looked, self._step = set(), 0.0, None
        self.rows = []

    @contextlib.contextmanager
    def shown(self):
        """Shows the trials meanwhile."""
        self._look(said=False)
        if self._ended:
            terminal.say(f"Continued: {len(self._ended)} trainings are done.")
        with terminal.step("trials", counted=False, clock=False) as self._step:
            self._look()
            yield self
        self._step = None
        self._look()

    @contextlib.contextmanager
    def training(self, name):
        """Gives callbacks for a training of this process."""
        with progress_line.training(f"training {name}") as shown:
            yield [shown]

    def update(self, now=False):
        """Looks at the trials, unless it has done so just now."""
        if now or time.monotonic() > self._looked + SECONDS:
            self._look()

    def _look(self, said=True):
        self._looked = time.monotonic()
        rows = trials(self.directory / TRIALS)
        objective = self.settings.objective
        self.rows = joined(rows, objective, SIGNS[objective])
        new = [r for r in rows if r["status"] != RUNNING and r["trial"] not in self._ended]
        for row in new:
            self._ended.add(row["trial"])
            if not (self.directory / TENSORBOARD / row["trial"]).exists():
                log(row, self.directory / TENSORBOARD, objective)
            if said:
                terminal.say(report.line(row, self.settings))
        if new:
            write_text(self.directory / "results.csv", report.results_csv(self.rows, self.settings))
        if self._step is not None:
            running = [row["trial"] for row in rows if row["status"] == RUNNING]
            state = f"{len(self.rows)} of {self.settings.trials} trials begun"
            self._step.show(state, parts=[f"training {', '.join(running)}"] * bool(running))


def log(row, directory, objective):
    """Writes a training's curves and values for TensorBoard and its HParams page.

    Args:
        row: as `tfkd.tuning.trials` gives it.
        directory: of all logs; each training has its own below.
        objective: name of the metric.
    """
    if not any(directory.glob("events.*")):
        with tf.summary.create_file_writer(str(directory)).as_default():
            names = [hparams.HParam(name) for name in row["values"]]
            hparams.hparams_config(names, [hparams.Metric(objective)])
    # Whole or not at all: a training whose folder is there is logged.
    partial = directory / f".partial-{row['trial']}"
    shutil.rmtree(partial, ignore_errors=True)
    for execution in row["executions"]:
        with tf.summary.create_file_writer(str(partial)).as_default():
            hparams.hparams(row["values"], trial_id=row["trial"])
            for name, values in execution["history"].items():
                for epoch, value in enumerate(values, start=row["begin"] + 1):
                    tensorboard.write({name: value}, epoch)
    if partial.exists():
        partial.rename(directory / row["trial"])
