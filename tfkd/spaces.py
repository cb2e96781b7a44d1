"""What a search may move: ranges and choices of numbers."""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Range:
    """Every number between two bounds.

    Args:
        low, high: the bounds, both included.
        default: where a search begins; by default the published baseline (see `Quantity`), brought
            into the range.
        log: whether factors, not differences, are spread evenly; needs `low` > 0.
        name: of the hyperparameter; quantities given spaces of one name share one value. By
            default each quantity has its own.

    Raises:
        ValueError: an empty, inverted or infinite range, or a default outside.
    """

    low: float
    high: float
    default: float | None = None
    log: bool = False
    name: str | None = None

    def __post_init__(self):
        for name in ("low", "high", "default"):
            if getattr(self, name) is not None or name != "default":
                number(getattr(self, name), f"{self!r}: {name}")
        if self.low >= self.high:
            raise ValueError(
                f"{self!r} holds nothing to search: low must be less than high. Give a plain "
                "number for what shall not move."
            )
        if self.log and self.low <= 0:
            raise ValueError(f"{self!r} is logarithmic: low must be greater than 0.")
        if self.default is not None and not self.low <= self.default <= self.high:
            raise ValueError(
                f"{self!r}: default must lie between {self.low} and {self.high}, as the search "
                "begins there."
            )

    @property
    def extremes(self):
        return (self.low, self.high)

    def first(self, baseline):
        """Where a search begins, a float."""
        default = baseline if self.default is None else self.default
        return min(max(float(default), self.low), self.high)

    def declare(self, hp, name, baseline):
        """The trial's value, from KerasTuner's `hp`."""
        sampling = "log" if self.log else "linear"
        low, high = float(self.low), float(self.high)
        default = self.first(baseline)
        return hp.Float(self.name or name, low, high, sampling=sampling, default=default)


@dataclass(frozen=True)
class Choice:
    """One of a few numbers.

    Args:
        values: two numbers or more.
        default: where a search begins; by default the published baseline (see `Quantity`) where it
            is among the values, else the first value.
        name: as of `Range`.

    Raises:
        ValueError: fewer than two values, repeated values, or a default that is none of them.
    """

    values: tuple
    default: float | None = None
    name: str | None = None

    def __post_init__(self):
        object.__setattr__(self, "values", tuple(self.values))
        for value in self.values:
            number(value, f"{self!r}: every value")
        if len(set(self.values)) < 2 or len(set(self.values)) < len(self.values):
            raise ValueError(
                f"{self!r}: expected two different values or more. Give a plain number for what "
                "shall not move."
            )
        if self.default is not None and self.default not in self.values:
            raise ValueError(f"{self!r}: default must be one of the values.")

    @property
    def extremes(self):
        return (min(self.values), max(self.values))

    def first(self, baseline):
        """Where a search begins, a float."""
        if self.default is not None:
            return float(self.default)
        return float(baseline if baseline in self.values else self.values[0])

    def declare(self, hp, name, baseline):
        """The trial's value, from KerasTuner's `hp`."""
        values = [float(value) for value in self.values]
        return hp.Choice(self.name or name, values, default=self.first(baseline))


def is_space(given):
    """Whether something is a space to search, and not a fixed number."""
    return isinstance(given, Range | Choice)


def number(given, what):
    plain = isinstance(given, int | float) and not isinstance(given, bool)
    if not plain or not math.isfinite(given):
        raise ValueError(
            f"{what} must be a finite number, tfkd.tuning.Range or tfkd.tuning.Choice; "
            f"got {given!r}."
        )
    return given
