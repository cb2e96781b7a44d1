"""Which example stands where: datasets seen as examples with their index and epoch."""

import keras
import numpy as np
import tensorflow as tf

from tfkd.data import pipeline
from tfkd.data.pipeline import AT_ONCE, ahead, source_of


def check(dataset, batch_size, augment):
    """Raises ValueError or TypeError for what `tfkd.data.batches` would refuse as well, for inputs
    of several sizes, and for a dataset of unknown or no length."""
    pipeline.check_pairs(dataset, batch_size, augment)
    size = int(dataset.cardinality())
    if size < 1:
        found = {
            tf.data.INFINITE_CARDINALITY: "has no end",
            tf.data.UNKNOWN_CARDINALITY: "does not know its length",
        }.get(size, "is empty")
        raise ValueError(
            f"A teacher cache needs a dataset of known length, but this one {found}. Tell it with "
            "dataset.apply(tf.data.experimental.assert_cardinality(n)), n examples."
        )
    for spec in keras.tree.flatten(dataset.element_spec[0]):
        if not isinstance(spec, tf.TensorSpec) or not spec.shape.is_fully_defined():
            raise ValueError(
                "A teacher cache needs unbatched examples of one size, but the dataset's have "
                f"shape {spec.shape}. If it is batched, pass dataset.unbatch(); else resize or pad "
                "them, or use tf.ensure_shape."
            )


def described(dataset):
    """{path in x: {"shape", "dtype"}} of the inputs of one example; "" for an only one."""
    parts = keras.tree.flatten_with_path(dataset.element_spec[0])
    return {
        "/".join(map(str, path)): {"shape": spec.shape.as_list(), "dtype": spec.dtype.name}
        for path, spec in parts
    }


def ordered(dataset, batch_size, start, stop):
    """Batches of examples start .. stop - 1 in order: dataset of (indices int64, x, y)."""
    source = source_of(dataset)
    if source is not None:

        def gather(first):
            indices = tf.range(first, tf.minimum(first + batch_size, stop))
            return indices, *source.gather(indices)

        firsts = tf.data.Dataset.range(start, stop, batch_size)
        batches = firsts.map(gather, AT_ONCE, deterministic=True)
    else:
        part = dataset.enumerate().skip(start).take(stop - start)
        batches = part.map(lambda index, example: (index, *example)).batch(batch_size)
    return ahead(batches)


class InOrder:
    """Batches of any ranges of examples, one range after the other.

    Data that is only read in order is read on to where a range begins, as long as ranges rise.

    Args:
        dataset: unbatched.
        batch_size: examples a batch; every range begins at a whole number of batches.
    """

    def __init__(self, dataset, batch_size):
        self._dataset, self._batch_size, self._source = dataset, batch_size, source_of(dataset)
        self._on, self._place = None, 0
        if self._source is not None:  # one pipeline for all ranges: to make one takes its time
            self._range = tf.Variable([0, 0], dtype=tf.int64, trainable=False)
            self._batches = ahead(
                tf.data.Dataset.range(1)
                .flat_map(lambda _: tf.data.Dataset.range(*tf.unstack(self._range), batch_size))
                .map(self._gathered, AT_ONCE, deterministic=True)
            )

    def __call__(self, start, stop):
        """Yields (indices int64, x, y) of the examples start .. stop - 1."""
        if self._source is not None:
            self._range.assign([start, stop])
            yield from self._batches
            return
        if self._on is None or self._place > start:
            size = int(self._dataset.cardinality())
            self._on = iter(ordered(self._dataset, self._batch_size, start, size))
            self._place = start
        while self._place < stop:
            batch, here = next(self._on), self._place
            self._place += len(batch[0])
            if here >= start:
                yield batch

    def _gathered(self, first):
        indices = tf.range(first, tf.minimum(first + self._batch_size, self._range[1]))
        return indices, *self._source.gather(indices)


def sample(dataset, count):
    """Up to `count` examples' (indices int64 array, x): spread evenly where any can be fetched,
    else the first."""
    source, size = source_of(dataset), int(dataset.cardinality())
    if source is not None:
        indices = np.linspace(0, size - 1, min(count, size)).astype(np.int64)
        return indices, source.gather(tf.constant(indices))[0]
    indices, x, _ = first(dataset, count)
    return indices.numpy(), x


def first(dataset, count):
    """(indices, x, y) of the first `count` examples, batched."""
    return next(iter(ordered(dataset, count, 0, min(count, int(dataset.cardinality())))))


def fingerprints(x):
    """FarmHash64 of each example's bytes: uint8 tensor, shape (batch, 8), the same everywhere.

    Args:
        x: tensor (batch, ...), or a structure of them, of which every part counts.
    """
    parts = [_fingerprints(part) for part in keras.tree.flatten(x)]
    return parts[0] if len(parts) == 1 else _fingerprints(tf.concat(parts, axis=1))


def _fingerprints(part):
    return tf.fingerprint(tf.reshape(part, (tf.shape(part)[0], -1)))
