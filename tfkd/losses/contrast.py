"""Contrastive formulas: one example against others (Tian et al. 2020; van den Oord et al. 2018)."""

import math

import tensorflow as tf
from keras import ops

from tfkd.losses.features import unit


def batch_contrast(teacher, student, temperature):
    """-log of the share of an example's own teacher among all teachers of the batch (InfoNCE).

    Args:
        teacher, student: float tensors of vectors of length 1, shape (batch, features).
        temperature: positive scalar; cosines are divided by it.

    Returns:
        Tensor of shape (batch,), in nats; log(batch) where nothing is told apart.
    """
    cosines = ops.matmul(student, ops.transpose(teacher)) / temperature
    own = ops.sum(student * teacher, axis=-1) / temperature
    return ops.logsumexp(cosines, axis=-1) - own


def memory_contrast(vectors, memory, columns, temperature, scale):
    """Noise-contrastive estimation of an example's own entry in a memory.

    Tian et al. 2020, "Contrastive Representation Distillation", arXiv:1910.10699, eq. 19, as its
    code has it.

    Args:
        vectors: float tensor of length 1, shape (batch, features).
        memory: float tensor, shape (examples, features), without a gradient.
        columns: int tensor, shape (batch, 1 + negatives): entries of the memory, the own one first.
        temperature: positive scalar.
        scale: what scores are divided by; 0 for the mean of this batch's, times the examples.

    Returns:
        (tensor of shape (batch,) in nats, the scale that was used).
    """
    entries = tf.stop_gradient(tf.gather(memory, columns))
    scores = ops.exp(ops.einsum("bkf,bf->bk", entries, vectors) / temperature)
    examples = memory.shape[0]
    scale = tf.where(scale > 0, scale, tf.stop_gradient(ops.mean(scores)) * examples)
    scores /= scale
    chance = (columns.shape[1] - 1) / examples
    sums = ops.log(scores + (chance + 1e-7))
    own = ops.log(scores[:, 0]) - sums[:, 0]
    others = ops.sum(math.log(chance) - sums[:, 1:], axis=-1)
    return -(own + others), scale


def moved(entries, vectors, momentum):
    """A memory's entries after they have met new vectors, of length 1."""
    return unit(momentum * entries + (1.0 - momentum) * vectors)


def draw_others(table, index, label, negatives, seed):
    """Entries that are no example of the row's class, drawn evenly and with replacement.

    Args:
        table: int tensor, shape (examples,): the class of each example, -1 where it is not known.
        index: int tensor, shape (batch,): the rows' own entries.
        label: int tensor, shape (batch,): their classes; None to leave out only the own entries.
        negatives: how many to draw for each row.
        seed: int tensor of two numbers.

    Returns:
        int32 tensor, shape (batch, negatives). Where a class has next to all examples, some of its
        own may be among them.
    """
    examples = table.shape[0]
    shape = (tf.shape(index)[0], negatives)
    index = tf.cast(index, tf.int32)[:, None]

    def unfit(drawn):
        own = drawn == index
        return own if label is None else own | (tf.gather(table, drawn) == label[:, None])

    def drawn_at(attempt):
        return tf.random.stateless_uniform(
            shape, tf.stack([seed[0], seed[1] * _ATTEMPTS + attempt]), 0, examples, tf.int32
        )

    def again(attempt, drawn, wrong):
        drawn = tf.where(wrong, drawn_at(attempt), drawn)
        return attempt + 1, drawn, unfit(drawn)

    first = drawn_at(0)
    _, drawn, _ = tf.while_loop(
        lambda attempt, _, wrong: (attempt < _ATTEMPTS) & tf.reduce_any(wrong),
        again,
        (1, first, unfit(first)),
    )
    return drawn


_ATTEMPTS = 64
