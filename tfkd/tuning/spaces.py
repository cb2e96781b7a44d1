"""The numbers of a distillation that a search may move, and where it begins: at the defaults."""

import math
from dataclasses import dataclass

from tfkd.published import METHODS, TEMPERATURE
from tfkd.settings.distill import DistillSettings
from tfkd.spaces import Range, is_space, number


@dataclass(frozen=True)
class Quantity:
    """A number of a distillation: what it may be, and what published work uses.

    Attributes:
        name: what it is called.
        baseline: where a search begins: the default of `tfkd distill`.
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
        numbers = given.extremes if is_space(given) else (number(given, self.name),)
        for own in numbers:
            too_low = own <= self.low if self.positive else own < self.low
            if too_low or own > self.high:
                raise ValueError(f"{self.name} must be {self._range()}, got {given!r}.")

    def value(self, given, hp, name=None):
        """The trial's value of what was given: a number as it is, a space from `hp`."""
        if not is_space(given):
            return float(given)
        return float(given.declare(hp, name or self.name, self.baseline))

    def _range(self):
        low = f"greater than {self.low:g}" if self.positive else f"at least {self.low:g}"
        return low if math.isinf(self.high) else f"between {self.low:g} and {self.high:g}"


def _default(name):
    return DistillSettings.model_fields[name].default


STUDENT_LOSS_WEIGHT = Quantity("student_loss_weight", _default("student_loss_weight"), high=1.0)
LOSS_WEIGHT = Quantity("distillation_loss_weights", _default("logits_weight"))
TEMPERATURE = Quantity("temperature", TEMPERATURE, positive=True)
LEARNING_RATE = Quantity("learning_rate", _default("learning_rate"), positive=True)
SOFTNESS = Quantity("softness", _default("softness"), high=1.0, positive=True)
OF_LOSSES = {"temperature": TEMPERATURE, "softness": SOFTNESS}  # numbers that losses have


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
