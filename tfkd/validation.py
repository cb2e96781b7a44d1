"""What must hold before a Distiller trains, each with a message that says how to fix it."""

import contextlib
import warnings

import keras
import numpy as np
import tensorflow as tf

from tfkd import _keras

# Around a message that the compiled step raises, so that `explained` finds it in TensorFlow's text.
_START, _END = "<tfkd>", "</tfkd>"

DATASETS = (tf.data.Dataset, tf.distribute.DistributedDataset)


# What a Distiller is made of.


def models(source, student):
    """Raises ValueError unless teacher and student are what a Distiller can work with."""
    if not isinstance(student, keras.Model):
        raise ValueError(f"student must be a keras.Model, got {type(student).__name__}.")
    teachers = source.models()
    if any(teacher is student for teacher in teachers):
        raise ValueError(
            "teacher and student are one object, which cannot teach itself. Pass a copy: "
            "keras.models.clone_model(student)."
        )
    frozen = {id(layer) for teacher in teachers for layer in _keras.layers_of(teacher)}
    shared = [layer for layer in _keras.layers_of(student) if id(layer) in frozen and layer.weights]
    if not shared:
        return
    names = ", ".join(f'"{layer.name}"' for layer in shared[:4]) + (
        ", …" if len(shared) > 4 else ""
    )
    if source.optimizer is not None:
        raise ValueError(
            f"The student shares {names} with a teacher that learns: two optimizers would train "
            "the same weights. Give the student copies (keras.models.clone_model, then "
            "set_weights)."
        )
    told = (
        f"The student shares {names} with the teacher, which is frozen: these layers do not train. "
        "To train them give the student copies (keras.models.clone_model, then set_weights)."
    )
    taught = {id(variable) for teacher in teachers for variable in teacher.variables}
    if all(id(variable) in taught for variable in student.trainable_variables):
        raise ValueError(f"Nothing of the student is left to train. {told}")
    warnings.warn(told, stacklevel=4)


def own_optimizer(optimizer, source):
    """Raises ValueError where the student's optimizer is that of a source that learns."""
    taken = source.optimizer
    if taken is not None and optimizer in (taken, getattr(taken, "inner_optimizer", taken)):
        raise ValueError(
            "The optimizer is that of the teacher, which holds the state of the teacher's weights "
            "alone. Give the student one of its own: "
            f"{type(optimizer).__name__}.from_config(optimizer.get_config())."
        )


def same_in_every_trial(teacher):
    """Raises ValueError where a search's later trials would not have the teacher of the first."""
    if not getattr(teacher, "storable", True):  # models and functions say nothing
        raise ValueError(
            f"{type(teacher).__name__} does not answer every trial alike: one that learns begins a "
            "trial where the one before has left it. Search with the model itself as teacher, and "
            "train what was found with the one that changes."
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


def weights(distillation_loss_weights, count, student_loss_weight=None):
    """One weight a loss, 1.0 by default; ValueError where the numbers differ or all are 0."""
    if distillation_loss_weights is None:
        return [1.0] * count
    if not isinstance(distillation_loss_weights, list | tuple | np.ndarray):
        distillation_loss_weights = [distillation_loss_weights]
    if len(distillation_loss_weights) != count:
        raise ValueError(
            f"distillation_loss_weights must hold one weight for each of the {count} distillation "
            f"losses, got {len(distillation_loss_weights)}: {list(distillation_loss_weights)!r}."
        )
    if student_loss_weight == 0 and not any(distillation_loss_weights):
        raise ValueError(
            "student_loss_weight and all distillation_loss_weights are 0: the total loss would be "
            "0, and nothing would train. Give one of them a weight."
        )
    return distillation_loss_weights


def needs(loss, known):
    """Raises ValueError where a loss needs what nobody can hand over."""
    unknown = sorted(set(loss.needs) - set(known))
    if unknown:
        raise ValueError(
            f"{loss.name} needs {unknown}, which a Distiller does not know. A loss may need "
            f"{list(known)}; further tensors are read by naming layers."
        )


def parts(parts, student, before, source):
    """Raises ValueError where a loss took or changed what is not its own.

    Args:
        parts: the layer that holds what the losses own.
        student: the student.
        before: the student's variables before the losses were built.
        source: the teacher's `Source`.
    """
    own = {id(variable) for variable in parts.variables}
    foreign = [("student", student), *(("teacher", model) for model in source.models())]
    taken = [role for role, m in foreign if own & {id(variable) for variable in m.variables}]
    if list(map(id, student.variables)) != list(map(id, before)):
        raise ValueError(
            "A distillation loss changed the student in build(): its variables are not those of "
            "before. A loss makes layers of its own, and tracks them as attributes of itself."
        )
    if taken:
        raise ValueError(
            f"A distillation loss owns variables of the {taken[0]}: what is an attribute of a loss "
            "is trained and saved as the loss's own. Read the layer by its name instead."
        )


def input_signatures(taught, learnt, given, separate):
    """(teacher's, student's) structures of `tf.TensorSpec`, merged; None for what cannot be told.

    Args:
        taught, learnt: what the teacher and what the student take, None where they cannot tell.
        given: the same of the data, where it is known.
        separate: whether each is given an input of its own.

    Raises:
        ValueError: both are given the same input, and cannot take it.
    """
    if separate or taught is None or learnt is None:
        told, own = (None, None) if separate else (learnt, taught)
        return taught or told or given[0], learnt or own or given[1]
    try:
        return tuple(
            keras.tree.map_structure(_merged, own, other)
            for own, other in ((taught, learnt), (learnt, taught))
        )
    except ValueError:
        pass
    one_each = not keras.tree.is_nested(taught) and not keras.tree.is_nested(learnt)
    advice = (
        "Let the models own their preprocessing: put a keras.layers.Resizing (or another layer "
        "that maps the data's shape to the model's) in front of one of them, or give"
        if one_each
        else "Give both models the same inputs, or give"
    )
    raise ValueError(
        "Teacher and student are given the same input, but the teacher takes "
        f"{_shapes(taught)} and the student {_shapes(learnt)}. {advice} each its own: "
        'Distiller(..., separate_inputs=True), and data of {"teacher": ..., "student": ...}.'
    )


# Data, before any of it is used.


def data(x, y, student_loss_weight, has_loss):
    """Raises ValueError for what can be seen of unfit data before any of it is used."""
    not_empty(x)
    element = x.element_spec if isinstance(x, DATASETS) else (x, y)
    given = element if isinstance(element, tuple) else (element,)
    if isinstance(x, _KNOWN_STRUCTURES) and (len(given) == 1 or given[1] is None):
        supervised(student_loss_weight, has_loss)


def trainable(model):
    """Warns where nothing would train."""
    if not model.trainable_weights:
        warnings.warn(
            "Nothing here is trainable: fit will change no weight. Set student.trainable = True, "
            "or that of the layers that are to learn.",
            stacklevel=4,
        )


def supervised(student_loss_weight, has_loss):
    """Raises ValueError where the student's own loss counts but cannot be computed."""
    if student_loss_weight:
        missing = "the data has no labels" if has_loss else "compile() was given no loss"
        raise ValueError(
            f"student_loss_weight is {student_loss_weight}, but {missing}. Set "
            "student_loss_weight=0 to learn from the teacher alone."
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


def knowledge(tensors, names, loss):
    """Raises ValueError where a tensor that a loss reads was not given."""
    missing = [name for name in names if name not in tensors]
    if missing:
        raise ValueError(
            f'What stands for the teacher has no "{missing[0]}", which {loss.name} reads; it gave '
            f"{sorted(tensors)}. Store it anew with this tap, or have the source give it."
        )


# Checks that run within the step, before anything moves.


def finite(tensors):
    """An operation that fails where one of the teacher's tensors is not finite.

    Args:
        tensors: {name: tensor}.
    """
    floats = {name: tensor for name, tensor in tensors.items() if tensor.dtype.is_floating}
    if not floats:
        return tf.no_op()
    sums = tf.add_n([tf.reduce_sum(tf.cast(t, tf.float32)) for t in floats.values()])

    def look():  # a sum may overflow where every number is finite
        return tf.group(
            *(
                required(
                    tf.reduce_all(tf.math.is_finite(tensor)),
                    f"Teacher output or layer {name} holds NaN or infinity. Check the teacher on "
                    "this data (its input range, its weights) first.",
                )
                for name, tensor in floats.items()
            )
        )

    return tf.cond(tf.math.is_finite(sums), tf.no_op, look)


def class_labels(y, classes):
    """An operation that fails where a class label lies outside of the student's classes."""
    low, high = tf.reduce_min(y), tf.reduce_max(y)
    within = tf.logical_and(low >= 0, high < tf.cast(classes, y.dtype))
    found = [
        f"Labels must lie between 0 and {classes - 1}, as the student has {classes} classes; got "
        "labels between ",
        low,
        " and ",
        high,
        ". For this loss labels must lie within the student's classes: fix the labels, give the "
        "student more classes, or name the label that is to be left out as the loss's "
        "ignore_class.",
    ]
    return required(tf.logical_or(tf.equal(tf.size(y), 0), within), *found)


def one_label(rows, reader):
    """Labels given as rows of shares, which must sum to 1 where each example has one label.

    Args:
        rows: float tensor, shape (batch, classes).
        reader: what reads them, for the message.
    """
    sums = tf.reduce_sum(rows, axis=-1)
    message = (
        f"{reader} reads one label for each example, but there are rows of labels that do not sum "
        "to 1: several labels of one example, or none. Leave it out, or give one label for each."
    )
    with tf.control_dependencies([required(tf.reduce_all(tf.abs(sums - 1.0) < 1e-3), message)]):
        return tf.identity(rows)


def example_numbers(index, examples, reader):
    """An operation that fails where an example's number is none of those that a loss remembers."""
    within = tf.reduce_all((index >= 0) & (index < examples))
    return required(
        within,
        f"{reader} remembers {examples} examples, numbered from 0, but the data has numbers up to ",
        tf.reduce_max(index),
        ". Give it memory= the number of examples in the training data.",
    )


def looks_like_logits(tensor, name):
    """An operation that fails where all numbers of a teacher's output lie within 0 and 1."""
    inside = tf.reduce_all(tf.logical_and(tensor >= 0.0, tensor <= 1.0))
    return required(
        tf.logical_not(inside),
        f"A loss reads logits, but all numbers of the teacher's {name} lie between 0 and 1, and "
        "nothing else tells what they are. Say so: Distiller(..., teacher_head=...) takes "
        '"probabilities" (of one class of many), "independent_probabilities" or "logits".',
    )


@contextlib.contextmanager
def explained():
    """Turns TensorFlow's errors on bad data, raised in a step, into plain ValueErrors."""
    try:
        yield
    except tf.errors.InvalidArgumentError as error:
        text = str(error).replace("] [", "")  # between the parts of a message
        if _START in text and _END in text:
            raise ValueError(text[text.index(_START) + len(_START) : text.index(_END)]) from None
        if 'Teacher cache "' in text:  # raised while tfkd.teachers.cache reads an example
            raise ValueError(text[text.index('Teacher cache "') :].split("\n")[0]) from None
        raise


# Data that shows before it is read whether it has labels.
_KNOWN_STRUCTURES = (*DATASETS, tf.Tensor, np.ndarray, dict)


def required(condition, *message):
    """An operation of a step that fails, as a ValueError of `fit`, where the condition is false.

    Args:
        message: strings and scalars, said one after the other. XLA, which leaves such operations
            out, knows none that would make one string of them.
    """
    return tf.debugging.Assert(condition, [_START, *message, _END])


def _merged(own, other):
    shape = tf.TensorShape(own.shape).merge_with(other.shape)
    return tf.TensorSpec(shape, own.dtype)


def _shapes(signature):
    return keras.tree.map_structure(lambda spec: tuple(spec.shape), signature)
