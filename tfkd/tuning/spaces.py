"""What a search may move: ranges and choices for weights, temperature and learning rate."""

import math
from dataclasses import dataclass

from tfkd.published import METHODS


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
                _number(getattr(self, name), f"{self!r}: {name}")
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
            _number(value, f"{self!r}: every value")
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


@dataclass(frozen=True)
class Quantity:
    """A number of a distillation: what it may be, and what published work uses.

    Attributes:
        name: what it is called.
        baseline: where a search begins. `tfkd distill` has the same defaults.
        low: smallest value allowed.
        high: largest value allowed.
        positive: whether `low` itself is excluded.
    """

    name: str
    baseline: float
    low: float = 0.0
    high: float = math.inf
    positive: bool = False

    def check(self, given):
        """Raises ValueError unless `given` is a number or a space that this quantity can have."""
        numbers = given.extremes if is_space(given) else (_number(given, self.name),)
        for number in numbers:
            too_low = number <= self.low if self.positive else number < self.low
            if too_low or number > self.high:
                raise ValueError(f"{self.name} must be {self._range()}, got {given!r}.")

    def value(self, given, hp, name=None):
        """The trial's value of what was given: a number as it is, a space from `hp`."""
        if not is_space(given):
            return float(given)
        return float(given.declare(hp, name or self.name, self.baseline))

    def _range(self):
        low = f"greater than {self.low:g}" if self.positive else f"at least {self.low:g}"
        return low if math.isinf(self.high) else f"between {self.low:g} and {self.high:g}"


STUDENT_LOSS_WEIGHT = Quantity("student_loss_weight", 0.1, high=1.0)
LOSS_WEIGHT = Quantity("distillation_loss_weights", 1.0)
TEMPERATURE = Quantity("temperature", 4.0, positive=True)
LEARNING_RATE = Quantity("learning_rate", 0.003, positive=True)


def weight_range(loss):
    """A `Range` for the weight of a loss of `tfkd.losses`, log-spaced around the published one.

    The published weights of the methods span five orders of magnitude; the range is a tenth to ten
    times as much, and a search begins at the weight itself. They stand beside the loss on the
    labels in full, `Distiller(..., independent_weights=True, student_loss_weight=1.0)`.

    ```python
    weights = [tfkd.tuning.weight_range(loss) for loss in losses]  # distillation_loss_weights
    ```

    Args:
        loss: a loss, or the name of its class. What `tfkd losses` does not list has 1.0.
    """
    name = loss if isinstance(loss, str) else type(loss).__name__
    published = [method.weight for method in METHODS.values() if method.loss == name]
    if getattr(loss, "standardize", False) and name == "LogitsDistillation":
        published = [METHODS["standardized"].weight]
    weight = published[0] if published else LOSS_WEIGHT.baseline
    return Range(weight / 10, weight * 10, weight, log=True)


def is_space(given):
    """Whether something is a space to search, and not a fixed number."""
    return isinstance(given, Range | Choice)


def _number(given, what):
    plain = isinstance(given, int | float) and not isinstance(given, bool)
    if not plain or not math.isfinite(given):
        raise ValueError(
            f"{what} must be a finite number, tfkd.tuning.Range or tfkd.tuning.Choice; "
            f"got {given!r}."
        )
    return given
