"""Soft targets: the student imitates the teacher's softened class distribution."""

import keras
from keras import ops

from tfkd.losses.base import Softened, StructuredLoss


def softened_kl(teacher_logits, student_logits, temperature):
    """KL(teacher || student) of softened distributions, times T² (Hinton et al. 2015, eq. 4).

    Args:
        teacher_logits: float tensor, shape (..., classes).
        student_logits: float tensor, shape (..., classes).
        temperature: positive scalar.

    Returns:
        Tensor of shape (...), in nats; the gradient is T (softmax(s/T) - softmax(t/T)).
    """
    teacher = ops.log_softmax(teacher_logits / temperature)
    student = ops.log_softmax(student_logits / temperature)
    return ops.square(temperature) * ops.sum(ops.exp(teacher) * (teacher - student), axis=-1)


def softened_cross_entropy(teacher_logits, student_logits, temperature):
    """Cross-entropy of the softened distributions, times T²: `softened_kl` plus the teacher's
    entropy.

    Arguments and result as in `softened_kl`; the gradient is the same.
    """
    teacher = ops.softmax(teacher_logits / temperature)
    student = ops.log_softmax(student_logits / temperature)
    return -ops.square(temperature) * ops.sum(teacher * student, axis=-1)


def softened_bernoulli_kl(teacher_logits, student_logits, temperature):
    """KL of independent softened labels, sigmoid(z/T), summed over labels, times T².

    The sigmoid form of `softened_kl`, for one-logit binary and for multi-label heads.
    """
    teacher, student = teacher_logits / temperature, student_logits / temperature
    positive = ops.sigmoid(teacher) * (ops.log_sigmoid(teacher) - ops.log_sigmoid(student))
    negative = ops.sigmoid(-teacher) * (ops.log_sigmoid(-teacher) - ops.log_sigmoid(-student))
    return ops.square(temperature) * ops.sum(positive + negative, axis=-1)


def softened_bernoulli_cross_entropy(teacher_logits, student_logits, temperature):
    """Cross-entropy of independent softened labels, summed over labels, times T²."""
    teacher, student = teacher_logits / temperature, student_logits / temperature
    positive = ops.sigmoid(teacher) * ops.log_sigmoid(student)
    negative = ops.sigmoid(-teacher) * ops.log_sigmoid(-student)
    return -ops.square(temperature) * ops.sum(positive + negative, axis=-1)


_SOFTMAX = {"kl": softened_kl, "cross_entropy": softened_cross_entropy}
_SIGMOID = {"kl": softened_bernoulli_kl, "cross_entropy": softened_bernoulli_cross_entropy}

# Keras's functions and classes for the same divergences.
_KINDS = {
    keras.losses.kl_divergence: "kl",
    keras.losses.KLDivergence: "kl",
    keras.losses.categorical_crossentropy: "cross_entropy",
    keras.losses.CategoricalCrossentropy: "cross_entropy",
    keras.losses.binary_crossentropy: "cross_entropy",
    keras.losses.BinaryCrossentropy: "cross_entropy",
}
_BINARY = (keras.losses.binary_crossentropy, keras.losses.BinaryCrossentropy)


@keras.saving.register_keras_serializable(package="tfkd")
class LogitsDistillation(Softened, StructuredLoss):
    """Distils the teacher's logits through a temperature (Hinton et al. 2015, arXiv:1503.02531).

    The value is scaled by T², so that the size of the gradient hardly depends on T. Log-softmax is
    used throughout: nothing is clipped, however sure and wrong the student is.

    Args:
        temperature: T > 0; higher is softer. May be changed while training, without a retrace:
            `loss.temperature = 8`.
        loss: what compares the softened distributions: "kl_divergence", "categorical_crossentropy"
            or "binary_crossentropy" (sigmoid heads), as a string or as Keras's loss object; or any
            other Keras loss ("mse") or function of (teacher, student), which gets logits / T and is
            scaled by T². A list or dict holds one for each output, `None` to leave an output out.
        activation: "softmax" (one class of many) or "sigmoid" (independent labels). By default
            sigmoid for one-logit heads and for "binary_crossentropy", else softmax.
        teacher_layer_name: output (or layer) of the teacher that holds logits; None for its only
        one. student_layer_name: the same for the student.
        name: name of the loss's metric.

    Raises:
        ValueError: temperature not positive, or an unknown loss or activation.
    """

    def __init__(
        self,
        temperature=3.0,
        loss="kl_divergence",
        activation=None,
        teacher_layer_name=None,
        student_layer_name=None,
        name="logits_distillation",
    ):
        if activation not in (None, "softmax", "sigmoid"):
            raise ValueError(
                f'activation must be "softmax", "sigmoid" or None, got {activation!r}.'
            )
        self._soften(temperature)
        self.activation = activation
        super().__init__(
            loss,
            teacher_layer_name=teacher_layer_name,
            student_layer_name=student_layer_name,
            name=name,
        )

    def formula(self, loss):
        loss = keras_loss(loss)
        known = kind_of(loss)
        kind = _KINDS.get(known)
        if kind is None:
            return self._scaled(keras_formula(loss))
        if getattr(loss, "_fn_kwargs", {}).get("label_smoothing"):
            raise ValueError("label_smoothing has no place in distillation: leave it out.")
        binary = known in _BINARY
        return lambda teacher, student: self._formulas(student, binary)[kind](
            teacher, student, self._temperature.tensor()
        )

    def _formulas(self, student, binary):
        sigmoid = binary or student.shape[-1] == 1
        if self.activation is not None:
            sigmoid = self.activation == "sigmoid"
        return _SIGMOID if sigmoid else _SOFTMAX

    def _scaled(self, function):
        def softened(teacher, student):
            temperature = self._temperature.tensor()
            value = function(teacher / temperature, student / temperature)
            return ops.square(temperature) * value

        return softened

    def get_config(self):
        return {
            **super().get_config(),
            "temperature": self.temperature,
            "activation": self.activation,
        }


def keras_loss(loss):
    """The Keras loss of that name, or `loss` itself if it is an object or function.

    Raises:
        ValueError: unknown name, no loss at all, or a reduction that would be dropped.
    """
    if isinstance(loss, str):
        loss = keras.losses.get(loss)
    if not callable(loss):
        raise ValueError(
            f"Expected the name of a Keras loss, a Keras loss or a function, got {loss!r}."
        )
    if getattr(loss, "reduction", "mean") not in ("sum_over_batch_size", "mean"):
        raise ValueError(
            f"{loss!r} has reduction={loss.reduction!r}, but distillation losses are averaged over "
            "the batch. Leave reduction out and set distillation_loss_weights."
        )
    return loss


def kind_of(loss):
    """What tells Keras's own losses apart: the function, or the class of an object."""
    return type(loss) if isinstance(loss, keras.losses.Loss) else loss


def keras_formula(loss):
    """A Keras loss or function as a function that keeps one value per example."""
    return loss.call if isinstance(loss, keras.losses.Loss) else loss
