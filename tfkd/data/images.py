"""Reading pixels: from a file's bytes to what a viewer shows, resized by a rule.

What a file means here: it is turned as its EXIF orientation says; what is transparent lies on
white; of 16 bits a channel the upper 8 count; CMYK becomes RGB; of an animation or of several pages
the first counts. Nothing is guessed for pixels that no viewer shows alike (32-bit numbers, Lab).
"""

import io

import numpy as np
import tensorflow as tf
from PIL import Image, ImageOps, UnidentifiedImageError

from tfkd.data.orientation import (
    exif_orientation,
    jpeg_exif,
    jpeg_orientation,
    png_facts,
    turned,
    upright,
    webp_orientation,
)
from tfkd.data.resizing import resize

Image.init()  # without it Pillow knows its most common formats only
# Pillow's own limit, beyond which it speaks of a decompression bomb.
MAXIMUM_PIXELS = 178_956_970
# What Pillow may open: never a format that runs another program.
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
_START_BYTES = 48
_SIXTEEN_BITS = ("I;16", "I;16B", "I;16L", "I;16N")
ALPHA_MODES = ("RGBA", "LA", "PA", "RGBa", "La")


def decode(encoded, shape, rule):
    """One encoded image (JPEG, PNG, BMP, GIF, PPM, TIFF or WebP) as uint8 tensor of shape `shape`.

    Args:
        encoded: scalar string tensor, a file's bytes.
        shape: (height, width, channels) of the result.
        rule: one of `tfkd.data.resizing.RULES`, by which it is resized; None: another size is an
            error.
    """
    channels = shape[-1]

    def rarer():
        image = tf.numpy_function(lambda file: _by_python(file, channels), [encoded], tf.uint8)
        return tf.ensure_shape(image, (None, None, channels))

    image = tf.cond(_plain(encoded), lambda: _decode_plain(encoded, channels), rarer)
    if rule is not None:
        image = resize(image, shape[:2], rule)
    return tf.ensure_shape(image, shape)


def pixels(encoded, channels):
    """A JPEG, PNG or unanimated WebP file as a viewer shows it, by TensorFlow's operations alone.

    An exported model decodes with it, so that a file means the same in training and in serving:
    `decode` gives the same pixels, of rarer files by Python, whose graph is quickly made. The
    caller has looked at the size, and refused animations: TensorFlow's decoder crashes on them.

    Args:
        encoded: scalar string tensor, the file's bytes.
        channels: 1 or 3.

    Returns:
        uint8 tensor, shape (height, width, channels).
    """
    return tf.cond(
        _plain(encoded),
        lambda: _decode_plain(encoded, channels),
        lambda: _decode_in_graph(encoded, channels),
    )


def _decode_plain(encoded, channels):
    image = tf.io.decode_image(encoded, channels=channels, expand_animations=False)
    return tf.ensure_shape(image, (None, None, channels))


# Operations of a branch that is not taken still cost time, one by one. A function does not.
_called = tf.function(autograph=False, experimental_attributes={"_noinline": True})


@_called
def _decode_in_graph(encoded, channels):
    def jpeg():
        return upright(_decode_plain(encoded, channels), jpeg_orientation(encoded))

    def png():
        orientation, transparent = png_facts(encoded)
        image = tf.cond(
            transparent,
            lambda: _to_channels(on_white(tf.io.decode_png(encoded, channels=4)), channels),
            lambda: _decode_plain(encoded, channels),
        )
        return upright(image, orientation)

    def webp():
        # TensorFlow's WebP decoder knows no conversions.
        image = tf.io.decode_image(encoded, expand_animations=False)
        image = tf.cond(tf.shape(image)[-1] == 4, lambda: on_white(image), lambda: image[..., :3])
        return upright(_to_channels(image, channels), webp_orientation(encoded))

    start = _start(encoded)
    return tf.case([(_is_jpeg(start), jpeg), (_is_png(start), png)], default=webp)


def _start(encoded):
    """The first bytes of a file, zeros after its end."""
    return tf.strings.substr(tf.strings.join([encoded, "\0" * _START_BYTES]), 0, _START_BYTES)


def _is_jpeg(start):
    return tf.strings.substr(start, 0, 3) == b"\xff\xd8\xff"


def _is_png(start):
    return tf.strings.substr(start, 0, 8) == b"\x89PNG\r\n\x1a\n"


def _pattern(pieces):
    """(bits that count, their values) of a file's first bytes, uint8 arrays (_START_BYTES,).

    Args:
        pieces: {offset: bytes that stand there}.
    """
    mask, values = np.zeros((2, _START_BYTES), np.uint8)
    for offset, piece in pieces.items():
        mask[offset : offset + len(piece)] = 0xFF
        values[offset : offset + len(piece)] = np.frombuffer(piece, np.uint8)
    return mask, values


# A JPEG whose tables follow the JFIF segment.
_PLAIN_JPEG = _pattern({0: b"\xff\xd8\xff\xe0\x00\x10", 20: b"\xff\xdb"})
# A PNG without alpha whose pixels follow its header.
_PLAIN_PNG = _pattern({0: b"\x89PNG\r\n\x1a\n", 25: b"\x00", 37: b"IDAT"})
_PLAIN_PNG[0][25] = 0xFD  # grey is 0, colour 2
_PLAIN = np.stack([_PLAIN_JPEG, _PLAIN_PNG], axis=1)


def _plain(encoded):
    """Whether a file is seen at once to be upright and opaque, as most files are.

    Few operations: this is done for every image of every epoch.
    """
    mask, values = _PLAIN
    start = tf.io.decode_raw(encoded, tf.uint8, fixed_length=_START_BYTES)
    same = tf.equal(tf.bitwise.bitwise_and(start, mask), values)
    return tf.reduce_any(tf.reduce_all(same, axis=1))


def on_white(image):
    """RGBA, uint8 (height, width, 4), laid on white: (height, width, 3). Opaque pixels stay."""
    image = tf.cast(image, tf.int32)
    colour, alpha = image[..., :3], image[..., 3:4]
    return tf.cast((colour * alpha + 255 * (255 - alpha) + 127) // 255, tf.uint8)


def _to_channels(image, channels):
    image = tf.ensure_shape(image, (None, None, 3))
    return image if channels == 3 else tf.image.rgb_to_grayscale(image)


def open_by_pillow(file):
    """A file (a path, or opened) as Pillow image, its pixels not read yet.

    Raises:
        OSError: for what is no image of `FORMATS`.
        ValueError: for more than `MAXIMUM_PIXELS`.
    """
    try:
        image = Image.open(file, formats=FORMATS)
    except Image.DecompressionBombError as error:
        raise ValueError(f"it claims too many pixels: {error}") from error
    check_pixels(image.height, image.width)
    return image


def reason(error):
    """Why Pillow could not read a file, from what it raised."""
    if isinstance(error, UnidentifiedImageError):
        return f"it is no image of a kind that is read ({', '.join(FORMATS)})"
    return str(error) or type(error).__name__


def check_pixels(height, width):
    """Raises ValueError for an image of no pixels or of more than `MAXIMUM_PIXELS`."""
    if height < 1 or width < 1:
        raise ValueError(f"it is {height}x{width} pixels (height x width)")
    if height * width > MAXIMUM_PIXELS:
        raise ValueError(
            f"it is {height}x{width} pixels (height x width), more than the {MAXIMUM_PIXELS} that "
            "are read of one image: reduce it, or cut it into tiles"
        )


def by_pillow(encoded, channels):
    """A file's bytes as a viewer shows them: uint8 array (height, width, channels).

    Raises:
        ValueError: for what cannot be read; the message says why, without the file's name.
    """
    try:
        with open_by_pillow(io.BytesIO(encoded)) as image:
            # Before the pixels, as in the graph: PNG may bring more after them.
            exif = b"" if image.format == "TIFF" else image.info.get("exif", b"")
            image.load()
            return _shown(image, exif_orientation(exif), channels)
    except Exception as error:  # bytes of strangers: Pillow's readers raise nearly anything
        raise ValueError(reason(error)) from error


def _by_python(encoded, channels):
    if not isinstance(encoded, bytes):
        encoded = encoded.item()  # eagerly it comes as an array
    if not encoded.startswith(b"\xff\xd8\xff"):
        return by_pillow(encoded, channels)
    # Pillow's JPEG decoder rounds otherwise than TensorFlow's, which plain files go through.
    with tf.device("CPU:0"):
        image = _decode_plain(tf.constant(encoded), channels).numpy()
    return turned(image, exif_orientation(jpeg_exif(encoded)))


def _shown(image, orientation, channels):
    name = image.format
    if name == "TIFF":
        image = ImageOps.exif_transpose(image)
    if image.mode in _SIXTEEN_BITS or (image.mode == "I" and name in ("PNG", "PPM")):
        shown = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    elif image.mode in ALPHA_MODES or "transparency" in image.info:
        layers = np.asarray(image.convert("RGBA"), np.int32)
        colour, alpha = layers[..., :3], layers[..., 3:]
        shown = Image.fromarray(
            ((colour * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)
        )
    elif image.mode in ("1", "L", "P", "RGB", "RGBX", "CMYK", "YCbCr"):
        shown = image
    else:
        raise ValueError(
            f"its pixels are of the kind {image.mode} (Pillow's name), of which viewers show "
            "different things: convert it to 8 bits a channel"
        )
    array = np.asarray(shown.convert("L" if channels == 1 else "RGB"))
    array = array.reshape(*array.shape[:2], channels)
    return turned(array, orientation)
