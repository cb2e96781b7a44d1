"""Callbacks that move loss weights and temperatures while training."""

import math
from collections.abc import Callable

import keras

from tfkd import progress


def linear(start: float, end: float, epochs: int) -> Callable[[int], float]:
    """A straight line from `start` in epoch 0 to `end` in epoch `epochs` - 1, and `end` after it.

    ```python
    tfkd.schedules.Schedule("student_loss_weight", tfkd.schedules.linear(0.1, 0.9, epochs=20))
    ```

    Returns:
        Function of the epoch, counted from 0.
    """
    return lambda epoch: start + (end - start) * _progress(epoch, epochs)


def cosine(start: float, end: float, epochs: int) -> Callable[[int], float]:
    """Half a cosine from `start` in epoch 0 to `end` in epoch `epochs` - 1, and `end` after it."""
    return lambda epoch: (
        end + (start - end) * (1 + math.cos(math.pi * _progress(epoch, epochs))) / 2
    )


def warm_up(value: float, epochs: int) -> Callable[[int], float]:
    """`value` * min((epoch + 1) / `epochs`, 1): the first epoch has a weight already."""
    if epochs < 1:
        raise ValueError(f"A warm-up takes at least one epoch, got {epochs!r}.")
    return lambda epoch: value * min((epoch + 1) / epochs, 1.0)


def ramp_up(value: float, epochs: int) -> Callable[[int], float]:
    """`value` · exp(-5 (1 - epoch / `epochs`)²), and `value` from that epoch on.

    For models that teach each other: in the beginning none of them has anything to teach (Laine and
    Aila 2017, arXiv:1610.02242; "ONE" takes 80 epochs of 300).
    """
    if epochs < 1:
        raise ValueError(f"A ramp-up takes at least one epoch, got {epochs!r}.")
    return lambda epoch: value * math.exp(-5.0 * (1.0 - min(epoch / epochs, 1.0)) ** 2)


class Schedule(keras.callbacks.Callback):
    """Sets a weight or temperature of a Distiller at the beginning of each epoch.

    The compiled step reads the new value; nothing is traced anew. A training that goes on with
    `initial_epoch`, or from a backup, goes on with the value of that epoch.

    ```python
    distiller.fit(
        train,
        epochs=20,
        callbacks=[
            tfkd.schedules.Schedule("student_loss_weight", tfkd.schedules.cosine(0.1, 0.9, 20)),
            tfkd.schedules.Schedule("feature_distillation", tfkd.schedules.warm_up(1.0, 5)),
            tfkd.schedules.Schedule("logits_distillation.temperature", lambda epoch: 8 - epoch / 4),
        ],
    )
    ```

    Args:
        name: "student_loss_weight"; the name of a loss's metric, for its weight; or that with
            ".temperature" (or another of the loss's coefficients); "teacher.learning_rate" (or a
            weight) of a teacher that learns.
        value: a function of the epoch, counted from 0, that returns a number.
    """

    def __init__(self, name: str, value: Callable[[int], float]):
        super().__init__()
        if not callable(value):
            raise ValueError(
                f"value must be a function of the epoch, such as tfkd.schedules.linear(1, 0, 10); "
                f"got {value!r}."
            )
        self.name, self.value = name, value

    def on_train_begin(self, logs=None):
        self._set(self.value(0), try_only=True)

    def on_epoch_begin(self, epoch, logs=None):
        self._set(self.value(epoch))

    def _set(self, value, try_only=False):
        """Assigns a value, or only sees that it could be."""
        distiller, (loss, _, attribute) = self.model, self.name.partition(".")
        names = [tracker.name for tracker in distiller.loss_trackers]
        if self.name == "student_loss_weight":
            owner, attribute = distiller, "student_loss_weight"
        elif loss == "teacher" and hasattr(distiller.source, attribute):
            owner = distiller.source
        elif loss not in names:
            raise ValueError(
                f"There is no {self.name!r} to schedule. Take student_loss_weight, the weight of a "
                f'loss by its metric ({names}), or a temperature, "{names[0]}.temperature".'
            )
        elif attribute:
            owner = distiller.distillation_losses[names.index(loss)]
            if not hasattr(owner, attribute):
                raise ValueError(f"{loss} has no {attribute}, so it cannot be scheduled.")
        else:
            owner, attribute = distiller.distillation_loss_weights, names.index(loss)
        if try_only:
            return
        if isinstance(attribute, int):
            owner[attribute] = value
        else:
            setattr(owner, attribute, value)


class FirstStage(keras.callbacks.Callback):
    """FitNets' two stages: hints alone in the first epochs, everything but the hints afterwards.

    Romero et al. 2015, "FitNets: Hints for Thin Deep Nets", arXiv:1412.6550. In the first stage
    only the student's layers up to the hint are trained, as no other gets a gradient; the moving
    statistics of BatchNormalization layers behind it move too. The compiled step reads weights,
    nothing is traced anew; between two epochs the Distiller has the weights that it was given, so
    that what is saved there goes on rightly with `initial_epoch`.

    ```python
    distiller.fit(train, epochs=30, callbacks=[tfkd.schedules.FirstStage(10)])
    ```

    Args:
        epochs: of the first stage.
        hints: names of the metrics of those losses that are the hints; by default of all losses
            that are brought to the teacher's shape by an adapter where shapes differ.

    Raises:
        ValueError: no whole number of epochs, or at the start of training no such losses, or no
            other ones for the second stage.
    """

    def __init__(self, epochs: int, hints: list | tuple | None = None):
        super().__init__()
        if isinstance(epochs, bool) or not isinstance(epochs, int) or epochs < 1:
            raise ValueError(
                f"The first stage takes a whole number of epochs, 1 or more, got {epochs!r}."
            )
        self.epochs, self.hints, self._given = epochs, hints, None

    def on_train_begin(self, logs=None):
        names = [tracker.name for tracker in self.model.loss_trackers]
        pairs = zip(names, self.model.distillation_losses, strict=True)
        found = [name for name, loss in pairs if loss.adapts is True]
        hints = found if self.hints is None else list(self.hints)
        if not hints or not set(hints) <= set(names):
            raise ValueError(
                f"FirstStage trains hints alone, but of the losses {names} it was told {hints}. "
                "Give hints= some of their names."
            )
        if set(hints) == set(names) and not self.model.student_loss_weight:
            raise ValueError(
                "There is nothing to train in the second stage: all losses are hints, and "
                "student_loss_weight is 0. Add a loss on logits, or give labels a weight."
            )
        self._is_hint = [name in hints for name in names]

    def on_epoch_begin(self, epoch, logs=None):
        model, first = self.model, epoch < self.epochs
        self._given = model.student_loss_weight, list(model.distillation_loss_weights)
        share, weights = self._given
        model.student_loss_weight = 0.0 if first else share
        model.distillation_loss_weights[:] = [
            weight if hint == first else 0.0
            for weight, hint in zip(weights, self._is_hint, strict=True)
        ]

    def on_epoch_end(self, epoch, logs=None):
        self.model.student_loss_weight, self.model.distillation_loss_weights[:] = self._given


class Anneal(keras.callbacks.Callback):
    """Anneals the layers of a student that is trained alone, such as `tfkd.models.ObliqueTree`.

    At the beginning of each epoch, by the share of the epochs that is done. A Distiller does it by
    itself.

    ```python
    student.fit(train, epochs=20, callbacks=[tfkd.schedules.Anneal()])
    ```
    """

    def on_epoch_begin(self, epoch, logs=None):
        progress.anneal(self.model, epoch / self.params["epochs"])


def _progress(epoch, epochs):
    return min(epoch / (epochs - 1), 1.0) if epochs > 1 else 1.0
