"""Which way up a photograph is: the EXIF orientation of JPEG, PNG and WebP files, in the graph and
in Python.

Only a two-byte orientation in the first directory of the file's own EXIF block counts, as for a
browser; one in XMP, or of another type, does not. A damaged block is no orientation.

Source: CIPA DC-008 (Exif 2.32), section 4.6.4 A; PNG extensions 1.5, eXIf; the WebP container.
"""

import struct

import tensorflow as tf

_ORIENTATION, _SHORT = 0x0112, 3
# Segments, chunks or entries that are looked through.
_PARTS_AT_MOST = 100


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
    if start + 2 > len(exif):
        return 1
    (count,) = struct.unpack_from(order + "H", exif, start)
    end = start + 2 + 12 * min(count, _PARTS_AT_MOST)
    for entry in range(start + 2, min(end, len(exif) - 11), 12):
        tag, kind = struct.unpack_from(order + "HH", exif, entry)
        if tag == _ORIENTATION and kind == _SHORT:
            (value,) = struct.unpack_from(order + "H", exif, entry + 8)
            return value if 1 <= value <= 8 else 1
    return 1


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

    def step(position, start, _):
        head = octets(encoded, position, 10)
        # Application segments and comments come first; EXIF is the first or the second of them.
        known = (head[0] == 0xFF) & ((head[1] >= 0xE0) & (head[1] <= 0xEF) | (head[1] == 0xFE))
        exif = (head[1] == 0xE1) & tf.reduce_all(head[4:] == tf.constant([*b"Exif\0\0"], tf.int64))
        after = position + 2 + tf.cast(big_endian(head[2:4]), tf.int32)
        start = tf.where(known & exif, position + 10, start)
        return after, start, known & ~exif

    _, start, _ = tf.while_loop(
        lambda position, start, going: going,
        step,
        (tf.constant(2), tf.constant(0), tf.constant(True)),
        maximum_iterations=_PARTS_AT_MOST,
    )
    return _exif_in_graph(encoded, start)


def png_facts(encoded):
    """(orientation int32, whether some of it may be transparent) of a PNG file, from the chunks
    before its pixels.

    Args:
        encoded: scalar string tensor, the file's bytes.
    """

    def step(position, start, transparent, _):
        head = octets(encoded, position, 8)
        kind = tf.strings.substr(encoded, tf.minimum(position + 4, tf.strings.length(encoded)), 4)
        start = tf.where(kind == b"eXIf", position + 8, start)
        # A length beyond the file ends the walk: the sum cannot overflow.
        length = tf.minimum(big_endian(head[:4]), 2**30)
        after = tf.minimum(tf.cast(position, tf.int64) + length + 12, 2**30)
        going = (kind != b"IDAT") & (kind != b"IEND") & (tf.strings.length(kind) == 4)
        return tf.cast(after, tf.int32), start, transparent | (kind == b"tRNS"), going

    colour = octets(encoded, 25, 1)[0]
    _, start, transparent, _ = tf.while_loop(
        lambda position, start, transparent, going: going,
        step,
        (tf.constant(33), tf.constant(0), (colour == 4) | (colour == 6), tf.constant(True)),
        maximum_iterations=_PARTS_AT_MOST,
    )
    return _exif_in_graph(encoded, start), transparent


def webp_orientation(encoded):
    """The orientation of a WebP file: int32 scalar.

    Args:
        encoded: scalar string tensor, the file's bytes.
    """

    def step(position, start, _):
        kind = tf.strings.substr(encoded, tf.minimum(position, tf.strings.length(encoded)), 4)
        head = octets(encoded, position, 14)
        prefixed = tf.reduce_all(head[8:] == tf.constant([*b"Exif\0\0"], tf.int64))
        found = position + 8 + tf.where(prefixed, 6, 0)
        length = tf.minimum(big_endian(head[4:8][::-1]), 2**30)
        after = tf.minimum(tf.cast(position, tf.int64) + 8 + length + length % 2, 2**30)
        going = (tf.strings.length(kind) == 4) & (kind != b"EXIF")
        return tf.cast(after, tf.int32), tf.where(kind == b"EXIF", found, start), going

    # Only an extended header (VP8X) whose flags say so announces EXIF.
    extended = tf.strings.substr(encoded, tf.minimum(12, tf.strings.length(encoded)), 4) == b"VP8X"
    announced = extended & (octets(encoded, 20, 1)[0] & 8 > 0)
    _, start, _ = tf.while_loop(
        lambda position, start, going: going,
        step,
        (tf.constant(12), tf.constant(0), announced),
        maximum_iterations=_PARTS_AT_MOST,
    )
    return _exif_in_graph(encoded, start)


def _exif_in_graph(encoded, start):
    """`exif_orientation` of the block at `start`, 0 for none: int32 scalar tensor."""

    def parsed():
        first = octets(encoded, start, 10)
        little = tf.reduce_all(first[:2] == [0x49, 0x49])
        known = little | tf.reduce_all(first[:2] == [0x4D, 0x4D])

        def number(bytes_):
            return tf.where(little, big_endian(bytes_[::-1]), big_endian(bytes_))

        offset = tf.cast(tf.minimum(number(first[4:8]), 2**30), tf.int32)
        directory = start + tf.minimum(offset, 2**30 - start)
        count = number(octets(encoded, directory, 2))

        def step(index, value):
            entry = octets(encoded, directory + 2 + 12 * index, 12)
            matches = (number(entry[:2]) == _ORIENTATION) & (number(entry[2:4]) == _SHORT)
            return index + 1, tf.where(matches, number(entry[8:10]), value)

        _, value = tf.while_loop(
            lambda index, value: (value < 0) & (index < tf.cast(count, tf.int32)),
            step,
            (tf.constant(0), tf.constant(-1, tf.int64)),
            maximum_iterations=_PARTS_AT_MOST,
        )
        return tf.cast(tf.where(known & (value >= 1) & (value <= 8), value, 1), tf.int32)

    return tf.cond(start > 0, parsed, lambda: tf.constant(1))


def upright(image, orientation):
    """An image turned as its orientation says.

    Args:
        image: tensor, shape (height, width, channels).
        orientation: int32 scalar tensor, 1 to 8.
    """

    def turned():
        flipped = tf.cond(orientation >= 5, lambda: tf.transpose(image, (1, 0, 2)), lambda: image)
        rows = tf.reduce_any(orientation == [3, 4, 7, 8])
        columns = tf.reduce_any(orientation == [2, 3, 6, 7])
        flipped = tf.cond(rows, lambda: flipped[::-1], lambda: flipped)
        return tf.cond(columns, lambda: flipped[:, ::-1], lambda: flipped)

    return tf.cond(orientation > 1, turned, lambda: image)
