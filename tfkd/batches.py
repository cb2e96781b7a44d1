"""What a batch of data holds: inputs, labels, sample weights, and stored knowledge."""

from typing import Any, NamedTuple

import keras
import tensorflow as tf

from tfkd import _keras
from tfkd.losses.own import classes_of

INDEX = "index"  # the name in stored knowledge under which stand the examples' numbers


def weights_name(name):
    """The name in knowledge of the members' weights, (batch, members), of several teachers' output.

    Where it stands there, the output is one of several teachers, stacked: (batch, members, ...).
    """
    return f"{name} weights"


class Batch(NamedTuple):
    """Members of one batch, None for what there is not."""

    x: Any = None
    y: Any = None
    sample_weight: Any = None
    knowledge: Any = None
    share: Any = None  # see `tfkd.replicas.share`


def unpack(data):
    """The `Batch` in what a dataset or array gives, with up to four members."""
    if isinstance(data, tuple) and len(data) == 4:
        return Batch(*data)
    return Batch(*keras.utils.unpack_x_y_sample_weight(data))


def has_knowledge(data):
    """Whether data for `fit` is a dataset of batches (x, y, sample weights, knowledge)."""
    element = element_spec(data)
    return isinstance(element, tuple) and len(element) == 4


def symbolic(x, y=None):
    """The `Batch` that data as `fit` takes it will give, as `KerasTensor`s of any batch size.

    A member is None where it cannot be known beforehand.
    """
    element = element_spec(x)
    batch = Batch(x, y) if element is None else unpack(element)
    return Batch(*map(_symbolic, batch))


def element_spec(data):
    """What a dataset's elements are, structure of `tf.TypeSpec`; None of what is no dataset."""
    if isinstance(data, tf.data.Dataset):
        return data.element_spec
    if isinstance(data, tf.distribute.DistributedDataset):
        return _keras.spec_of_replica(data.element_spec)
    return None


def _symbolic(data):
    parts = keras.tree.flatten(data)
    known = [hasattr(part, "dtype") and hasattr(part, "shape") for part in parts]
    if not parts or not all(known) or not all(tf.TensorShape(part.shape).rank for part in parts):
        return None

    def tensor(part):
        return keras.KerasTensor((None, *part.shape[1:]), tf.as_dtype(part.dtype).name)

    return keras.tree.map_structure(tensor, data)


def shapes(data):
    """The structure's shapes, each with an open batch dimension; without the examples' numbers."""
    if isinstance(data, dict):
        return {name: shapes(part) for name, part in data.items() if name != INDEX}
    return keras.tree.map_structure(lambda part: (None, *part.shape[1:]), data)


def own_inputs(x):
    """(teacher's input, student's input) of data that holds one for each; ValueError otherwise."""
    if isinstance(x, dict) and set(x) == {"teacher", "student"}:
        return x["teacher"], x["student"]
    found = sorted(x) if isinstance(x, dict) else type(x).__name__
    raise ValueError(
        "This Distiller has separate_inputs=True: the inputs of a batch must be "
        f'{{"teacher": ..., "student": ...}}, got {found}.'
    )


def labels_of_outputs(y, y_pred):
    """Labels in the structure of the outputs: given once, they are those of every output."""
    if keras.tree.is_nested(y) or not keras.tree.is_nested(y_pred):
        return y
    return keras.tree.map_structure(lambda _: y, y_pred)


def class_weighted(dataset, class_weight):
    """A dataset with the weight of each example times that of its class.

    Keras does it for data in three parts only.

    Args:
        dataset: `tf.data.Dataset` of batches (x, y, sample weights or None, knowledge), the last
            two may be missing; labels as integers or one-hot.
        class_weight: {class: weight}, as `fit` takes it; 1 for classes that are not there.

    Raises:
        ValueError: there are no labels, or different ones for several outputs.
    """
    # The last stands for all classes after it.
    table = tf.constant([float(class_weight.get(own, 1)) for own in range(max(class_weight) + 2)])

    def weighted(x, y=None, sample_weight=None, *knowledge):
        if y is None or keras.tree.is_nested(y):
            raise ValueError(
                f"class_weight needs one label for each example, but the labels are {y}. Leave it "
                "out, and put the weights into the data's third part, the sample weights."
            )
        weights = tf.gather(table, tf.minimum(classes_of(y), len(table) - 1))
        return x, y, weights if sample_weight is None else weights * sample_weight, *knowledge

    return dataset.map(weighted).prefetch(2)
