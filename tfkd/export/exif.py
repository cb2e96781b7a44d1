"""The EXIF orientation of encoded images, read and applied in the graph.

Training data is turned upright when it is read, so an exported graph has to turn images the same
way: by a two-byte orientation in the first directory of the file's EXIF block (JPEG: the first APP1
segment with EXIF before the scan, PNG: eXIf, WebP: EXIF). An orientation in XMP does not count.
"""

import tensorflow as tf

_ORIENTATION, _SHORT, _SCAN, _APP1, _END = 0x0112, 3, 0xDA, 0xE1, 0xD9
_EXIF = b"Exif\0\0"
_BLOCKS = 10_000  # a file of more segments or chunks is read no further
_ENTRIES = 1000


def upright(image, encoded, is_jpeg, is_png):
    """Turn a decoded image as its file says.

    Args:
        image: tensor, shape (height, width, channels).
        encoded: scalar string tensor, the JPEG, PNG or WebP file it was decoded from.
        is_jpeg, is_png: scalar bool tensors; neither means WebP.
    """
    orientation = read_orientation(encoded, is_jpeg, is_png)

    def turned():
        # Orientations 5 to 8 are 1 to 4 (in the order 1, 2, 3, 4 → 5, 6, 7, 8) after a transpose:
        # 2, 3, 6 and 7 also mirror columns, 3, 4, 7 and 8 rows.
        turn = tf.cond(orientation >= 5, lambda: tf.transpose(image, (1, 0, 2)), lambda: image)
        columns = tf.reduce_any(tf.equal(orientation, [2, 3, 6, 7]))
        rows = tf.reduce_any(tf.equal(orientation, [3, 4, 7, 8]))
        turn = tf.cond(columns, lambda: tf.reverse(turn, (1,)), lambda: turn)
        return tf.cond(rows, lambda: tf.reverse(turn, (0,)), lambda: turn)

    return tf.cond(orientation >= 2, turned, lambda: image)


def read_orientation(encoded, is_jpeg, is_png):
    """int32 scalar, 1 to 8; 1 (upright) where the file says nothing or nonsense."""
    # Most files hold no such word: then nothing else is looked at.
    mark = tf.cond(is_jpeg, lambda: _EXIF, lambda: tf.where(is_png, b"eXIf", b"EXIF"))

    def look():
        block = tf.case(
            [(is_jpeg, lambda: _jpeg_block(encoded)), (is_png, lambda: _png_block(encoded))],
            default=lambda: _webp_block(encoded),
        )
        return _tiff_orientation(block)

    found = tf.cond(_holds(encoded, mark), look, lambda: 1)
    return tf.where((found >= 1) & (found <= 8), found, 1)


def _holds(text, part):
    return tf.size(tf.strings.split(text, sep=part, maxsplit=1)) > 1


def _octets(text, start, count):
    """`count` bytes from `start` as int32, zeros behind the end."""
    padded = tf.strings.substr(text, tf.minimum(start, tf.strings.length(text)), count)
    padded = tf.strings.substr(tf.strings.join([padded, "\0" * count]), 0, count)
    return tf.ensure_shape(tf.cast(tf.io.decode_raw(padded, tf.uint8), tf.int32), (count,))


def _number(octets, big_endian=True):
    """Bytes (last axis, 2 or 4 of them) as a number; what is above int32 is negative."""
    shifts = [8 * place for place in range(octets.shape[-1])]
    shifts = tf.where(big_endian, shifts[::-1], shifts)
    return tf.reduce_sum(tf.bitwise.left_shift(octets, shifts), axis=-1)


def _walk(encoded, start, step):
    """The EXIF block of a file, or "". `step(position)` gives (start of the block or -1, its size,
    the next segment's position, whether the walk is over)."""
    length = tf.strings.length(encoded)

    def go_on(position, found, size, over):
        return ~over & (position < length)

    def body(position, found, size, over):
        found, size, following, over = step(position)
        over |= (found >= 0) | (following <= position)
        return tf.where(over, position, following), found, size, over

    state = (start, tf.constant(-1), tf.constant(0), tf.constant(False))
    _, found, size, _ = tf.while_loop(go_on, body, state, maximum_iterations=_BLOCKS)
    return tf.cond(
        found >= 0,
        lambda: tf.strings.substr(encoded, tf.minimum(found, length), tf.maximum(size, 0)),
        lambda: "",
    )


def _jpeg_block(encoded):
    def step(position):
        head = _octets(encoded, position, 4)
        marker, size = head[1], _number(head[2:])
        is_exif = tf.reduce_all(_octets(encoded, position + 4, 6) == list(_EXIF))
        is_exif &= marker == _APP1
        # Fill bytes and what lies between segments are skipped, as decoders do.
        is_marker = (head[0] == 0xFF) & (marker != 0) & (marker != 0xFF)
        alone = (marker == 1) | ((marker >= 0xD0) & (marker <= 0xD8))
        following = tf.where(is_marker, position + 2 + tf.where(alone, 0, size), position + 1)
        over = is_marker & ((marker == _SCAN) | (marker == _END))
        return tf.where(is_marker & is_exif, position + 10, -1), size - 8, following, over

    return _walk(encoded, 2, step)


def _png_block(encoded):
    def step(position):
        size = _number(_octets(encoded, position, 4))
        kind = _octets(encoded, position + 4, 4)
        found = tf.where(tf.reduce_all(kind == list(b"eXIf")), position + 8, -1)
        return found, size, position + 12 + size, tf.reduce_all(kind == list(b"IEND")) | (size < 0)

    return _walk(encoded, 8, step)


def _webp_block(encoded):
    def step(position):
        size = _number(_octets(encoded, position + 4, 4), big_endian=False)
        kind = _octets(encoded, position, 4)
        found = tf.where(tf.reduce_all(kind == list(b"EXIF")), position + 8, -1)
        return found, size, position + 8 + size + size % 2, size < 0

    return _walk(encoded, 12, step)


def _tiff_orientation(block):
    """The orientation in the first directory of a TIFF block, or 0."""
    for _ in range(2):  # the mark of JPEG stands before some blocks of PNG and WebP too
        block = tf.strings.regex_replace(block, r"^Exif\x00\x00", "")
    head = _octets(block, 0, 8)
    big_endian = tf.reduce_all(head[:2] == list(b"MM"))
    start = _number(head[4:], big_endian)
    valid = (big_endian | tf.reduce_all(head[:2] == list(b"II"))) & (start >= 8)
    start = tf.where(valid & (start < 1 << 24), start, 1 << 24)
    count = _number(_octets(block, start, 2), big_endian)
    inside = tf.maximum(tf.strings.length(block) - start - 2, 0) // 12
    count = tf.minimum(tf.minimum(count, inside), _ENTRIES)
    start = tf.minimum(start + 2, tf.strings.length(block))
    entries = tf.io.decode_raw(tf.strings.substr(block, start, 12 * count), tf.uint8)
    entries = tf.reshape(tf.cast(entries, tf.int32), (-1, 12))
    tag, kind = _number(entries[:, :2], big_endian), _number(entries[:, 2:4], big_endian)
    fits = (tag == _ORIENTATION) & (kind == _SHORT)
    values = tf.boolean_mask(_number(entries[:, 8:10], big_endian), fits)
    return tf.concat([values, [0]], axis=0)[0]
