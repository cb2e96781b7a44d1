"""The angle between what teacher and student say: their scale does not count."""

from typing import Literal

import keras
from keras import ops

from tfkd.losses.base import DistillationLoss, Softened
from tfkd.losses.features import cosine_distance
from tfkd.losses.logits import form_of, known_logits

ON = ("logits", "probabilities", "features")


def centred_cosine_distance(teacher_logits, student_logits):
    """1 - Pearson correlation over the classes: the cosine distance of centred logits.

    A constant that is added to all logits of an example changes no probability; centring takes it
    out (Huang et al. 2022, "DIST", arXiv:2205.10536, eq. 9).

    Args:
        teacher_logits: float tensor, shape (..., classes).
        student_logits: float tensor of the same shape.

    Returns:
        Tensor of shape (...), between 0 and 2; 1 where all logits of one side are equal.
    """
    return cosine_distance(
        teacher_logits - ops.mean(teacher_logits, axis=-1, keepdims=True),
        student_logits - ops.mean(student_logits, axis=-1, keepdims=True),
    )


@keras.saving.register_keras_serializable(package="tfkd")
class CosineDistillation(Softened, DistillationLoss):
    """Distils the direction of the teacher's vector, 1 - cosine (Sur et al. 2026, land use).

    Args:
        on: what is compared: "logits", centred over the classes; "probabilities", softened by the
            temperature; or "features", where an adapter brings the student's layer to the teacher's
            shape and each position of a map is one vector.
        temperature: T > 0, of the probabilities; without effect on the others.
        teacher_layer_name: output or layer of the teacher; None for its only output, of which
            "logits" and "probabilities" read the logits.
        student_layer_name: the same for the student.
        name: name of the loss's metric.

    Raises:
        ValueError: an unknown `on`, a temperature that is not positive, or features without names.
    """

    def __init__(
        self,
        on: Literal["logits", "probabilities", "features"] = "logits",
        temperature: float = 1.0,
        teacher_layer_name: str | None = None,
        student_layer_name: str | None = None,
        name: str = "cosine_distillation",
    ):
        if on not in ON:
            raise ValueError(f"on must be one of {', '.join(ON)}; got {on!r}.")
        if on == "features" and None in (teacher_layer_name, student_layer_name):
            raise ValueError(
                'CosineDistillation(on="features") compares two layers: give teacher_layer_name '
                "and student_layer_name."
            )
        super().__init__(teacher_layer_name, student_layer_name, name=name)
        self.on = on
        self.temperature = temperature

    @property
    def adapts(self):
        return self.on == "features"

    @property
    def needs(self):
        return () if self.on == "features" else ("heads",)

    def call(self, teacher, student, heads=None):
        if self.on == "features":
            return cosine_distance(teacher, student)
        form = "softmax"
        if heads is not None:
            form = form_of(self, heads, student.shape[-1])
            teacher, student = known_logits(self, (teacher, student), heads)
        if self.on == "logits":
            return centred_cosine_distance(teacher, student)
        activation = ops.softmax if form == "softmax" else ops.sigmoid
        temperature = self.temperature_tensor
        return cosine_distance(activation(teacher / temperature), activation(student / temperature))

    def get_config(self):
        return {**super().get_config(), "on": self.on, "temperature": self.temperature}
