"""Two passes of one student that are to agree."""

from collections.abc import Sequence

import keras

from tfkd.losses.logits import softened_kl
from tfkd.losses.own import _names, _OfOutputs


@keras.saving.register_keras_serializable(package="tfkd")
class ConsistencyDistillation(_OfOutputs):
    """R-Drop: two passes through dropout are to say the same.

    Half of KL(p1 || p2) + KL(p2 || p1) (Liang et al. 2021, "R-Drop: Regularized Dropout for Neural
    Networks", arXiv:2106.14448), no gradient into the second distribution of each divergence. The
    student has the two passes as outputs, as `tfkd.models.two_passes` makes them; equal passes,
    those without dropout, have the value 0.

    Args:
        passes: names of the student's two outputs, logits of shape (batch, ..., classes).
        temperature: T > 0 softens both and scales the value by T²; the paper has 1.
        name: name of the loss's metric.

    Raises:
        ValueError: not two names, or a temperature that is not positive.
    """

    def __init__(
        self,
        passes: Sequence[str],
        temperature: float = 1.0,
        name: str = "consistency_distillation",
    ):
        passes = _names(self, passes, "passes")
        if len(passes) != 2:
            raise ValueError(
                f"{type(self).__name__} compares two passes, but passes= names {len(passes)}: "
                f"{list(passes)}."
            )
        super().__init__(passes, passes, name=name)
        self.temperature = temperature

    @property
    def passes(self):
        return self.members

    def call(self, teacher, student, heads=None):
        (first_held, second_held), (first, second) = self.logits(teacher, student, heads)
        temperature = self.temperature_tensor
        return 0.5 * (
            softened_kl(first, second_held, temperature)
            + softened_kl(second, first_held, temperature)
        )

    def get_config(self):
        return {"passes": self.members, "temperature": self.temperature, "name": self.name}
