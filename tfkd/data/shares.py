"""Which rows of every batch are whose, where several workers train one model together."""

import tensorflow as tf


class Shares:
    """Cuts every batch into as many shares as there are replicas, as even as can be.

    Replica r of the R of a strategy gets rows n * r // R to n * (r + 1) // R - 1 of the n of a
    batch. A worker with several replicas gets a share for each, one after the other; replicas are
    dealt out in turn, as Keras's `predict` puts them together again.

    Args:
        size: number of examples; None where it is not known.
        batch_size: examples of a batch, of all workers together.
        drop_remainder: whether a last batch of fewer examples is left out.
        input_context: `tf.distribute.InputContext`, None for one worker with one replica.

    Attributes:
        batches: how many batches an epoch has; None where the size is not known.
        elements: how many shares of an epoch are this worker's; None likewise.
        whole: whether there is nothing to cut.

    Raises:
        ValueError: no batch is left, or one with fewer examples than replicas.
    """

    def __init__(self, size, batch_size, drop_remainder=False, input_context=None):
        context = input_context or tf.distribute.InputContext()
        workers, own = context.num_input_pipelines, context.input_pipeline_id
        self.replicas = max(workers, context.num_replicas_in_sync or 1)
        if not 0 <= own < workers or self.replicas % workers:
            raise ValueError(
                f"input_context says worker {own} of {workers} with {self.replicas} replicas in "
                "all. Workers are numbered from 0, and each has as many replicas as the others."
            )
        self.own = list(range(own, self.replicas, workers))
        self.batch_size, self.drop_remainder = batch_size, drop_remainder
        self.whole = self.replicas == 1
        self.batches = self.elements = None
        if size is not None:
            _check(size, batch_size, drop_remainder, self.replicas)
            self.batches = size // batch_size if drop_remainder else -(-size // batch_size)
            self.elements = self.batches * len(self.own)

    def bounds(self, rows, share):
        """(first row, row after the last) of a share of a batch with so many rows.

        Args:
            rows: int64 scalar.
            share: which of this worker's shares of the batch, int64 scalar.
        """
        replica = tf.gather(tf.constant(self.own, tf.int64), share)
        return rows * replica // self.replicas, rows * (replica + 1) // self.replicas

    def cut(self, dataset):
        """A dataset of this worker's shares of the batches of a dataset."""
        if self.whole:
            return dataset

        def shares_of(*batch):
            rows = tf.shape(tf.nest.flatten(batch)[0], tf.int64)[0]

            def share(number):
                start, stop = self.bounds(rows, number)
                return tf.nest.map_structure(
                    lambda part: None if part is None else part[start:stop], batch
                )

            return tf.data.Dataset.range(len(self.own)).map(share)

        length, shares = int(dataset.cardinality()), dataset.flat_map(shares_of)
        if length == tf.data.UNKNOWN_CARDINALITY:
            return shares
        length = length * len(self.own) if length > 0 else length
        return shares.apply(tf.data.experimental.assert_cardinality(length))


def _check(size, batch_size, drop_remainder, replicas):
    if drop_remainder and size < batch_size:
        raise ValueError(
            f"drop_remainder=True leaves no batch of {batch_size} out of {size} examples. Give a "
            f"batch size of at most {size}."
        )
    if batch_size < replicas:
        raise ValueError(
            f"A batch of {batch_size} examples cannot be shared out among {replicas} replicas: "
            f"each needs at least one. Give a batch size of at least {replicas}."
        )
    left = size % batch_size
    if left and not drop_remainder and left < replicas:
        fitting = next(
            (b for b in range(batch_size - 1, replicas - 1, -1) if not 0 < size % b < replicas),
            None,
        )
        another = f", or batch_size={fitting}, which leaves enough" if fitting else ""
        raise ValueError(
            f"Batches of {batch_size} leave a last one of {left} out of {size} examples, fewer "
            f"than the {replicas} replicas, each of which needs at least one. Give "
            f"drop_remainder=True{another}."
        )
