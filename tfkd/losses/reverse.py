"""The divergence the other way round: the student keeps to what the teacher finds likely."""

import keras

from tfkd.losses.base import DistillationLoss, Softened
from tfkd.losses.logits import known_logits, softened_kl


@keras.saving.register_keras_serializable(package="tfkd")
class ReverseDistillation(Softened, DistillationLoss):
    """KL(student || teacher) of softened distributions, times T².

    A small student cannot cover all that a large teacher finds likely. Forward divergence
    (`LogitsDistillation`, word-level distillation of Kim and Rush 2016, arXiv:1606.07947) has it
    spread over everything, reverse divergence has it settle on the teacher's main modes (Gu et al.
    2024, "MiniLLM", arXiv:2306.08543, which takes it on the student's own samples; here it is taken
    at each position of the data's sequences). Its gradient by the student's logits is
    T q (log(q/p) - KL(q || p)) for q of the student and p of the teacher.

    Both divergences read logits of shape (batch, ..., classes) and give a value for each position:
    padded positions, which the student's output masks, do not count.

    Args:
        temperature: T > 0. May be changed while training, without a retrace.
        teacher_layer_name: output (or layer) of the teacher that holds logits or probabilities of
            one class of many; None for its only output.
        student_layer_name: the same for the student.
        name: name of the loss's metric.

    Raises:
        ValueError: a temperature that is not positive; in a Distiller, a head of independent labels
            or of numbers.
    """

    needs = ("heads",)
    settings = ("temperature",)

    def __init__(
        self,
        temperature: float = 1.0,
        teacher_layer_name: str | None = None,
        student_layer_name: str | None = None,
        name: str = "reverse_distillation",
    ):
        super().__init__(teacher_layer_name, student_layer_name, name=name)
        self.temperature = temperature

    def call(self, teacher, student, heads=None):
        if heads is not None:
            if any(h.labels == "independent" or h.kind == "numbers" for h in heads):
                raise ValueError(
                    f"{self.name} compares logits of one class of many, but an output holds "
                    "independent labels or numbers. Take LogitsDistillation for independent "
                    "labels, FeatureDistillation for numbers."
                )
            teacher, student = known_logits(self, (teacher, student), heads)
        return softened_kl(student, teacher, self.temperature_tensor)
