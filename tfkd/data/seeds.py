"""Numbers that depend on (seed, view, example) only: the same on every machine, in any batch, in
any process.

The hash is splitmix64 (Steele, Lea and Flood 2014, "Fast splittable pseudorandom number
generators"; constants as in Vigna's public-domain C code), written in wrapping unsigned 64-bit
arithmetic. `tf.random` is not used: its streams depend on the global seed and on the batch they are
drawn for.
"""

import tensorflow as tf

_WORD = 2**64 - 1

# Without Python control flow there is nothing for AutoGraph to convert, which takes its time.
plain = tf.autograph.experimental.do_not_convert


def _constant(value):
    return tf.constant(value & _WORD, tf.uint64)


def _words(values):
    """Integers of any width as uint64, negative ones by two's complement."""
    return tf.bitcast(tf.cast(values, tf.int64), tf.uint64)


@plain
def splitmix64(words):
    """One step of splitmix64: uint64 tensor of any shape to uint64 tensor of the same shape."""
    words = words + _constant(0x9E3779B97F4A7C15)
    words = (words ^ tf.bitwise.right_shift(words, _constant(30))) * _constant(0xBF58476D1CE4E5B9)
    words = (words ^ tf.bitwise.right_shift(words, _constant(27))) * _constant(0x94D049BB133111EB)
    return words ^ tf.bitwise.right_shift(words, _constant(31))


@plain
def view_seed(example_index, view, seed=0):
    """The augmentation seed of one view of one example.

    With `h` for splitmix64 the first word is `h(h(h(seed) ^ view) ^ example_index)`, the second is
    `h` of the first.

    Args:
        example_index: integer tensor, shape (batch,): positions in the unbatched dataset, from 0.
        view: integer scalar, or shape (batch,). A teacher cache numbers its views; `batches` uses
            the epoch.
        seed: Python integer; another seed gives unrelated views.

    Returns:
        int64 tensor, shape (batch, 2), as the augmentations of this package (and TensorFlow's
        stateless ops) take it.
    """
    first = _first_word(example_index, view, seed)
    return tf.bitcast(tf.stack([first, splitmix64(first)], axis=-1), tf.int64)


@plain
def _first_word(example_index, view, seed):
    state = splitmix64(_constant(seed)) ^ _words(view)
    return splitmix64(splitmix64(state) ^ _words(example_index))


@plain
def random_integers(seeds, draw, bound):
    """The draw-th random integer of each example, uniform in 0 .. bound - 1.

    Args:
        seeds: int32 or int64 tensor, shape (batch, 2).
        draw: Python integer; different draws of one seed are unrelated.
        bound: Python integer, 1 to 2**31.

    Returns:
        int32 tensor, shape (batch,).
    """
    seeds = _words(seeds)
    word = splitmix64(seeds[:, 0] ^ splitmix64(seeds[:, 1] ^ _constant(draw)))
    high = tf.bitwise.right_shift(word, _constant(32))
    return tf.cast(tf.bitwise.right_shift(high * _constant(bound), _constant(32)), tf.int32)


@plain
def permutation(size, epoch, seed=0):
    """The order of one epoch: int32 tensor, shape (size,), a permutation of 0 .. size - 1.

    Examples are sorted by a hash of (seed, epoch, index), so that every order is about equally
    likely and none depends on TensorFlow's random state.
    """
    # Another stream than the augmentations', or the place in the epoch would foretell the crop.
    keys = _first_word(tf.range(size, dtype=tf.int64), epoch, seed ^ 0x5368_7566_666C_6521)
    return tf.argsort(tf.bitcast(keys, tf.int64), stable=True)
