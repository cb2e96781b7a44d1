"""Callbacks that move loss weights and temperatures while training."""

import math
from collections.abc import Callable

import keras


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
            ".temperature" (or another of the loss's coefficients).
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


def _progress(epoch, epochs):
    return min(epoch / (epochs - 1), 1.0) if epochs > 1 else 1.0
