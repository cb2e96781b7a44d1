"""What `compile` was given, and what it stands for once the data is seen."""

import warnings
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from tfkd.losses.own import classes_of

_CROSSENTROPIES = {
    "sparse_categorical_crossentropy": keras.losses.SparseCategoricalCrossentropy,
    "categorical_crossentropy": keras.losses.CategoricalCrossentropy,
    "binary_crossentropy": keras.losses.BinaryCrossentropy,
}


def loss_of_logits(loss):
    """The loss to use on logits: a crossentropy by name gets `from_logits=True`, and a warning.

    Keras would take the logits for probabilities.
    """
    if not isinstance(loss, str) or loss not in _CROSSENTROPIES:
        return loss
    made = _CROSSENTROPIES[loss](from_logits=True)
    warnings.warn(
        f'loss="{loss}" expects probabilities, but the student ends in logits: it is read as '
        f"{type(made).__name__}(from_logits=True). Pass that to silence this.",
        stacklevel=3,
    )
    return made


def are_metrics(given):
    """Whether what stands in the third place of `compile` is metrics, not loss weights."""
    flat = keras.tree.flatten(given)
    return any(isinstance(item, str | keras.metrics.Metric) or callable(item) for item in flat)


def labels_of_outputs(y, y_pred):
    """Labels in the structure of the outputs: given once, they are those of every output."""
    if keras.tree.is_nested(y) or not keras.tree.is_nested(y_pred):
        return y
    return keras.tree.map_structure(lambda _: y, y_pred)


def has_knowledge(data):
    """Whether data for `fit` is a dataset of batches (x, y, sample weights, knowledge)."""
    element = data.element_spec if isinstance(data, tf.data.Dataset) else None
    return isinstance(element, tuple) and len(element) == 4


def class_weighted(dataset, class_weight):
    """Data with stored knowledge, the weight of each example times that of its class.

    Keras does it for data in three parts only.

    Args:
        dataset: `tf.data.Dataset` of batches (x, y, sample weights or None, knowledge), labels as
            integers or one-hot.
        class_weight: {class: weight}, as `fit` takes it; 1 for classes that are not there.

    Raises:
        ValueError: there are no labels, or different ones for several outputs.
    """
    # The last stands for all classes after it.
    table = tf.constant([float(class_weight.get(own, 1)) for own in range(max(class_weight) + 2)])

    def weighted(x, y, sample_weight, knowledge):
        if y is None or keras.tree.is_nested(y):
            raise ValueError(
                f"class_weight needs one label for each example, but the labels are {y}. Leave it "
                "out, and put the weights into the data's third part, the sample weights."
            )
        weights = tf.gather(table, tf.minimum(classes_of(y), len(table) - 1))
        return x, y, weights if sample_weight is None else weights * sample_weight, knowledge

    return dataset.map(weighted).prefetch(2)


class Batch(NamedTuple):
    """Symbolic tensors of one batch, None for what there is not or cannot be known beforehand."""

    x: Any = None
    y: Any = None
    knowledge: Any = None


def batch_of(x, y=None):
    """The `Batch` that data as `fit` takes it will give: arrays or a `tf.data.Dataset`."""
    if isinstance(x, tf.data.Dataset):
        data = x.element_spec
        if has_knowledge(x):
            x, y, _, knowledge = data
        else:
            (x, y, _), knowledge = keras.utils.unpack_x_y_sample_weight(data), None
        return Batch(*map(_symbolic, (x, y, knowledge)))
    return Batch(_symbolic(x), _symbolic(y))


def _symbolic(data):
    """The structure with a `KerasTensor` for each array, its batch of any size; None if unknown."""
    parts = keras.tree.flatten(data)
    known = [hasattr(part, "dtype") and hasattr(part, "shape") for part in parts]
    if not parts or not all(known) or not all(tf.TensorShape(part.shape).rank for part in parts):
        return None

    def tensor(part):
        return keras.KerasTensor((None, *part.shape[1:]), tf.as_dtype(part.dtype).name)

    return keras.tree.map_structure(tensor, data)


def make_variables(model, batch, training):
    """Makes what Keras makes at the first batch: metrics, and for training the optimizer's slots.

    Made within the step they have TensorFlow trace it twice, which takes seconds.

    Args:
        model: a compiled model that is built.
        batch: `Batch`.
        training: whether the optimizer is needed.
    """
    with model.distribute_strategy.scope():
        if training and model.optimizer is not None and not model.optimizer.built:
            model.optimizer.build(model.trainable_variables)
        parts = [model._compile_metrics, model._compile_loss]
        parts = [part for part in parts if part is not None and not part.built]
        if not parts or batch.x is None or batch.y is None:
            return
        y_pred = model.compute_output_spec(batch.x)
        y = labels_of_outputs(batch.y, y_pred)
        for part in parts:
            part.build(y, y_pred)


def is_made(model):
    """Whether `make_variables` has nothing left to make."""
    parts = [model.optimizer, model._compile_metrics, model._compile_loss]
    return all(part is None or part.built for part in parts)
