"""Numbers that the compiled step reads from variables: changing one needs no retrace."""

import collections.abc
import math

import tensorflow as tf


class Coefficient:
    """One loss weight or temperature.

    `value` is a Python float; setting it assigns the variable that the compiled step reads. The
    variable is float64, so that what was set is what is read back and saved.

    Args:
        value: finite number within the range.
        name: what it is called in messages.
        minimum: smallest value allowed.
        maximum: largest value allowed, or None.
        positive: whether the minimum itself is excluded.
    """

    def __init__(self, value, name, minimum=0.0, maximum=None, positive=False):
        self.name = name
        self._minimum, self._maximum, self._positive = minimum, maximum, positive
        self._value = self.checked(value)
        self._variable = tf.Variable(self._value, dtype=tf.float64, trainable=False, name=name)

    @property
    def value(self):
        return self._value

    @value.setter
    def value(self, value):
        self._value = self.checked(value)
        self._variable.assign(self._value)

    def tensor(self):
        """The current value as a float32 scalar, read when the step runs."""
        return tf.cast(self._variable, tf.float32)

    def checked(self, value):
        try:
            number = float(value)
        except (TypeError, ValueError):
            raise ValueError(f"{self.name} must be a number, got {value!r}.") from None
        too_low = number <= self._minimum if self._positive else number < self._minimum
        too_high = self._maximum is not None and number > self._maximum
        if not math.isfinite(number) or too_low or too_high:
            raise ValueError(f"{self.name} must be {self._range()}, got {value!r}.")
        return number

    def _range(self):
        low = f"greater than {self._minimum}" if self._positive else f"at least {self._minimum}"
        return low if self._maximum is None else f"between {self._minimum} and {self._maximum}"


class Coefficients(collections.abc.MutableSequence):
    """A list of numbers of fixed length, each backed by a `Coefficient`."""

    def __init__(self, values, name):
        self._items = [Coefficient(value, f"{name}[{i}]") for i, value in enumerate(values)]

    def __getitem__(self, index):
        picked = self._items[index]
        return [item.value for item in picked] if isinstance(index, slice) else picked.value

    def __setitem__(self, index, value):
        targets = self._items[index]
        if not isinstance(index, slice):
            targets, value = [targets], [value]
        value = list(value)
        if len(value) != len(targets):
            raise ValueError(f"Expected {len(targets)} values, got {len(value)}: {value}.")
        # All are looked at before any is set.
        checked = [item.checked(number) for item, number in zip(targets, value, strict=True)]
        for item, number in zip(targets, checked, strict=True):
            item.value = number

    def __len__(self):
        return len(self._items)

    def __eq__(self, other):
        if not isinstance(other, collections.abc.Iterable):
            return NotImplemented
        return list(self) == list(other)

    def __repr__(self):
        return repr(list(self))

    def __delitem__(self, index):
        raise TypeError("The number of distillation losses is fixed; set a weight to 0 instead.")

    def insert(self, index, value):
        raise TypeError("The number of distillation losses is fixed; build another Distiller.")

    def tensor(self, index):
        """The weight at `index` as a float32 scalar, read when the step runs."""
        return self._items[index].tensor()
