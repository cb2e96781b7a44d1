"""Soft targets: the student imitates the teacher's softened class distribution."""

import functools
from collections.abc import Callable
from typing import Literal

import keras
from keras import ops

from tfkd import _keras
from tfkd.losses.base import Softened
from tfkd.losses.standardization import standardized
from tfkd.losses.structured import StructuredLoss


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
        activation: "softmax" (one class of many) or "sigmoid" (independent labels). By default what
            the two heads are: sigmoid where either ends in one, where the student's own loss is a
            binary crossentropy, and for "binary_crossentropy" here; else softmax.
        teacher_layer_name: output (or layer) of the teacher that holds logits or probabilities;
            None for its only output.
        student_layer_name: the same for the student.
        name: name of the loss's metric.
        standardize: whether the logits of each example are standardised over the classes first (Sun
            et al. 2024, arXiv:2403.01427; temperature 2 and a weight of 9 in its experiments). The
            student's logits may then have any scale, which the loss on the labels decides.

    Raises:
        ValueError: temperature not positive, an unknown loss or activation, or independent labels
            to standardise. In a Distiller:
            heads that contradict each other, a single number that nothing says is log-odds, or an
            output that is neither known to hold logits nor looks like logits.
    """

    needs = ("heads",)

    def __init__(
        self,
        temperature: float = 3.0,
        loss: str | keras.losses.Loss | Callable | list | dict = "kl_divergence",
        activation: Literal["softmax", "sigmoid"] | None = None,
        teacher_layer_name: str | None = None,
        student_layer_name: str | None = None,
        name: str = "logits_distillation",
        standardize: bool = False,
    ):
        if activation not in (None, "softmax", "sigmoid"):
            raise ValueError(
                f'activation must be "softmax", "sigmoid" or None, got {activation!r}.'
            )
        self.temperature = temperature
        self.activation = activation
        self.standardize = bool(standardize)
        super().__init__(
            loss,
            teacher_layer_name=teacher_layer_name,
            student_layer_name=student_layer_name,
            name=name,
        )

    def formula(self, loss, form="softmax"):
        """The function of (teacher's logits, student's logits) behind one entry of `loss`.

        Args:
            loss: the entry.
            form: "softmax" or "sigmoid", what turns logits into probabilities.
        """
        loss = keras_loss(loss)
        kind = _KINDS.get(kind_of(loss))
        if kind is None:
            return self._scaled(keras_formula(loss))
        if _keras.settings_of(loss).get("label_smoothing"):
            raise ValueError("label_smoothing has no place in distillation: leave it out.")
        formulas = _SIGMOID if form == "sigmoid" else _SOFTMAX
        return lambda teacher, student: formulas[kind](teacher, student, self.temperature_tensor)

    def call(self, teacher, student, heads=None):
        loss, form = keras_loss(self.loss), "softmax"
        if kind_of(loss) in _KINDS:  # else a distance between logits, whatever they mean
            activation = self.activation or ("sigmoid" if kind_of(loss) in _BINARY else None)
            form = activation or ("sigmoid" if student.shape[-1] == 1 else "softmax")
            if heads is not None:
                form = form_of(self, heads, student.shape[-1], activation)
                teacher, student = known_logits(self, (teacher, student), heads)
        if self.standardize:
            if form == "sigmoid":
                raise ValueError(
                    f"{self.name} standardises the logits over the classes, but independent labels "
                    "are no classes of one distribution. Leave standardize out."
                )
            teacher, student = standardized(teacher), standardized(student)
        return self.formula(loss, form)(teacher, student)

    def _scaled(self, function):
        def softened(teacher, student):
            temperature = self.temperature_tensor
            value = function(teacher / temperature, student / temperature)
            return ops.square(temperature) * value

        return softened

    def get_config(self):
        return {
            **super().get_config(),
            "temperature": self.temperature,
            "activation": self.activation,
            "standardize": self.standardize,
        }


def form_of(loss, heads, classes, activation=None):
    """ "softmax" or "sigmoid": how the logits of two heads become probabilities.

    Args:
        loss: the distillation loss, for messages.
        heads: `tfkd.heads.Head` of the teacher and of the student.
        classes: size of the last axis.
        activation: what the user says, if anything; it decides.

    Raises:
        ValueError: the heads contradict each other, or hold a number that is no log-odds.
    """
    numbers = [side for side, head in zip(_SIDES, heads, strict=True) if head.kind == "numbers"]
    if numbers and activation is None:
        raise ValueError(
            f"{loss.name} compares probabilities, but the {numbers[0]}'s output is a number that "
            'is trained as a regression. Compare it with FeatureDistillation("mse", "output", '
            f'"output"); or, if it is log-odds, give {type(loss).__name__} activation="sigmoid".'
        )
    says = sorted({head.activation for head in heads if head.activation} - {None})
    if activation is not None:
        return activation
    if len(says) > 1:
        found = " and ".join(
            f"the {s}'s {h.activation}" for s, h in zip(_SIDES, heads, strict=True)
        )
        raise ValueError(
            f"{loss.name} compares {found}: one head tells one class of many, the other "
            f'independent labels. Give {type(loss).__name__} activation="softmax" or "sigmoid".'
        )
    if classes == 1 and says != ["sigmoid"]:
        raise ValueError(
            f"{loss.name} reads an output of a single number, and nothing says that it is log-odds."
            " For a binary classifier compile with BinaryCrossentropy(from_logits=True), or give "
            f'{type(loss).__name__} activation="sigmoid"; for a regression use '
            'FeatureDistillation("mse", "output", "output").'
        )
    return says[0] if says else "softmax"


def known_logits(loss, tensors, heads):
    """The logits of teacher and student.

    Args:
        loss: the distillation loss, for messages.
        tensors: float32 tensor (batch, ..., classes) of the teacher and of the student, or a tuple
            of them for a side.
        heads: `tfkd.heads.Head` of each, in the same structure.

    Raises:
        ValueError: an output of which nobody knows what it means.
    """
    return tuple(
        keras.tree.map_structure(functools.partial(_logits, loss, side), tensor, head)
        for side, tensor, head in zip(_SIDES, tensors, heads, strict=True)
    )


def _logits(loss, side, tensor, head):
    if head.kind in ("logits", "numbers"):
        return tensor
    if head.kind == "probabilities":
        return head.logits(tensor)
    if side == "teacher" and head.labels is None:
        return tensor  # the Distiller has looked at these numbers
    raise ValueError(
        f"{loss.name} reads logits, but what the {side}'s output means cannot be told from its "
        f"graph{', which ends in numbers made of probabilities' if head.labels else ''}. Say so: "
        f'Distiller(..., {side}_head=...) takes "logits", "probabilities" (of one class of many) '
        'or "independent_probabilities".'
    )


_SIDES = ("teacher", "student")


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
