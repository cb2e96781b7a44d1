"""One optimizer for every learning rate: what a rate decides becomes variables."""

import keras
import tensorflow as tf


class Rate:
    """An optimizer whose learning rate can be set anew, without a retrace.

    The optimizer is made for two rates. What differs between the two is what the rate decides: the
    learning rate itself, or numbers of its schedule (a cosine's first rate, a warm-up's target),
    which are replaced by variables. Where anything else differs (a weight decay computed from the
    rate, say), the optimizer cannot follow.

    Args:
        make: function of the learning rate, a float, that returns a new optimizer.
        value: the learning rate.
        other: another one to compare with, or None for a rate that never changes.

    Attributes:
        optimizer: the optimizer made for `value`.

    Raises:
        ValueError: `make` does not return a Keras optimizer.
    """

    def __init__(self, make, value, other=None):
        self._make, self._value = make, value
        self.optimizer = self._made(value)
        self._variables = {}  # {attribute of the schedule: variable}
        self._follows = other is not None and self._bind(self._made(other))

    def reaches(self, value):
        """Whether the optimizer can be set to that learning rate."""
        return self._follows or value == self._value

    def set(self, value):
        """Makes the optimizer what `make(value)` would return."""
        if not self._follows:
            return
        if not self._variables:
            self.optimizer.learning_rate = value
            return
        schedule = _rate_of(self._made(value))
        for name, variable in self._variables.items():
            variable.assign(getattr(schedule, name))

    def _made(self, value):
        optimizer = self._make(float(value))
        if not isinstance(optimizer, keras.optimizers.Optimizer):
            raise ValueError(
                "optimizer must be a function of the learning rate that returns a Keras optimizer, "
                f"such as keras.optimizers.Adam; it returned {optimizer!r}."
            )
        return optimizer

    def _bind(self, other):
        """Puts variables where the two optimizers differ; False where that is impossible."""
        mine, theirs = _rate_of(self.optimizer), _rate_of(other)
        if _settings(self.optimizer) != _settings(other) or type(mine) is not type(theirs):
            return False
        if isinstance(mine, keras.Variable):
            return True
        if not isinstance(mine, keras.optimizers.schedules.LearningRateSchedule):
            return False
        before = dict(vars(mine))
        differing = [name for name in before if before[name] != vars(theirs)[name]]
        if not differing or not all(isinstance(before[name], float) for name in differing):
            return False
        for name in differing:
            self._variables[name] = tf.Variable(before[name], dtype=tf.float32, trainable=False)
            setattr(mine, name, self._variables[name])
        if not _traceable(mine):  # a schedule that computes with plain numbers
            vars(mine).update(before)
            self._variables.clear()
            return False
        mine.get_config = self._config  # of numbers, so that the optimizer can be saved
        return True

    def _config(self):
        schedule = _rate_of(self.optimizer)
        numbers = {name: float(variable) for name, variable in self._variables.items()}
        return {**type(schedule).get_config(schedule), **numbers}


def _rate_of(optimizer):
    """The variable, schedule or function behind an optimizer's learning rate."""
    return optimizer._learning_rate  # the public property gives a schedule's current value


def _settings(optimizer):
    """What an optimizer is besides its learning rate."""
    return {k: v for k, v in optimizer.get_config().items() if k not in ("learning_rate", "name")}


def _traceable(schedule):
    """Whether a schedule runs in a graph on what it holds now."""
    try:
        step = tf.TensorSpec((), tf.int64)
        tf.function(lambda at: schedule(at), autograph=False).get_concrete_function(step)
    except Exception:  # whatever a user's schedule raises on a tensor in a number's place
        return False
    return True
