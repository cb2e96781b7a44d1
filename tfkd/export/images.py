"""Encoded image bytes to pixels, in the graph, with the ops that training data goes through.

A server must survive any bytes, so every file is judged by its header before a decoder sees it:
its format, its size in pixels (25 million pixels are a few kilobytes of PNG), animation (animated
WebP files corrupt the memory of TensorFlow's decoder). Formats are JPEG, PNG and WebP; of an
animated PNG it is the still image. Images are turned upright by their EXIF orientation.
"""

import tensorflow as tf

from tfkd.data.images import pixels
from tfkd.data.resizing import STRETCH, resize

MAXIMUM_PIXELS = 25_000_000
# A progressive JPEG may go over all its pixels again and again; encoders write about ten scans.
MAXIMUM_SCANS = 64
_HEADER_BYTES = 32


def decode_batch(image_bytes, shape, maximum_pixels=MAXIMUM_PIXELS, rule=STRETCH):
    """Decode, turn upright and resize.

    Args:
        image_bytes: string tensor, shape (batch,); each a JPEG, PNG or WebP file (no animation).
        shape: (height, width, channels) that the student takes.
        maximum_pixels: a larger image is refused before it is decoded.
        rule: of resizing, see `tfkd.data.resizing`.

    Returns:
        uint8 tensor, shape (batch, height, width, channels). Bytes that are no such image, or too
        large an image, raise InvalidArgumentError, for the whole batch.
    """
    return tf.map_fn(
        lambda encoded: _decode(encoded, shape, maximum_pixels, rule),
        image_bytes,
        fn_output_signature=tf.TensorSpec(shape, tf.uint8),
        parallel_iterations=2,  # bounds the memory of large photographs
    )


def _decode(encoded, shape, maximum_pixels, rule):
    header = tf.strings.substr(tf.strings.join([encoded, "\0" * _HEADER_BYTES]), 0, _HEADER_BYTES)
    is_jpeg = tf.strings.substr(header, 0, 3) == b"\xff\xd8\xff"
    is_png = tf.strings.substr(header, 0, 8) == b"\x89PNG\r\n\x1a\n"
    is_webp = tf.strings.substr(header, 0, 4) + tf.strings.substr(header, 8, 4) == b"RIFFWEBP"
    with tf.control_dependencies([_known(is_jpeg, is_png, is_webp)]):
        octets = tf.cast(tf.io.decode_raw(header, tf.uint8), tf.int64)
        octets = tf.ensure_shape(octets, (_HEADER_BYTES,))
    size = tf.case(
        [
            (is_jpeg, lambda: tf.io.extract_jpeg_shape(encoded, tf.int64)[:2]),
            (is_png, lambda: _png_size(header, octets)),
        ],
        default=lambda: _webp_size(header, octets),
    )
    acceptable = tf.debugging.Assert(
        tf.reduce_all(size > 0) & (size[0] <= maximum_pixels // tf.maximum(size[1], 1)),
        ["image_bytes: (height, width) is", size, f"at most {maximum_pixels} pixels are decoded"],
    )
    scans = tf.cond(is_jpeg, lambda: _scans(encoded), lambda: 0)
    finite = tf.debugging.Assert(
        scans <= MAXIMUM_SCANS,
        ["image_bytes: the JPEG image has", scans, f"scans; at most {MAXIMUM_SCANS} are decoded"],
    )
    with tf.control_dependencies([acceptable, finite]):
        image = pixels(tf.identity(encoded), shape[-1])
    return tf.ensure_shape(resize(image, shape[:2], rule), shape)


def _known(is_jpeg, is_png, is_webp):
    return tf.debugging.Assert(
        is_jpeg | is_png | is_webp, ["image_bytes is no JPEG, PNG or WebP image"]
    )


def _scans(encoded):
    """Number of start-of-scan markers; coded pixels cannot hold the marker's two bytes."""
    octets = tf.io.decode_raw(encoded, tf.uint8)
    return tf.math.count_nonzero((octets[:-1] == 0xFF) & (octets[1:] == 0xDA), dtype=tf.int32)


def _png_size(header, octets):
    """(height, width); the size stands there only if the first chunk is a header of 13 bytes."""
    first = tf.debugging.Assert(
        tf.strings.substr(header, 8, 8) == b"\0\0\0\x0dIHDR",
        ["image_bytes: the PNG image does not start with its header"],
    )
    with tf.control_dependencies([first]):
        return tf.stack([_big_endian(octets[20:24]), _big_endian(octets[16:20])])


def _big_endian(octets):
    return tf.reduce_sum(octets * tf.constant([1 << 24, 1 << 16, 1 << 8, 1], tf.int64))


def _little_endian(octets):
    places = [1 << (8 * place) for place in range(octets.shape[0])]
    return tf.reduce_sum(octets * tf.constant(places, tf.int64))


def _webp_size(header, octets):
    """(height, width) from the first chunk: VP8X (extended), VP8L (lossless) or VP8 (lossy).

    Any other first chunk, or one without its signature, is refused: the decoder would look for the
    image elsewhere and could find one of another size. So is the flag of animation."""
    chunk = tf.strings.substr(header, 12, 4)
    extended, lossless = chunk == b"VP8X", chunk == b"VP8L"
    lossy = (chunk == b"VP8 ") & (tf.strings.substr(header, 23, 3) == b"\x9d\x01\x2a")
    whole = extended | (lossless & (octets[20] == 0x2F)) | lossy
    known = tf.debugging.Assert(whole, ["image_bytes: the WebP image has no readable header"])
    still = tf.debugging.Assert(
        ~extended | (octets[20] // 2 % 2 == 0),
        ["image_bytes: the WebP image is animated; send a single picture"],
    )

    def extended_size():
        return tf.stack([_little_endian(octets[27:30]) + 1, _little_endian(octets[24:27]) + 1])

    def lossless_size():
        bits = _little_endian(octets[21:25])
        return tf.stack([bits // 16384 % 16384 + 1, bits % 16384 + 1])

    def lossy_size():
        sides = [_little_endian(octets[28:30]), _little_endian(octets[26:28])]
        return tf.stack(sides) % 16384

    with tf.control_dependencies([known, still]):
        return tf.case([(extended, extended_size), (lossless, lossless_size)], default=lossy_size)
