"""Soft targets whose gradient is scaled, class by class, by what the teacher says of the class."""

import keras
import tensorflow as tf
from keras import ops

from tfkd.coefficient import Coefficient
from tfkd.losses import classes
from tfkd.losses.base import Softened
from tfkd.losses.logits import softened_kl


def with_scaled_gradient(logits, scale):
    """`logits` themselves; the gradient into them is scaled, and keeps its length.

    Args:
        logits: float tensor, shape (batch, classes).
        scale: float tensor of the same shape, positive.

    Returns:
        The logits. Of a gradient g of an example the logits get g · scale · ‖g‖ / ‖g · scale‖; a
        scale of 1 changes nothing, to the last bit.
    """

    @tf.custom_gradient
    def scaled(logits):
        def backward(gradient):
            changed = gradient * scale
            own, new = (tf.norm(g, axis=-1, keepdims=True) for g in (gradient, changed))
            return changed * tf.math.divide_no_nan(own, new)

        return tf.identity(logits), backward

    return scaled(logits)


@keras.saving.register_keras_serializable(package="tfkd")
class GradientScaledDistillation(Softened, classes.ClassDistillation):
    """Softened logits; classes that the teacher holds for likely get more of the gradient.

    Inspired by the title only of Si et al. 2026, "Gradient-aware knowledge distillation" with
    teacher-guided gradient scaling (doi 10.1016/j.neunet.2025.108229): its text was not at hand,
    and nothing here is the paper's. Experimental.

    The value is `softened_kl`, as in `LogitsDistillation`. Its gradient by the student's logits,
    T (s - t) of softened probabilities s and t, is multiplied in each class c by

        1 + strength · (t_c / max t) ** sharpness

    and brought back to its length, example by example.

    Args:
        temperature: T > 0.
        strength: at least 0; with 0 this is `LogitsDistillation`, to the last bit.
        sharpness: at least 0; with 0 all classes are scaled alike, which changes nothing but
            rounding.
        standardize: see `tfkd.losses.LogitsDistillation`.
        teacher_layer_name: output of the teacher; None for its only one.
        student_layer_name: the same for the student.
        name: name of the loss's metric.

    Raises:
        ValueError: a temperature that is not positive, or a negative setting.
    """

    settings = ("temperature", "strength", "sharpness", "standardize")
    strength, sharpness = Coefficient(), Coefficient()

    def __init__(
        self,
        temperature: float = 4.0,
        strength: float = 1.0,
        sharpness: float = 0.5,
        standardize: bool = False,
        teacher_layer_name: str | None = None,
        student_layer_name: str | None = None,
        name: str = "gradient_scaled_distillation",
    ):
        super().__init__(standardize, teacher_layer_name, student_layer_name, name)
        self.temperature, self.strength, self.sharpness = temperature, strength, sharpness

    def formula(self, teacher, student):
        temperature = self.temperature_tensor
        # In logarithms: a power of a probability that is 0 in float32 has one as well.
        softened = ops.log_softmax(teacher / temperature)
        likeness = softened - ops.max(softened, axis=-1, keepdims=True)
        power = ops.exp(self.coefficient("sharpness") * likeness)
        scale = ops.stop_gradient(1.0 + self.coefficient("strength") * power)
        return softened_kl(teacher, with_scaled_gradient(student, scale), temperature)
