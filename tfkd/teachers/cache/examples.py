"""Which example stands where: datasets seen as examples with their index and epoch."""

import numpy as np
import tensorflow as tf

from tfkd.data import pipeline
from tfkd.data.pipeline import AT_ONCE, ahead, source_of


def check(dataset, batch_size, augment):
    """Raises ValueError or TypeError for what `tfkd.data.batches` would refuse as well, and for a
    dataset of unknown or no length."""
    pipeline.check(dataset, batch_size, augment)
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
    if not dataset.element_spec[0].shape.is_fully_defined():
        raise ValueError(
            "A teacher cache needs images of one size, but the dataset's have shape "
            f"{dataset.element_spec[0].shape}. Resize them, or use tf.ensure_shape."
        )


def ordered(dataset, batch_size, start, stop):
    """Batches of examples start .. stop - 1 in order: dataset of (indices int64, images)."""
    source = source_of(dataset)
    if source is not None:

        def gather(first):
            indices = tf.range(first, tf.minimum(first + batch_size, stop))
            return indices, source.gather(indices)[0]

        firsts = tf.data.Dataset.range(start, stop, batch_size)
        batches = firsts.map(gather, AT_ONCE, deterministic=True)
    else:
        part = dataset.enumerate().skip(start).take(stop - start)
        batches = part.map(lambda index, example: (index, example[0])).batch(batch_size)
    return ahead(batches)


def sample(dataset, count):
    """Up to `count` examples' (indices int64 array, images): spread evenly where any can be had,
    else the first."""
    source, size = source_of(dataset), int(dataset.cardinality())
    if source is not None:
        indices = np.linspace(0, size - 1, min(count, size)).astype(np.int64)
        return indices, source.gather(tf.constant(indices))[0]
    images = next(iter(dataset.map(lambda image, label: image).batch(count)))
    return np.arange(len(images)), images


def first(dataset, count):
    """The first `count` images, one tensor."""
    return next(iter(ordered(dataset, count, 0, min(count, int(dataset.cardinality())))))[1]
