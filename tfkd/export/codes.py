"""Hash codes as they are served: the numbers, their bits as ±1, and the bits packed into bytes."""

import numpy as np
import tensorflow as tf

from tfkd.export.errors import ExportCheckError

_BYTE = tuple(2**place for place in range(7, -1, -1))  # the first bit is the highest


def answers(numbers):
    """What is served of a hashing model.

    Args:
        numbers: float tensor, shape (batch, bits); a bit is whether its number is above 0.

    Returns:
        {"values": float32 (batch, bits), "codes": int8 (batch, bits), +1 or -1, "packed": uint8
        (batch, bytes), as `numpy.packbits(values > 0, axis=-1)`: zeros fill the last byte}.
    """
    values = tf.cast(numbers, tf.float32)
    ones = tf.cast(values > 0, tf.int32)
    bits = ones.shape[-1]
    count = -(-bits // 8)
    whole = tf.pad(ones, ((0, 0), (0, 8 * count - bits)))
    packed = tf.reduce_sum(tf.reshape(whole, (-1, count, 8)) * tf.constant(_BYTE), axis=-1)
    codes = tf.cast(2 * ones - 1, tf.int8)
    return {"values": values, "codes": codes, "packed": tf.cast(packed, tf.uint8)}


def require_consistent(found, where):
    """Raises ExportCheckError unless the codes of an answer follow from its own numbers.

    Args:
        found: {output name: array} of an export.
        where: it was found, for the message.
    """
    ones = found["values"] > 0
    expected = {"codes": np.where(ones, 1, -1), "packed": np.packbits(ones, axis=-1)}
    for name, values in expected.items():
        if not np.array_equal(found[name], values):
            raise ExportCheckError(f'"{name}" of {where} does not follow from the values.')
