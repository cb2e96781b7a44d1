"""Which way up a photograph is: the EXIF orientation of JPEG, PNG and WebP files, in the graph and
in Python.

Only a two-byte orientation in the first directory of the file's own EXIF block counts, as for a
browser; one in XMP, or of another type, does not. A damaged block is no orientation.

Source: CIPA DC-008 (Exif 2.32), section 4.6.4 A; PNG extensions 1.5, eXIf; the WebP container.
"""

import struct

import numpy as np
import tensorflow as tf

_ORIENTATION, _SHORT = 0x0112, 3
# Segments, chunks or entries that are looked through.
_PARTS_AT_MOST = 100
# Beyond the end of any file that is decoded; twice as far is an int32 still.
_FAR = 2**30 - 16


def exif_orientation(exif):
    """The orientation, 1 (upright) to 8, that an EXIF block gives.

    Args:
        exif: bytes: a TIFF header and its directories; "Exif" and two zeros may stand before it.
    """
    exif = exif.removeprefix(b"Exif\0\0")
    order = {b"II": "<", b"MM": ">"}.get(exif[:2])
    if order is None or len(exif) < 10:
        return 1
    (start,) = struct.unpack_from(order + "I", exif, 4)
    if start >= len(exif):
        return 1
    cut_off = exif + bytes(12)  # what is missing reads as zeros, as in the graph
    (count,) = struct.unpack_from(order + "H", cut_off, start)
    end = start + 2 + 12 * min(count, _PARTS_AT_MOST)
    for entry in range(start + 2, min(end, len(exif)), 12):
        tag, kind = struct.unpack_from(order + "HH", cut_off, entry)
        if tag == _ORIENTATION and kind == _SHORT:
            (value,) = struct.unpack_from(order + "H", cut_off, entry + 8)
            return value if 1 <= value <= 8 else 1
    return 1


def jpeg_exif(data):
    """The EXIF block of a JPEG file's bytes, empty if there is none before its tables."""
    position = 2
    for _ in range(_PARTS_AT_MOST):
        head = data[position : position + 10]
        known = len(head) == 10 and head[0] == 0xFF and (0xE0 <= head[1] <= 0xEF or head[1] == 0xFE)
        if not known:
            break
        length = head[2] * 256 + head[3]
        if head[1] == 0xE1 and head[4:] == b"Exif\0\0":
            return data[position + 10 : position + 2 + length]
        position += 2 + length
    return b""


def turned(image, orientation):
    """An image turned as its orientation, 1 to 8, says: array (height, width, channels)."""
    if orientation >= 5:
        image = image.transpose(1, 0, 2)
    if orientation in (3, 4, 7, 8):
        image = image[::-1]
    if orientation in (2, 3, 6, 7):
        image = image[:, ::-1]
    return np.ascontiguousarray(image)


def octets(encoded, start, count):
    """`count` bytes of a scalar string tensor from `start` as int64 tensor; zeros after its end."""
    start = tf.minimum(start, tf.strings.length(encoded))
    some = tf.strings.join([tf.strings.substr(encoded, start, count), "\0" * count])
    found = tf.io.decode_raw(tf.strings.substr(some, 0, count), tf.uint8)
    return tf.cast(tf.ensure_shape(found, (count,)), tf.int64)


def big_endian(bytes_):
    """The number that an int64 tensor of bytes writes, the highest first."""
    return tf.reduce_sum(
        bytes_ * tf.constant([256**n for n in range(bytes_.shape[0])][::-1], tf.int64)
    )


def jpeg_orientation(encoded):
    """The orientation of a JPEG file: int32 scalar.

    Args:
        encoded: scalar string tensor, the file's bytes.
    """

    def step(position, start, length, _):
        head = octets(encoded, position, 10)
        # Application segments and comments come first; EXIF is the first or the second of them.
        known = (head[0] == 0xFF) & ((head[1] >= 0xE0) & (head[1] <= 0xEF) | (head[1] == 0xFE))
        exif = (head[1] == 0xE1) & _is_exif(head[4:])
        segment = tf.cast(big_endian(head[2:4]), tf.int32)
        start = tf.where(known & exif, position + 10, start)
        length = tf.where(known & exif, segment - 8, length)
        return position + 2 + segment, start, length, known & ~exif

    _, start, length, _ = tf.while_loop(
        lambda position, start, length, going: going,
        step,
        (tf.constant(2), tf.constant(0), tf.constant(0), tf.constant(True)),
        maximum_iterations=_PARTS_AT_MOST,
    )
    return _exif_in_graph(encoded, start, length)


def png_facts(encoded):
    """(orientation int32, whether some of it may be transparent) of a PNG file, from the chunks
    before its pixels.

    Args:
        encoded: scalar string tensor, the file's bytes.
    """

    def step(position, start, length, transparent, _):
        head = octets(encoded, position, 8)
        kind = tf.strings.substr(encoded, tf.minimum(position + 4, tf.strings.length(encoded)), 4)
        chunk = tf.cast(tf.minimum(big_endian(head[:4]), _FAR), tf.int32)
        start = tf.where(kind == b"eXIf", position + 8, start)
        length = tf.where(kind == b"eXIf", chunk, length)
        going = (kind != b"IDAT") & (kind != b"IEND") & (tf.strings.length(kind) == 4)
        after = tf.minimum(position + 12 + chunk, _FAR)
        return after, start, length, transparent | (kind == b"tRNS"), going

    colour = octets(encoded, 25, 1)[0]
    alpha = (colour == 4) | (colour == 6)
    _, start, length, transparent, _ = tf.while_loop(
        lambda position, start, length, transparent, going: going,
        step,
        (tf.constant(33), tf.constant(0), tf.constant(0), alpha, tf.constant(True)),
        maximum_iterations=_PARTS_AT_MOST,
    )
    return _exif_in_graph(encoded, start, length), transparent


def webp_orientation(encoded):
    """The orientation of a WebP file: int32 scalar.

    Args:
        encoded: scalar string tensor, the file's bytes.
    """

    def step(position, start, length, _):
        kind = tf.strings.substr(encoded, tf.minimum(position, tf.strings.length(encoded)), 4)
        head = octets(encoded, position, 14)
        prefix = tf.where(_is_exif(head[8:]), 6, 0)
        chunk = tf.cast(tf.minimum(big_endian(head[4:8][::-1]), _FAR), tf.int32)
        start = tf.where(kind == b"EXIF", position + 8 + prefix, start)
        length = tf.where(kind == b"EXIF", chunk - prefix, length)
        going = (tf.strings.length(kind) == 4) & (kind != b"EXIF")
        return tf.minimum(position + 8 + chunk + chunk % 2, _FAR), start, length, going

    # Only an extended header (VP8X) whose flags say so announces EXIF.
    extended = tf.strings.substr(encoded, tf.minimum(12, tf.strings.length(encoded)), 4) == b"VP8X"
    announced = extended & (octets(encoded, 20, 1)[0] & 8 > 0)
    _, start, length, _ = tf.while_loop(
        lambda position, start, length, going: going,
        step,
        (tf.constant(12), tf.constant(0), tf.constant(0), announced),
        maximum_iterations=_PARTS_AT_MOST,
    )
    return _exif_in_graph(encoded, start, length)


def _is_exif(six):
    return tf.reduce_all(six == tf.constant([*b"Exif\0\0"], tf.int64))


def _exif_in_graph(encoded, start, length):
    """`exif_orientation` of the block at `start`, 0 for none: int32 scalar tensor."""

    def parsed():
        at = tf.minimum(start, tf.strings.length(encoded))
        block = tf.strings.substr(encoded, at, tf.maximum(length, 0))
        first = octets(block, 0, 8)
        little = tf.reduce_all(first[:2] == [0x49, 0x49])
        known = (little | tf.reduce_all(first[:2] == [0x4D, 0x4D])) & (
            tf.strings.length(block) >= 10
        )

        def number(bytes_):
            return tf.where(little, big_endian(bytes_[::-1]), big_endian(bytes_))

        directory = tf.cast(tf.minimum(number(first[4:8]), _FAR), tf.int32)
        count = tf.cast(number(octets(block, directory, 2)), tf.int32)

        def step(index, value):
            entry = octets(block, directory + 2 + 12 * index, 12)
            matches = (number(entry[:2]) == _ORIENTATION) & (number(entry[2:4]) == _SHORT)
            return index + 1, tf.where(matches, number(entry[8:10]), value)

        _, value = tf.while_loop(
            lambda index, value: (value < 0) & (index < count),
            step,
            (tf.constant(0), tf.constant(-1, tf.int64)),
            maximum_iterations=_PARTS_AT_MOST,
        )
        return tf.cast(tf.where(known & (value >= 1) & (value <= 8), value, 1), tf.int32)

    return tf.cond(start > 0, parsed, lambda: tf.constant(1))


def upright(image, orientation):
    """`turned` in the graph.

    Args:
        image: tensor, shape (height, width, channels).
        orientation: int32 scalar tensor, 1 to 8.
    """

    def flip():
        flipped = tf.cond(orientation >= 5, lambda: tf.transpose(image, (1, 0, 2)), lambda: image)
        rows = tf.reduce_any(orientation == [3, 4, 7, 8])
        columns = tf.reduce_any(orientation == [2, 3, 6, 7])
        flipped = tf.cond(rows, lambda: flipped[::-1], lambda: flipped)
        return tf.cond(columns, lambda: flipped[:, ::-1], lambda: flipped)

    return tf.cond(orientation > 1, flip, lambda: image)
