"""What a training shows: one line on a terminal while it runs, elsewhere one line an epoch."""

import contextlib
import time

import keras

from tfkd import tasks, terminal

MOST_TERMS = 3  # of the loss
# What a loss is made of stands under the names of its parts, but for these sums.
SUMS = ("loss", "total_loss", "distillation_loss")


@contextlib.contextmanager
def training(name=None, task=None):
    """Gives the callback for one `fit`; put it behind the one that validates.

    Args:
        name: of one of many trainings, which stands before the epoch; or None.
        task: the `tfkd.tasks.base.Task` whose figure is shown; by default classification.
    """
    with terminal.step(name or "starting", counted=False, clock=False) as step:
        yield ProgressLine(step, name, task)


class ProgressLine(keras.callbacks.Callback):
    """Epoch, step, time left, the figure on the validation split, loss and what it is made of.

    Metrics are read at most four times a second; Keras has fetched them by then, as it does after
    every step whatever the callbacks.

    Args:
        step: `tfkd.terminal.Step` to show it on.
        name, task: as in `training`.
    """

    def __init__(self, step, name=None, task=None):
        super().__init__()
        self.step, self.name = step, f"{name}: " if name else ""
        self.task = task or tasks.get("classification")
        self._figure = self._first = None
        self._next = 0.0

    def on_epoch_begin(self, epoch, logs=None):
        self._steps, self._begun = self.params["steps"], time.monotonic()
        if self._first is None:
            self._first = epoch
            if self._steps:
                self.step.set_total((self.params["epochs"] - epoch) * self._steps)
        self._epoch = epoch
        self.step.show(f"{self._where()} first step" if epoch == self._first else None, now=True)

    def on_train_batch_end(self, batch, logs=None):
        now, done = time.monotonic(), batch + 1
        last = done == self._steps
        if now < self._next and not last:
            return
        self._next = now + terminal.REFRESH
        where = f"{self._where()} {done}/{self._steps}" if self._steps else self._where()
        where = f"{self._where()} validating" if last else where
        before = (self._epoch - self._first) * (self._steps or 0)
        self.step.show(where, before + done, self._parts(logs or {}), now=last)

    def on_epoch_end(self, epoch, logs=None):
        self._figure = (logs or {}).get(f"val_{self.task.judged}", self._figure)
        if not self.step.live:
            seconds = f"{time.monotonic() - self._begun:.0f} s"
            parts = [self._where(), seconds, *self._parts(logs or {})]
            terminal.say(terminal.fitted(parts, terminal.LOG_WIDTH))

    def _where(self):
        epochs = str(self.params["epochs"])
        return f"{self.name}epoch {self._epoch + 1:>{len(epochs)}}/{epochs}"

    def _parts(self, logs):
        parts = []
        if self._figure is not None:
            told = self.task.told({self.task.judged: self._figure})
            parts.append((f"val {told}", *self.task.short(self._figure)))
        names = [name for name in ("loss", *self._terms(logs)) if name in logs]
        return parts + [f"{self._label(name)} {logs[name]:.3g}" for name in names]

    def _terms(self, logs):
        """Names of what the loss is made of; of more than three parts only the two sums."""
        trackers = [own.name for own in getattr(self.model, "loss_trackers", ())]
        names = [n for n in logs if n.endswith("_loss") and n not in SUMS and n[:4] != "val_"]
        names += [name for name in trackers if name in logs and name not in names]
        if len(names) > MOST_TERMS:
            names = [name for name in ("student_loss", "distillation_loss") if name in logs]
        return names[:MOST_TERMS]

    def _label(self, name):
        """A loss's name as the line has it: `student_loss`, of the labels, is "labels"."""
        if name in ("loss", "student_loss"):
            return {"loss": "loss", "student_loss": self.task.learns_from}[name]
        for ending in ("_distillation", "_loss"):
            name = name.removesuffix(ending)
        return name.replace("_", " ")
