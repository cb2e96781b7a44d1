"""From unbatched examples to batches: shuffled, augmented, prefetched, the same in every process.

**What an iteration sees.** The dataset that `batches` returns counts its own iterations: the first
`iter()` is epoch 0, the next epoch 1, and so on. Order and augmentation of epoch e depend on (seed,
e, example index) only, not on TensorFlow's or Keras's global seed. A new `batches(...)` with the
same arguments starts at epoch 0 again. An iteration that was broken off counts (Keras's `fit` draws
one batch to build an unbuilt model: training then starts at epoch 1, each time alike).
"""

import os
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from tfkd.data.seeds import permutation, view_seed
from tfkd.data.shares import Shares

# Bytes of decoded pixels that may stand in memory: smaller data sets are held whole, shuffle
# buffers are cut to it.
MEMORY_LIMIT = 2**30

# Batches that are made at the same time.
AT_ONCE = min(os.cpu_count() or 1, 16)
_FETCHED_TOGETHER = 32


class Source(NamedTuple):
    """Random access to a dataset's examples, so that whole batches can be gathered.

    Attributes:
        size: number of examples.
        gather: function of int64 indices (batch,) to (images uint8 (batch, H, W, C), labels int64
            (batch,)).
        one: the same of one index, a scalar, where examples are made one by one (decoded): batches
            then cost less. Where it fails for an example, `gather` is asked for its batch, and says
            what is wrong with it.
    """

    size: int
    gather: Callable
    one: Callable | None = None


def source_of(dataset):
    """The `Source` of a dataset as `load` returned it; None for any other (mapped, foreign)."""
    return getattr(dataset, "_tfkd_source", None)


def from_arrays(images, labels):
    """A dataset over arrays in memory: images uint8 (n, H, W, C), labels int64 (n,) or (n, ...)."""
    images = tf.constant(images)
    labels = tf.constant(labels, tf.int64 if np.ndim(labels) == 1 else None)
    dataset = tf.data.Dataset.from_tensor_slices((images, labels))

    def gather(indices):
        return tf.gather(images, indices), tf.gather(labels, indices)

    dataset._tfkd_source = Source(len(labels), gather)
    return dataset


def from_source(source):
    """An unbatched dataset, in order, over examples that are fetched as they are asked for."""
    # Some at a time: a call for each example would cost more than the example.
    some = tf.data.Dataset.range(source.size).batch(_FETCHED_TOGETHER)
    dataset = some.map(source.gather, tf.data.AUTOTUNE, deterministic=True).unbatch()
    dataset = dataset.apply(tf.data.experimental.assert_cardinality(source.size))
    dataset._tfkd_source = source
    return dataset


def _epochs():
    """A dataset of one int64 scalar: how many times it was iterated before."""
    epoch = tf.Variable(-1, dtype=tf.int64, trainable=False)
    dataset = tf.data.Dataset.range(1).map(lambda _: epoch.assign_add(1))
    dataset._tfkd_epoch = epoch  # lives as long as the dataset
    return dataset


def index_batches(
    size, batch_size, *, shuffle=False, seed=0, drop_remainder=False, input_context=None
):
    """Which examples make up each batch, and of which epoch: the order behind `batches`.

    Args:
        size: number of examples.
        batch_size, drop_remainder, input_context: as for `batches`.
        shuffle: whether each epoch has an order of its own (a full shuffle) or 0, 1, 2, ...
        seed: Python integer.

    Returns:
        `tf.data.Dataset` of (int64 indices (batch,), int64 epoch scalar), of known cardinality.
    """
    shares = Shares(size, batch_size, drop_remainder, input_context)
    return _in_epochs(size, batch_size, shares, shuffle, seed, lambda cuts, order: cuts)


def _in_epochs(size, batch_size, shares, shuffle, seed, filled):
    """The epochs of `index_batches`, each as `filled` makes it of the epoch's batches and order.

    Args:
        filled: function of (dataset of (indices (batch,), epoch), order int64 (size,)) to a dataset
            of as many elements.
    """
    each = len(shares.own)

    def one_epoch(epoch):
        order = permutation(size, epoch, seed) if shuffle else tf.range(size)

        def cut(element):
            first = element // each * batch_size
            rows = tf.minimum(tf.constant(batch_size, tf.int64), size - first)
            start, stop = shares.bounds(rows, element % each)
            return tf.cast(order[first + start : first + stop], tf.int64), epoch

        cuts = tf.data.Dataset.range(shares.elements).map(cut)
        return filled(cuts, tf.cast(order, tf.int64))

    dataset = _epochs().flat_map(one_epoch)
    return dataset.apply(tf.data.experimental.assert_cardinality(shares.elements))


def _one_by_one(source, batch_size):
    """Function of an epoch's batches and order, as `_in_epochs` takes it, that adds the examples:
    (indices, epoch, images, labels). They are made one by one, several at a time."""

    def made(index):
        return index, *source.one(index)

    def gathered(indices):
        return [part.numpy() for part in source.gather(tf.constant(indices))]

    def again(indices, examples):
        # By Python: it is hardly ever needed, and every epoch's start would pay for its graph.
        parts = tf.numpy_function(gathered, [indices], [part.dtype for part in examples])
        return tuple(map(tf.ensure_shape, parts, [part.shape for part in examples]))

    def checked(cut, batch):
        # An example that could not be made is missing: its batch, and those behind it, differ.
        (indices, epoch), (found, *examples) = cut, batch
        same = tf.cond(
            tf.size(found) == tf.size(indices),
            lambda: tf.reduce_all(found == indices),
            lambda: False,
        )
        examples = tf.cond(same, lambda: tuple(examples), lambda: again(indices, examples))
        return indices, epoch, *examples

    def filled(cuts, order):
        examples = tf.data.Dataset.from_tensor_slices(order)
        examples = examples.map(made, AT_ONCE, deterministic=True)
        none = tf.nest.map_structure(
            lambda spec: tf.zeros((0, *spec.shape), spec.dtype), examples.element_spec
        )
        examples = examples.ignore_errors().batch(batch_size)
        # Where the last ones are missing, there is something to compare with nevertheless.
        examples = examples.concatenate(tf.data.Dataset.from_tensors(none).repeat())
        return tf.data.Dataset.zip((cuts, examples)).map(checked)

    return filled


def batches(
    dataset,
    batch_size,
    *,
    shuffle=False,
    augment=None,
    seed=0,
    drop_remainder=False,
    input_context=None,
):
    """Batches for `fit`, `evaluate` and `predict`.

    Datasets from `tfkd.data.load` that are held in memory, and folders, are fully shuffled by index
    and gathered batch by batch. Any other unbatched dataset (a TFDS set too large for memory, the
    reader's own) goes through a `tf.data` shuffle buffer of as many examples as fit 1 GiB; that
    buffer's order also depends on `tf.random.set_seed`. The module's docstring says what a second
    iteration sees.

    Args:
        dataset: unbatched `tf.data.Dataset` of (image (H, W, C), label).
        batch_size: examples a batch, of all workers together; the last batch of an epoch holds what
            is left.
        shuffle: whether to shuffle anew each epoch.
        augment: None, or a callable (images, seeds) -> images such as `tfkd.data.augmentation`
            returns. It is given `view_seed(index, epoch, seed)` with the example's position in
            `dataset` as index. One with a method `labels(labels, seeds)` changes the labels too
            (`tfkd.data.Mixed`).
        seed: Python integer of order and augmentation.
        drop_remainder: whether to leave out a last batch that is smaller than the others.
        input_context: `tf.distribute.InputContext` of a worker of several that train together: it
            gets its own rows of every batch, and the rows of all workers are those of one process,
            in the same batches and the same views. Give a strategy the function that makes them:
            `strategy.distribute_datasets_from_function(lambda context: tfkd.data.batches(...,
            input_context=context))`.

    Returns:
        `tf.data.Dataset` of (images (batch, H, W, C), labels (batch,)), images as uint8 if they
        came so.

    Raises:
        ValueError: for a batch size below 1, a dataset that is batched already or has no (image,
            label) pairs, or a batch with fewer examples than there are replicas.
        TypeError: for an augmentation that cannot be called.
    """
    check(dataset, batch_size, augment)

    def augmented(indices, epochs, images, labels):
        if augment is not None:
            seeds = view_seed(indices, epochs, seed)
            images, labels = augment(images, seeds), augmented_labels(augment, labels, seeds)
        return images, labels

    options = {"drop_remainder": drop_remainder, "input_context": input_context}
    return batches_of(dataset, batch_size, augmented, shuffle=shuffle, seed=seed, **options)


def augmented_labels(augment, labels, seeds):
    """Labels of augmented images: as they are, unless the augmentation has a say in them."""
    change = getattr(augment, "labels", None)
    return labels if change is None or labels is None else change(labels, seeds)


def batches_of(
    dataset,
    batch_size,
    make,
    *,
    shuffle=False,
    seed=0,
    drop_remainder=False,
    input_context=None,
    at_once=AT_ONCE,
):
    """Batches in the order of `batches`, made of whole batches of examples and of where they stand.

    Args:
        dataset, batch_size, shuffle, seed, drop_remainder, input_context: as for `batches`.
        make: function of (indices int64 (batch,), epochs int64 scalar or (batch,), images, labels)
            to what a batch is to be.
        at_once: batches that are made at the same time; more than there are processors where
            making one is waiting.

    Returns:
        `tf.data.Dataset` of what `make` returns, prefetched.
    """
    source, own = source_of(dataset), {"drop_remainder": drop_remainder}
    own["input_context"] = input_context
    if source is not None and source.one is not None and input_context is None:
        shares, filled = Shares(source.size, batch_size, **own), _one_by_one(source, batch_size)
        indexed = _in_epochs(source.size, batch_size, shares, shuffle, seed, filled)
        made = make
    elif source is not None:
        indexed = index_batches(source.size, batch_size, shuffle=shuffle, seed=seed, **own)

        def made(indices, epoch):
            return make(indices, epoch, *source.gather(indices))

    else:
        size = int(dataset.cardinality())
        shares = Shares(size if size > 0 else None, batch_size, **own)
        epochs = _epochs().flat_map(lambda epoch: tf.data.Dataset.from_tensors(epoch).repeat())
        epochs = epochs.apply(tf.data.experimental.assert_cardinality(tf.data.INFINITE_CARDINALITY))
        indexed = tf.data.Dataset.zip((dataset.enumerate(), epochs))
        if shuffle:
            indexed = indexed.shuffle(_buffer_size(dataset), seed=seed)
        indexed = shares.cut(indexed.batch(batch_size, drop_remainder))

        def made(example, epochs):
            indices, (images, labels) = example
            return make(indices, epochs, images, labels)

    mapped = indexed.map(made, at_once, deterministic=True)
    return ahead(mapped, sharded=input_context is not None, at_once=at_once)


def ahead(dataset, sharded=False, at_once=AT_ONCE):
    """`dataset` with batches held ready, and without tf.data's tuner.

    A strategy cuts its batches among the replicas, unless it is `sharded` already.

    The tuner is in no hurry to end with its iterator: where an epoch takes a second or two, the
    next one starts up to a second late. It has nothing to find either: how many batches are made
    at once is fixed, and a user's own `AUTOTUNE` becomes one call a processor, 16 at most.
    """
    options = tf.data.Options()
    options.autotune.enabled = False
    policies = tf.data.experimental.AutoShardPolicy
    options.experimental_distribute.auto_shard_policy = policies.OFF if sharded else policies.DATA
    if at_once > AT_ONCE:  # who waits holds a thread
        options.threading.private_threadpool_size = at_once
    return dataset.prefetch(2).with_options(options)


def for_fit(batches, validation):
    """Arguments of `fit` by which it reads on from epoch to epoch, where it would start anew.

    Two new iterators take some 80 ms, a third of an epoch of a small student on digits.

    Args:
        batches, validation: datasets of known length, as `batches` returns them.
    """
    return {
        "x": batches.repeat(),
        "steps_per_epoch": len(batches),
        "validation_data": validation.repeat(),
        "validation_steps": len(validation),
    }


def check(dataset, batch_size, augment):
    check_pairs(dataset, batch_size, augment)
    spec = dataset.element_spec[0]
    shape = getattr(spec, "shape", None)
    if shape is None or shape.rank != (0 if spec.dtype == tf.string else 3):
        raise ValueError(
            "Expected unbatched images of shape (height, width, channels), or texts of shape (); "
            f"given {spec if shape is None else shape}. If it is batched, pass dataset.unbatch()."
        )


def check_pairs(dataset, batch_size, augment):
    if isinstance(batch_size, bool) or int(batch_size) != batch_size or batch_size < 1:
        raise ValueError(f"batch_size must be a whole number of at least 1; given {batch_size!r}.")
    if augment is not None and not callable(augment):
        raise TypeError(
            f"augment must be None or a callable (images, seeds) -> images; given {augment!r}. "
            "tfkd.data.augmentation(name) gives one by name."
        )
    spec = dataset.element_spec
    if not isinstance(spec, tuple) or len(spec) != 2:
        raise ValueError(f"Expected a dataset of (image, label) pairs; its elements are {spec}.")


def _buffer_size(dataset):
    """As many examples as fit the memory limit, and no more than there are (if that is known)."""
    specs = tf.nest.flatten(dataset.element_spec[0])
    sizes = [spec.shape.num_elements() for spec in specs]
    fitting = 1024
    if None not in sizes:
        bytes_each = sum(n * spec.dtype.size for n, spec in zip(sizes, specs, strict=True))
        fitting = max(1, MEMORY_LIMIT // max(1, bytes_each))
    cardinality = int(dataset.cardinality())
    return min(fitting, cardinality) if cardinality > 0 else fitting
