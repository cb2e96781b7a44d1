"""What a search shows while it runs, and keeps up to date on the way: table, CSV, TensorBoard."""

import shutil
import time

import tensorflow as tf
from rich.console import Console, Group
from rich.live import Live
from tensorboard.plugins.hparams import api as hparams

from tfkd.files import write_text
from tfkd.runs.directory import TENSORBOARD, TRIALS
from tfkd.runs.search import report
from tfkd.settings.search import SIGNS
from tfkd.tuning import trials
from tfkd.tuning.race import RUNNING, joined

SECONDS = 1.0  # between looks at the trials' files
SHOWN = 30  # of the newest trials, on a screen


class Progress:
    """A live table on a terminal, a line for each finished training elsewhere.

    Args:
        directory: `RunDirectory`.
        settings: `SearchSettings`.

    Attributes:
        rows: of the trials as far as they are, see `tfkd.tuning.race.joined`.
    """

    def __init__(self, directory, settings):
        self.directory, self.settings, self.console = directory, settings, Console()
        terminal = self.console.is_terminal
        self._live = Live(console=self.console, auto_refresh=False) if terminal else None
        self._ended, self._looked, self._running = set(), 0.0, ""
        self.rows = []

    def __enter__(self):
        if self._live is not None:
            self._live.start()
        self._look(said=False)
        if self._ended:
            self.say(f"Continued: {len(self._ended)} trainings are done.")
        return self

    def __exit__(self, *raised):
        self._look()
        if self._live is not None:
            self._live.stop()

    def say(self, text):
        self.console.print(text, highlight=False, soft_wrap=True, markup=False)

    def epoch(self, training, epoch):
        """A training of this process has finished an epoch."""
        self._running = f"; training {training}: epoch {epoch}"
        self._show()

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
            if said and self._live is None:
                self.say(report.line(row, self.settings))
        if new:
            write_text(self.directory / "results.csv", report.results_csv(self.rows, self.settings))
        self._show()

    def _show(self):
        if self._live is None:
            return
        table = report.table(self.rows[-SHOWN:], self.settings)
        state = f"{len(self.rows)} of {self.settings.trials} trials begun{self._running}"
        self._live.update(Group(table, state), refresh=True)


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
                    if value is not None:
                        tf.summary.scalar(name, value, step=epoch)
    if partial.exists():
        partial.rename(directory / row["trial"])
