"""The EXIF orientation of encoded images, read and applied in the graph.

Training data is read with `PIL.ImageOps.exif_transpose`, so an exported graph has to turn images
the same way: by the first EXIF block (JPEG: APP1 before the scan, PNG: eXIf, WebP: EXIF), or,
without an orientation there, by `tiff:Orientation` in an XMP packet. What is left out: EXIF that
old versions of ImageMagick stored as compressed text in PNG files ("Raw profile type exif").
"""

import tensorflow as tf

_ORIENTATION, _SCAN, _APP1, _END = 0x0112, 0xDA, 0xE1, 0xD9
_EXIF, _XMP = b"Exif\0\0", b"tiff:Orientation"
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
    # Most files hold none of these words: then nothing else is looked at.
    marks = tf.cond(is_jpeg, lambda: _EXIF, lambda: tf.where(is_png, b"eXIf", b"EXIF"))
    spoken = _holds(encoded, marks) | _holds(encoded, _XMP)

    def look():
        block, end = tf.case(
            [(is_jpeg, lambda: _jpeg_block(encoded)), (is_png, lambda: _png_block(encoded))],
            default=lambda: _webp_block(encoded),
        )
        header = tf.cond(is_jpeg, lambda: tf.strings.substr(encoded, 0, end), lambda: encoded)
        from_exif = _tiff_orientation(block)
        return tf.cond(from_exif > 0, lambda: from_exif, lambda: _xmp_orientation(header))

    found = tf.cond(spoken, look, lambda: 1)
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
    """Walk over segments: `step(position)` gives (start of EXIF or -1, its size, next position,
    whether the walk is over); gives (EXIF block or "", position of the end)."""
    length = tf.strings.length(encoded)

    def go_on(position, found, size, over):
        return ~over & (position < length)

    def body(position, found, size, over):
        found, size, following, over = step(position)
        over |= (found >= 0) | (following <= position)
        return tf.where(over, position, following), found, size, over

    state = (start, tf.constant(-1), tf.constant(0), tf.constant(False))
    position, found, size, _ = tf.while_loop(go_on, body, state, maximum_iterations=_BLOCKS)
    block = tf.cond(
        found >= 0,
        lambda: tf.strings.substr(encoded, tf.minimum(found, length), tf.maximum(size, 0)),
        lambda: "",
    )
    return block, position


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
    short = (kind == 3) | (kind == 8)
    fits = (tag == _ORIENTATION) & (_number(entries[:, 4:8], big_endian) == 1)
    fits &= short | (kind == 4) | (kind == 9)
    values = tf.where(
        short, _number(entries[:, 8:10], big_endian), _number(entries[:, 8:12], big_endian)
    )
    return tf.concat([tf.boolean_mask(values, fits), [0]], axis=0)[0]


def _xmp_orientation(header):
    """The digit of `tiff:Orientation="6"` or `<tiff:Orientation>6`, or 0."""
    parts = tf.strings.split(header, sep=_XMP)[1:]
    first = tf.strings.substr(tf.strings.join([parts, "\0\0\0"]), 0, 3)
    as_attribute = tf.strings.substr(first, 0, 2) == '="'
    as_element = tf.strings.substr(first, 0, 1) == ">"
    digit = tf.where(as_attribute, tf.strings.substr(first, 2, 1), tf.strings.substr(first, 1, 1))
    octets = tf.cast(tf.reshape(tf.io.decode_raw(digit, tf.uint8), (-1,)), tf.int32) - ord("0")
    fits = (as_attribute | as_element) & (octets >= 0) & (octets <= 9)
    return tf.concat([tf.boolean_mask(octets, fits), [0]], axis=0)[0]
