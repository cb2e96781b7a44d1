"""What must hold before a Distiller trains, each with a message that says how to mend it."""

import contextlib

import keras
import numpy as np
import tensorflow as tf


def models(teacher, student):
    """Raises ValueError unless teacher and student are what a Distiller can work with."""
    if not isinstance(student, keras.Model):
        raise ValueError(f"student must be a keras.Model, got {_described(student)}.")
    if teacher is not None and not isinstance(teacher, keras.Layer):
        raise ValueError(
            "teacher must be a keras.Model, a keras.layers.TFSMLayer over a SavedModel, or None "
            f"where the data brings the teacher's outputs; got {_described(teacher)}."
        )
    if teacher is student:
        raise ValueError(
            "teacher and student are one object, which would be frozen as a teacher. Pass a copy: "
            "keras.models.clone_model(student)."
        )


def losses(distillation_losses):
    """The losses as a non-empty list; ValueError otherwise."""
    if distillation_losses is None or (
        isinstance(distillation_losses, list | tuple) and not distillation_losses
    ):
        raise ValueError(
            "distillation_losses must hold at least one loss, for example "
            f"[tfkd.losses.LogitsDistillation()]; got {distillation_losses!r}."
        )
    if isinstance(distillation_losses, list | tuple):
        return list(distillation_losses)
    return [distillation_losses]


def weights(distillation_loss_weights, count):
    """One weight for each loss, 1.0 by default; ValueError where the numbers differ."""
    if distillation_loss_weights is None:
        return [1.0] * count
    if not isinstance(distillation_loss_weights, list | tuple | np.ndarray):
        distillation_loss_weights = [distillation_loss_weights]
    if len(distillation_loss_weights) != count:
        raise ValueError(
            f"distillation_loss_weights must hold one weight for each of the {count} distillation "
            f"losses, got {len(distillation_loss_weights)}: {list(distillation_loss_weights)!r}."
        )
    return distillation_loss_weights


def input_signature(teacher, student):
    """The structure of `tf.TensorSpec` that both models take, or None where neither can tell.

    Raises:
        ValueError: the two cannot take the same input.
    """
    taken, learnt = _signature(teacher), _signature(student)
    if taken is None or learnt is None:
        return taken if learnt is None else learnt
    try:
        return keras.tree.map_structure(_merged, taken, learnt)
    except ValueError:
        raise ValueError(
            "Teacher and student are given the same input, but the teacher takes "
            f"{_shapes(taken)} and the student {_shapes(learnt)}. Let the models own their "
            "preprocessing: put a keras.layers.Resizing (or another layer that maps the data's "
            "shape to the model's) in front of one of them."
        ) from None


def data(x, y, student, student_loss_weight, has_loss):
    """Raises ValueError for what can be seen of unfit data before any of it is used."""
    not_empty(x)
    element = x.element_spec if isinstance(x, tf.data.Dataset) else (x, y)
    parts = element if isinstance(element, tuple) else (element,)
    if isinstance(x, _KNOWN_STRUCTURES) and (len(parts) == 1 or parts[1] is None):
        supervised(student_loss_weight, has_loss)
    if y is not None and hasattr(y, "__array__"):
        labels(y, student)


def supervised(student_loss_weight, has_loss):
    """Raises ValueError where the student's own loss counts but cannot be computed."""
    if student_loss_weight:
        missing = "the data has no labels" if has_loss else "compile() was given no loss"
        raise ValueError(
            f"student_loss_weight is {student_loss_weight}, but {missing}. Set "
            "student_loss_weight=0 to learn from the teacher alone."
        )


def labels(y, student):
    """Raises ValueError where class labels in an array lie outside the student's classes."""
    y = np.asarray(y)
    outputs = getattr(student, "outputs", None)
    if not outputs or len(outputs) != 1 or y.dtype.kind not in "iu" or not y.size:
        return
    classes = outputs[0].shape[-1]
    sparse = y.ndim == 1 or (y.ndim == 2 and y.shape[1] == 1)
    if not sparse or len(outputs[0].shape) != 2 or classes in (None, 1):
        return
    low, high = int(y.min()), int(y.max())
    if low < 0 or high >= classes:
        raise ValueError(
            f"Labels must lie between 0 and {classes - 1}, as the student has {classes} classes; "
            f"got labels between {low} and {high}. Mend the labels or give the student more "
            "classes."
        )


def not_empty(x):
    """Raises ValueError for a dataset or array without examples."""
    if isinstance(x, tf.data.Dataset):
        empty = int(x.cardinality()) == 0
    else:
        first = next(iter(keras.tree.flatten(x)), None)
        empty = hasattr(first, "shape") and len(first.shape) > 0 and first.shape[0] == 0
    if empty:
        raise ValueError("The dataset is empty: there is no example to train on.")


def finite(tensor, name, loss):
    """`loss`, after a check that a teacher's tensor (or tuple) is finite wherever the loss is not.

    The tensor is looked at only where the loss is already not finite, so the check costs nothing.
    """

    def look():
        message = f"{_NOT_FINITE} {name} holds NaN or infinity."
        fine = [
            tf.reduce_all(tf.math.is_finite(tf.cast(part, tf.float32)))
            for part in tf.nest.flatten(tensor)
        ]
        return tf.debugging.Assert(tf.reduce_all(fine), [message])

    checked = tf.cond(tf.math.is_finite(loss), tf.no_op, look)
    with tf.control_dependencies([checked] if checked is not None else []):
        return tf.identity(loss)


@contextlib.contextmanager
def explained():
    """Turns TensorFlow's errors on bad data, raised in a step, into plain ValueErrors."""
    try:
        yield
    except tf.errors.InvalidArgumentError as error:
        text = str(error)
        if _NOT_FINITE in text:
            start = text.index(_NOT_FINITE)
            found = text[start : text.index("infinity.", start) + len("infinity.")]
            raise ValueError(
                f"{found} Check the teacher on this data (its input range, its weights) first."
            ) from None
        if "label value" in text and "outside the valid range" in text:
            start = text.index("Received a label value")
            found = text[start : text.index(")", start) + 1]
            raise ValueError(
                f"{found}: labels must lie within the student's classes. Mend the labels."
            ) from None
        if 'Teacher cache "' in text:  # raised while tfkd.teachers.cache reads an example
            raise ValueError(text[text.index('Teacher cache "') :].split("\n")[0]) from None
        raise


# Data that shows before it is read whether it has labels.
_KNOWN_STRUCTURES = (tf.data.Dataset, tf.Tensor, np.ndarray, dict)

_NOT_FINITE = "Teacher output or layer"


def _described(thing):
    return f"{type(thing).__name__} {thing!r}" if isinstance(thing, str) else type(thing).__name__


def _signature(model):
    if model is None:
        return None
    if getattr(model, "inputs", None):
        structure = model.input if not isinstance(model, keras.Sequential) else model.inputs[0]
        return keras.tree.map_structure(lambda t: tf.TensorSpec(t.shape, t.dtype), structure)
    shape = (model.get_build_config() or {}).get("input_shape") if model.built else None
    if not isinstance(shape, list | tuple) or not all(
        n is None or isinstance(n, int) for n in shape
    ):
        return None
    return tf.TensorSpec((None, *shape[1:]), model.compute_dtype)


def _merged(first, second):
    shape = tf.TensorShape(first.shape).merge_with(second.shape)
    return tf.TensorSpec(shape, first.dtype)


def _shapes(signature):
    return keras.tree.map_structure(lambda spec: tuple(spec.shape), signature)
