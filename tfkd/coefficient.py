"""Numbers that the compiled step reads from variables: changing one needs no retrace."""

import collections.abc
import math

import tensorflow as tf

_HELD = "_held_coefficients"


class Coefficient:
    """A loss weight or temperature as an attribute: a Python float, backed by a variable.

    ```python
    class Softened:
        temperature = Coefficient(positive=True)

    loss.temperature = 4.0                            # checked; the step reads the new value
    Softened.temperature.tensor(loss)                 # float32 scalar for the step
    ```

    The variable is float64, so that what was set is what is read back and saved.

    Args:
        minimum: smallest value allowed.
        maximum: largest value allowed, None for none, or a function of the owner that gives one.
        positive: whether the minimum itself is excluded.
    """

    def __init__(self, minimum=0.0, maximum=None, positive=False):
        self._minimum, self._maximum, self._positive = minimum, maximum, positive

    def __set_name__(self, owner, name):
        self.name = name

    def __get__(self, owner, kind=None):
        return self if owner is None else _held(owner, self.name)[0]

    def __set__(self, owner, value):
        maximum = self._maximum(owner) if callable(self._maximum) else self._maximum
        number = self.checked(value, self.name, maximum)
        held = vars(owner).setdefault(_HELD, {})
        if self.name not in held:
            held[self.name] = [number, _variable(number, self.name)]
        held[self.name][0] = number
        held[self.name][1].assign(number)

    def tensor(self, owner):
        """The current value as a float32 scalar, read when the step runs."""
        return tf.cast(_held(owner, self.name)[1], tf.float32)

    def checked(self, value, name, maximum=None):
        """`value` as a float; ValueError outside of the range."""
        try:
            number = float(value)
        except (TypeError, ValueError):
            raise ValueError(f"{name} must be a number, got {value!r}.") from None
        too_low = number <= self._minimum if self._positive else number < self._minimum
        if math.isfinite(number) and not too_low and (maximum is None or number <= maximum):
            return number
        wanted = f"greater than {self._minimum}" if self._positive else f"at least {self._minimum}"
        wanted = wanted if maximum is None else f"between {self._minimum} and {maximum}"
        raise ValueError(f"{name} must be {wanted}, got {value!r}.")


class CoefficientList:
    """A list of loss weights as an attribute: of fixed length, its numbers may be assigned to."""

    def __set_name__(self, owner, name):
        self.name = name

    def __get__(self, owner, kind=None):
        return self if owner is None else _held(owner, self.name)

    def __set__(self, owner, values):
        held = vars(owner).setdefault(_HELD, {})
        if self.name in held:
            held[self.name][:] = values
        else:
            held[self.name] = Coefficients(values, self.name)


class Coefficients(collections.abc.MutableSequence):
    """Loss weights: a list of numbers >= 0 of fixed length, each backed by a variable."""

    _RANGE = Coefficient()

    def __init__(self, values, name):
        self._name, self._values = name, []
        self._values = self._checked(values)
        self._variables = [_variable(v, f"{name}_{i}") for i, v in enumerate(self._values)]

    def __getitem__(self, index):
        return self._values[index]

    def __setitem__(self, index, value):
        values = list(self._values)
        values[index] = value
        if len(values) != len(self):
            raise ValueError(f"Expected {len(self)} values, got {len(values)}: {values}.")
        self._values = self._checked(values)  # all are looked at before any is set
        for variable, number in zip(self._variables, self._values, strict=True):
            variable.assign(number)

    def __len__(self):
        return len(self._values)

    def __eq__(self, other):
        return list(self) == list(other) if isinstance(other, collections.abc.Iterable) else False

    def __repr__(self):
        return repr(self._values)

    def __delitem__(self, index):
        raise TypeError("The number of distillation losses is fixed; set a weight to 0 instead.")

    def insert(self, index, value):
        raise TypeError("The number of distillation losses is fixed; build another Distiller.")

    def tensors(self):
        """The weights as float32 scalars, read when the step runs."""
        return [tf.cast(variable, tf.float32) for variable in self._variables]

    def _checked(self, values):
        return [type(self)._RANGE.checked(v, f"{self._name}[{i}]") for i, v in enumerate(values)]


def _held(owner, name):
    try:
        return vars(owner)[_HELD][name]
    except KeyError:
        raise AttributeError(f"{type(owner).__name__} has no {name} yet.") from None


def _variable(value, name):
    return tf.Variable(value, dtype=tf.float64, trainable=False, name=name)
