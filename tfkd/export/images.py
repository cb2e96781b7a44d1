"""Encoded image bytes to pixels, in the graph, with the ops that training data goes through.

A server must survive any bytes, so the size is read from the header before a single pixel is
decoded: an image of 25 million pixels is a few kilobytes of PNG. Formats are JPEG, PNG and WebP.
"""

import tensorflow as tf

from tfkd.data.images import resize

MAXIMUM_PIXELS = 25_000_000
_HEADER_BYTES = 32


def decode_batch(image_bytes, shape, maximum_pixels=MAXIMUM_PIXELS):
    """Decode and resize.

    Args:
        image_bytes: string tensor, shape (batch,); each a JPEG, PNG or WebP file (no animation).
        shape: (height, width, channels) that the student takes.
        maximum_pixels: a larger image is refused before it is decoded.

    Returns:
        uint8 tensor, shape (batch, height, width, channels). Bytes that are no such image, or too
        large an image, raise InvalidArgumentError, for the whole batch.
    """
    return tf.map_fn(
        lambda encoded: _decode(encoded, shape, maximum_pixels),
        image_bytes,
        fn_output_signature=tf.TensorSpec(shape, tf.uint8),
        parallel_iterations=2,  # bounds the memory of large photographs
    )


def _decode(encoded, shape, maximum_pixels):
    header = tf.strings.substr(tf.strings.join([encoded, "\0" * _HEADER_BYTES]), 0, _HEADER_BYTES)
    is_jpeg = tf.strings.substr(header, 0, 3) == b"\xff\xd8\xff"
    is_png = tf.strings.substr(header, 0, 8) == b"\x89PNG\r\n\x1a\n"
    is_webp = tf.strings.substr(header, 0, 4) + tf.strings.substr(header, 8, 4) == b"RIFFWEBP"
    known = tf.debugging.Assert(
        is_jpeg | is_png | is_webp, ["image_bytes is no JPEG, PNG or WebP image"]
    )
    with tf.control_dependencies([known]):
        octets = tf.cast(tf.io.decode_raw(header, tf.uint8), tf.int64)
        octets = tf.ensure_shape(octets, (_HEADER_BYTES,))
    size = tf.case(
        [
            (is_jpeg, lambda: tf.io.extract_jpeg_shape(encoded, tf.int64)[:2]),
            (is_png, lambda: tf.stack([_big_endian(octets[20:24]), _big_endian(octets[16:20])])),
        ],
        default=lambda: _webp_size(header, octets),
    )
    acceptable = tf.debugging.Assert(
        tf.reduce_all(size > 0) & (size[0] <= maximum_pixels // tf.maximum(size[1], 1)),
        ["image_bytes: (height, width) is", size, f"at most {maximum_pixels} pixels are decoded"],
    )
    with tf.control_dependencies([acceptable]):
        image = tf.cond(
            is_webp,
            lambda: _decode_webp(encoded, shape[-1]),
            lambda: tf.io.decode_image(encoded, channels=shape[-1], expand_animations=False),
        )
    return tf.ensure_shape(resize(image, shape[:2]), shape)


def _decode_webp(encoded, channels):
    """TensorFlow's WebP decoder knows no conversions: drop the alpha channel and turn to grey
    here."""
    image = tf.io.decode_image(encoded, expand_animations=False)[..., :3]
    return image if channels == 3 else tf.image.rgb_to_grayscale(image)


def _big_endian(octets):
    return tf.reduce_sum(octets * tf.constant([1 << 24, 1 << 16, 1 << 8, 1], tf.int64))


def _webp_size(header, octets):
    """(height, width) from the first chunk: VP8X (extended), VP8L (lossless) or VP8 (lossy)."""
    chunk = tf.strings.substr(header, 12, 4)

    def extended():
        width = octets[24] + octets[25] * 256 + octets[26] * 65536 + 1
        height = octets[27] + octets[28] * 256 + octets[29] * 65536 + 1
        return tf.stack([height, width])

    def lossless():
        bits = octets[21] + octets[22] * 256 + octets[23] * 65536 + octets[24] * (1 << 24)
        return tf.stack([bits // 16384 % 16384 + 1, bits % 16384 + 1])

    def lossy():
        return tf.stack(
            [(octets[28] + octets[29] * 256) % 16384, (octets[26] + octets[27] * 256) % 16384]
        )

    return tf.case([(chunk == b"VP8X", extended), (chunk == b"VP8L", lossless)], default=lossy)
