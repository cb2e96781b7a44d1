"""What a search shows while it runs, and keeps up to date on the way: table, CSV, TensorBoard."""

import shutil
import time

import tensorflow as tf
from rich.console import Console, Group
from rich.live import Live
from tensorboard.plugins.hparams import api as hparams

from tfkd.files import write_text
from tfkd.runs.search import report
from tfkd.runs.search.directory import RESULTS, TENSORBOARD, TRIALS
from tfkd.tuning import trials

SECONDS = 1.0  # between looks at the trials' files
SHOWN = 30  # of the newest trials, on a screen
RUNNING = "RUNNING"


class Progress:
    """A live table on a terminal, a line for each finished trial elsewhere.

    Args:
        directory: `SearchDirectory`.
        setup: `tfkd.runs.search.trials.TrialSetup`.

    Attributes:
        rows: of the trials as far as they are, see `tfkd.tuning.trials`.
    """

    def __init__(self, directory, setup):
        self.directory, self.settings, self.space = directory, setup.settings, setup.space
        self.console, self._logs = Console(), directory / TENSORBOARD
        self._live = (
            Live(console=self.console, auto_refresh=False) if self.console.is_terminal else None
        )
        self._epochs, self._ended, self._looked = {}, set(), 0.0
        self.rows = []

    def __enter__(self):
        if self._live is not None:
            self._live.start()
        self.rows = trials(self.directory / TRIALS)
        self._ended = {row["trial"] for row in self.rows if row["status"] != RUNNING}
        for row in self.rows:  # ended, but killed before this was written
            if row["trial"] in self._ended and not (self._logs / row["trial"]).exists():
                log(row, self._logs, self.settings.objective)
        if self._ended:
            self.say(f"Continued: {len(self._ended)} trials are done.")
        self._show()
        return self

    def __exit__(self, *raised):
        self._look()
        if self._live is not None:
            self._live.stop()

    def say(self, text):
        self.console.print(text, highlight=False, soft_wrap=True, markup=False)

    def epoch(self, trial, epoch):
        """A trial of this process has finished an epoch."""
        self._epochs[trial] = epoch
        self._show()

    def update(self, now=False):
        """Looks at the trials, unless it has done so just now."""
        if now or time.monotonic() > self._looked + SECONDS:
            self._look()

    def _look(self):
        self._looked = time.monotonic()
        self.rows = trials(self.directory / TRIALS)
        new = [row for row in self.rows if row["status"] != RUNNING]
        new = [row for row in new if row["trial"] not in self._ended]
        for row in new:
            self._ended.add(row["trial"])
            log(row, self._logs, self.settings.objective)
            if self._live is None:
                self.say(report.line(row, self.settings))
        if new:
            text = report.results_csv(self.rows, self.settings)
            write_text(self.directory / RESULTS, text)
        self._show()

    def _show(self):
        if self._live is None:
            return
        hidden = max(0, len(self.rows) - SHOWN)
        table = report.table(self.rows[hidden:], self.settings)
        self._live.update(Group(table, self._state()), refresh=True)

    def _state(self):
        state = f"{len(self._ended)} of {self.settings.trials} trials done"
        running = [row["trial"] for row in self.rows if row["status"] == RUNNING]
        for name in running or list(self._epochs)[-1:]:
            if name in self._epochs and name not in self._ended:
                state += f"; trial {name}: epoch {self._epochs[name]} of {self.settings.epochs}"
        return state


def log(row, directory, objective):
    """Writes a trial's curves and values for TensorBoard and its HParams page.

    Args:
        row: as `tfkd.tuning.trials` gives it.
        directory: of all trials' logs; each execution has its own below.
        objective: name of the metric.
    """
    if not any(directory.glob("events.*")):
        with tf.summary.create_file_writer(str(directory)).as_default():
            names = [hparams.HParam(name) for name in row["values"]]
            hparams.hparams_config(names, [hparams.Metric(objective)])
    # Whole or not at all: a trial whose folder is there is logged.
    partial = directory / f".partial-{row['trial']}"
    shutil.rmtree(partial, ignore_errors=True)
    for execution in row["executions"]:
        path = partial / f"execution{execution['execution']}"
        with tf.summary.create_file_writer(str(path)).as_default():
            hparams.hparams(row["values"], trial_id=f"{row['trial']}-{execution['execution']}")
            for name, values in execution["history"].items():
                for epoch, value in enumerate(values, start=1):
                    if value is not None:
                        tf.summary.scalar(name, value, step=epoch)
    shutil.rmtree(directory / row["trial"], ignore_errors=True)
    if partial.exists():
        partial.rename(directory / row["trial"])
