"""What losses on the logits of one class of many have in common."""

import warnings

import tensorflow as tf
from keras import ops

from tfkd import validation
from tfkd.losses.base import DistillationLoss
from tfkd.losses.logits import known_logits
from tfkd.losses.standardization import standardized

# A logit of a class that is left out: its probability is exactly 0, and no product with it is NaN.
_LEFT_OUT = -1e30


class ClassDistillation(DistillationLoss):
    """A loss on logits that tell one class of many, shape (batch, classes).

    A subclass writes `formula(teacher, student)`, or `formula(teacher, student, label)` where it
    `reads_labels`; `label` is an int32 tensor of shape (batch,).

    Args:
        standardize: whether the logits of each example are standardised over the classes first, see
            `tfkd.losses.LogitsDistillation`.
        teacher_layer_name, student_layer_name, name: as in `DistillationLoss`.
    """

    reads_labels = False

    def __init__(
        self,
        standardize: bool = False,
        teacher_layer_name: str | None = None,
        student_layer_name: str | None = None,
        name: str | None = None,
    ):
        super().__init__(teacher_layer_name, student_layer_name, name=name)
        self.standardize = bool(standardize)

    @property
    def needs(self):
        return ("heads", "labels") if self.reads_labels else ("heads",)

    def check_shapes(self, teacher_shape, student_shape):
        for side, shape in (("teacher", teacher_shape), ("student", student_shape)):
            if len(shape) != 2 or shape[-1] is None or shape[-1] < 2:
                raise ValueError(
                    f"{self.name} compares logits of two classes or more, of shape (batch, "
                    f"classes), but reads {tuple(shape)} of the {side}. For maps, sequences or a "
                    "single log-odds take LogitsDistillation or FeatureDistillation."
                )
        super().check_shapes(teacher_shape, student_shape)

    def check_tensors(self, teacher, student):
        self.check_shapes(teacher.shape, student.shape)
        super().check_tensors(teacher, student)

    def call(self, teacher, student, heads=None, labels=None):
        if heads is not None:
            for side, head in zip(("teacher", "student"), heads, strict=True):
                if head.labels == "independent" or head.kind == "numbers":
                    found = "numbers" if head.kind == "numbers" else "independent labels"
                    raise ValueError(
                        f"{self.name} compares logits of one class of many, but the {side}'s "
                        f"output holds {found}. Take LogitsDistillation for independent labels, "
                        "FeatureDistillation for numbers."
                    )
            teacher, student = known_logits(self, (teacher, student), heads)
        if self.standardize:
            teacher, student = standardized(teacher), standardized(student)
        if not self.reads_labels:
            return self.formula(teacher, student)
        return self.formula(teacher, student, label_classes(labels, student.shape[-1], self.name))

    def formula(self, teacher, student):
        """One value per example, from float32 logits of shape (batch, classes)."""
        raise NotImplementedError


def classes_of(labels):
    """Labels given as integers, as a column of them, or one-hot: int32 tensor, shape (batch,)."""
    if len(labels.shape) == 2 and labels.shape[-1] != 1:
        return ops.cast(ops.argmax(labels, axis=-1), "int32")
    return ops.cast(ops.reshape(labels, (-1,)), "int32")


def label_classes(labels, classes, reader):
    """`classes_of` labels that a loss reads, looked at in the step; soft labels give a warning.

    Args:
        labels: integers of shape (batch,) or (batch, 1), or rows of shape (batch, classes).
        classes: number of classes; None where it is not known.
        reader: name of the loss, for messages.

    Raises:
        ValueError: labels of another shape.
    """
    labels = ops.convert_to_tensor(labels)
    shape = tuple(labels.shape)
    rows = len(shape) == 2 and shape[-1] != 1 and classes in (None, shape[-1])
    if not rows and not (len(shape) == 1 or (len(shape) == 2 and shape[-1] == 1)):
        raise ValueError(
            f"{reader} reads one class for each example, but the labels have the shape {shape}. "
            f"Give integers of shape (batch,), or one-hot rows."
        )
    if rows and labels.dtype.is_floating:
        warnings.warn(
            f"{reader} reads one class for each example: of labels of shape {shape} the likeliest. "
            "What soft (smoothed or mixed) labels say beyond it is lost. Give integers to silence "
            "this.",
            stacklevel=2,
        )
    found = classes_of(labels)
    if classes is None:
        return found
    with tf.control_dependencies([validation.class_labels(found, classes)]):
        return tf.identity(found)


def one_hot(label, logits):
    """Boolean tensor of the logits' shape (batch, classes): whether a class is the label."""
    return tf.range(logits.shape[-1])[None] == label[:, None]


def without(logits, left_out):
    """Log-probabilities over the classes that are kept; far below zero at those left out.

    Args:
        logits: float tensor, shape (batch, classes).
        left_out: boolean tensor of that shape. Where all are left out the result is that of equal
            logits.
    """
    return ops.log_softmax(ops.where(left_out, _LEFT_OUT, logits))


def divergence(teacher, student):
    """KL(teacher || student) of log-probabilities over the last axis."""
    return ops.sum(ops.exp(teacher) * (teacher - student), axis=-1)


def binary_divergence(teacher, student):
    """KL of two events, each given as (log-probability, log-probability of its contrary)."""
    return sum(ops.exp(t) * (t - s) for t, s in zip(teacher, student, strict=True))


def event(log_probabilities, chosen):
    """(log-probability of the chosen class, that of all others together), shape (batch,) each.

    Args:
        log_probabilities: shape (batch, classes).
        chosen: boolean tensor of that shape, one class an example.
    """
    own = ops.sum(ops.where(chosen, log_probabilities, 0.0), axis=-1)
    rest = ops.logsumexp(ops.where(chosen, _LEFT_OUT, log_probabilities), axis=-1)
    return own, rest
