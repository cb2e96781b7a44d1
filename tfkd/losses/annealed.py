"""Soft targets that sharpen while training: the loss that `tfkd.Distiller` takes unless told."""

import math
from typing import Literal

import keras
import tensorflow as tf
from keras import ops

from tfkd import defaults
from tfkd.coefficient import Coefficient
from tfkd.losses.base import DistillationLoss, aligned
from tfkd.losses.logits import form_of, known_logits, softened_bernoulli_kl, softened_kl

LOWEST, HIGHEST = 0.02, 100.0  # temperatures that are looked for
HALVINGS = 16  # of the logarithm of that range: T is exact to 0.02 %


def softmax_entropy(logits):
    """Entropy of softmax(logits) in nats: shape (..., classes) to (...)."""
    logs = ops.log_softmax(logits)
    return -ops.sum(ops.exp(logs) * logs, axis=-1)


def sigmoid_entropy(logits):
    """Entropy of each independent label sigmoid(logits) in nats, of the same shape."""
    positive = ops.sigmoid(logits) * ops.log_sigmoid(logits)
    return -positive - ops.sigmoid(-logits) * ops.log_sigmoid(-logits)


def _of_all_replicas(tensor):
    """The whole batch's tensor, where replicas of a strategy share it out."""
    context = tf.distribute.get_replica_context()
    if context is None or context.num_replicas_in_sync == 1:
        return tensor
    # What comes from the data has no device, which gathering asks for: a copy of it has.
    return context.all_gather(tf.identity(tensor), axis=0)


def temperature_of(teacher_logits, softness, form="softmax", counted=()):
    """The temperature at which a batch's targets have a given mean entropy.

    Args:
        teacher_logits: float tensor, shape (batch, ..., classes); of a replica's share of the
            batch, with others' shares the whole batch counts.
        softness: scalar between 0 and 1: mean entropy of the targets as a share of that of a
            uniform guess (log of the number of classes; log 2 for independent labels).
        form: "softmax" or "sigmoid".
        counted: sample weights and masks, shape (batch, ...) each: the mean is over what has a
            weight above 0 and no mask.

    Returns:
        Scalar between 0.02 and 100, without a gradient, found by bisection: entropy never falls
        with T.
    """
    entropy, most = softmax_entropy, math.log(teacher_logits.shape[-1])
    if form == "sigmoid":
        entropy, most = sigmoid_entropy, math.log(2)
    wanted = softness * most
    low = ops.convert_to_tensor(math.log(LOWEST), "float32")
    high = ops.convert_to_tensor(math.log(HIGHEST), "float32")
    logits = _of_all_replicas(ops.stop_gradient(teacher_logits))
    counted = [_of_all_replicas(ops.cast(own, "float32")) for own in counted]
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        too_sharp = _mean(entropy(logits / ops.exp(middle)), counted) < wanted
        low, high = ops.where(too_sharp, middle, low), ops.where(too_sharp, high, middle)
    return ops.exp((low + high) / 2)


def _mean(values, counted):
    """The mean of values of which all that is counted is above 0; 0 where there is none."""
    if not counted:
        return ops.mean(values)
    weights = ops.ones_like(values)
    for own in counted:
        weights *= ops.cast(aligned(own, values) > 0, "float32")
    return ops.sum(values * weights) / ops.maximum(ops.sum(weights), 1.0)


@keras.saving.register_keras_serializable(package="tfkd")
class AnnealedDistillation(DistillationLoss):
    """Distils logits by targets of a set softness, which falls while training.

    The value of an example is KL(softmax(t / T) || softmax(s / S)) · S², with logits t of the
    teacher and s of the student. T is not given: in each batch it is what makes the mean entropy of
    the targets a set share of a uniform guess's, whatever the number of classes and however sure
    the teacher is. That share falls in a straight line with the progress of `fit`: from `softness`,
    where the targets tell mostly which classes are alike, to `final_softness`, where they tell the
    class. The student's own temperature S stays near 1, at which it will be used: the teacher alone
    is softened (Zheng and Yang 2024, arXiv:2402.11148), less and less (Jafari et al. 2021,
    arXiv:2104.07163). Choosing T by entropy is tfkd's own; what it was chosen over, and by how
    much, is in `benchmarks/README.md`.

    ```python
    distiller = tfkd.Distiller(teacher, student)  # the same as
    distiller = tfkd.Distiller(
        teacher, student, tfkd.losses.AnnealedDistillation(), student_loss_weight=0.3
    )
    ```

    The progress is `distiller.progress`, which `fit` moves from 0 to 1; in a loop of your own,
    assign it. Sample weights weigh the values, not the choice of T; what has the weight 0, or is
    masked, counts in neither.

    Args:
        softness: of the targets at the beginning of `fit`, above 0 and below 1.
        final_softness: of the targets at its end.
        student_temperature: S > 0.
        activation: "softmax" (one class of many) or "sigmoid" (independent labels); by default what
            the two heads are.
        teacher_layer_name: output of the teacher that holds logits or probabilities; None for its
            only one.
        student_layer_name: the same for the student.
        name: name of the loss's metric.

    Raises:
        ValueError: numbers out of range; in a Distiller what `LogitsDistillation` raises.
    """

    needs = ("heads", "progress", "counted")
    settings = ("softness", "final_softness", "student_temperature", "activation")
    softness = Coefficient(positive=True, maximum=1.0)
    final_softness = Coefficient(positive=True, maximum=1.0)
    student_temperature = Coefficient(positive=True)

    def __init__(
        self,
        softness: float = defaults.SOFTNESS,
        final_softness: float = defaults.FINAL_SOFTNESS,
        student_temperature: float = defaults.STUDENT_TEMPERATURE,
        activation: Literal["softmax", "sigmoid"] | None = None,
        teacher_layer_name: str | None = None,
        student_layer_name: str | None = None,
        name: str = "annealed_distillation",
    ):
        if activation not in (None, "softmax", "sigmoid"):
            raise ValueError(
                f'activation must be "softmax", "sigmoid" or None, got {activation!r}.'
            )
        super().__init__(teacher_layer_name, student_layer_name, name)
        self.softness, self.final_softness = softness, final_softness
        self.student_temperature = student_temperature
        self.activation = activation

    def call(self, teacher, student, heads=None, progress=1.0, counted=()):
        form = self.activation or ("sigmoid" if student.shape[-1] == 1 else "softmax")
        if heads is not None:
            form = form_of(self, heads, student.shape[-1], self.activation)
            teacher, student = known_logits(self, (teacher, student), heads)
        start, end = self.coefficient("softness"), self.coefficient("final_softness")
        softness = start + (end - start) * ops.cast(progress, "float32")
        own = self.coefficient("student_temperature")
        teacher = teacher / temperature_of(teacher, softness, form, counted)
        divergence = softened_bernoulli_kl if form == "sigmoid" else softened_kl
        return ops.square(own) * divergence(teacher, student / own, 1.0)


def unless_told(losses, student_loss_weight, outputs=None):
    """The losses of a Distiller and its weight of the labels, where they are not given.

    Args:
        losses: as given to the Distiller, or None: then one for each output.
        student_loss_weight: as given, or None: 0.5, and the default where losses are not given.
        outputs: names of the student's outputs, as far as they are known; the teacher's are the
            same.
    """
    weight = 0.5
    if losses is None:
        weight, losses = defaults.STUDENT_LOSS_WEIGHT, [AnnealedDistillation()]
        if len(outputs or ()) > 1:
            kind = AnnealedDistillation
            losses = [
                kind(teacher_layer_name=n, student_layer_name=n, name=f"{n}_distillation")
                for n in outputs
            ]
    return losses, weight if student_loss_weight is None else student_loss_weight
