"""Pixels: what a viewer shows, the same by the graph and by Pillow."""

import io
import struct
import zlib

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import ExifTags, Image, ImageOps

from tfkd.data.headers import read_header
from tfkd.data.images import by_pillow, decode, pixels
from tfkd.data.orientation import exif_orientation, jpeg_orientation

_GENERATOR = np.random.default_rng(0)
# Blocks of 4x4, so that JPEG keeps them nearly.
COLOUR = np.kron(_GENERATOR.integers(0, 256, (4, 6, 3)), np.ones((4, 4, 1))).astype(np.uint8)
ALPHA = _GENERATOR.integers(0, 256, COLOUR.shape[:2]).astype(np.uint8)
GREY = COLOUR[..., 0]
BY_GRAPH = ("JPEG", "PNG", "WEBP")


def encoded(image, file_format, **options):
    file = io.BytesIO()
    image = image if isinstance(image, Image.Image) else Image.fromarray(image)
    image.save(file, file_format, **options)
    return file.getvalue()


def png_chunk(name, data):
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


@pytest.fixture(scope="module")
def decoders():
    """Functions of a file's bytes to RGB: as folders are read, and as an export does."""
    signature = [tf.TensorSpec((), tf.string)]
    in_training = tf.function(lambda file: decode(file, (None, None, 3), None), signature)
    in_graph = tf.function(lambda file: pixels(file, 3), signature)
    return in_training, in_graph


def check(file, expected, decoders, tmp_path, tolerance=0):
    """Both decoders give `expected`, and the header says its size."""
    in_training, in_graph = decoders
    (tmp_path / "file").write_bytes(file)
    header = read_header(str(tmp_path / "file"))
    assert (header.height, header.width) == expected.shape[:2]
    found = in_training(file).numpy()
    assert found.shape == expected.shape
    assert np.abs(found.astype(int) - expected).max() <= tolerance
    if Image.open(io.BytesIO(file)).format in BY_GRAPH:
        np.testing.assert_array_equal(in_graph(file), found)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "TIFF", "WEBP"])
def test_exif_orientation_is_applied(file_format, orientation, decoders, tmp_path):
    options = {"lossless": True} if file_format == "WEBP" else {}
    exif = Image.Exif()
    exif[ExifTags.Base.Make] = "a camera's name"
    exif[ExifTags.Base.Orientation] = orientation
    file = encoded(COLOUR, file_format, exif=exif, **options)
    # Turned by hand: what stands at the top left is where the standard says.
    stored = tf.io.decode_image(encoded(COLOUR, "JPEG")) if file_format == "JPEG" else COLOUR
    flipped = np.asarray(stored).transpose(1, 0, 2) if orientation >= 5 else np.asarray(stored)
    flipped = flipped[::-1] if orientation in (3, 4, 7, 8) else flipped
    expected = flipped[:, ::-1] if orientation in (2, 3, 6, 7) else flipped
    check(file, expected, decoders, tmp_path)
    viewer = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(file))).convert("RGB"))
    # TensorFlow's JPEG decoder is a little less exact than Pillow's.
    assert np.abs(viewer.astype(int) - expected).max() <= 20 * (file_format == "JPEG")


def on_white(colour, alpha):
    return np.rint((colour * (alpha / 255) + (255 - alpha)).astype(np.float64)).astype(np.uint8)


@pytest.mark.parametrize("file_format", ["PNG", "TIFF", "WEBP"])
def test_what_is_transparent_lies_on_white(file_format, decoders, tmp_path):
    options = {"lossless": True, "exact": True} if file_format == "WEBP" else {}
    file = encoded(np.dstack([COLOUR, ALPHA]), file_format, **options)
    check(file, on_white(COLOUR, ALPHA[..., None].astype(float)), decoders, tmp_path)


def test_a_transparent_colour_of_a_palette_or_of_grey_is_white(decoders, tmp_path):
    palette = Image.fromarray(COLOUR).quantize(16)
    expected = np.asarray(palette.convert("RGB")).copy()
    expected[np.asarray(palette) == 3] = 255
    for file_format in ("PNG", "GIF"):
        file = encoded(palette, file_format, transparency=3)
        check(file, expected, decoders, tmp_path)
    expected = np.repeat(GREY[..., None], 3, -1).copy()
    expected[GREY == GREY[0, 0]] = 255
    file = encoded(GREY, "PNG", transparency=int(GREY[0, 0]))
    check(file, expected, decoders, tmp_path)
    both = Image.merge("LA", (Image.fromarray(GREY), Image.fromarray(ALPHA)))
    expected = on_white(np.repeat(GREY[..., None], 3, -1), ALPHA[..., None].astype(float))
    check(encoded(both, "PNG"), expected, decoders, tmp_path)


@pytest.mark.parametrize(
    ("file_format", "mode"),
    [
        *((name, mode) for name in ("BMP", "PNG", "TIFF") for mode in ("1", "L", "P", "RGB")),
        *(("GIF", mode) for mode in ("L", "P")),
        *(("PPM", mode) for mode in ("1", "L", "RGB")),
        ("TIFF", "CMYK"),
    ],
)
def test_every_kind_of_pixels_is_what_pillow_shows(file_format, mode, decoders, tmp_path):
    image = Image.fromarray(COLOUR)
    image = image.quantize(32) if mode == "P" else image.convert(mode)
    file = encoded(image, file_format)
    check(file, np.asarray(image.convert("RGB")), decoders, tmp_path)
    if mode in ("1", "L") and file_format != "GIF":
        (tmp_path / "file").write_bytes(file)
        assert read_header(str(tmp_path / "file")).grey
        found = decode(tf.constant(file), (16, 24, 1), None)
        np.testing.assert_array_equal(found[..., 0], np.asarray(image.convert("L")))


def test_jpeg_of_four_inks(decoders, tmp_path):
    file = encoded(Image.fromarray(COLOUR).convert("CMYK"), "JPEG", quality=95)
    viewer = np.asarray(Image.open(io.BytesIO(file)).convert("RGB"))
    check(file, viewer, decoders, tmp_path, tolerance=16)


@pytest.mark.parametrize("file_format", ["PNG", "TIFF", "PPM"])
def test_of_sixteen_bits_the_upper_eight_count(file_format, decoders, tmp_path):
    deep = _GENERATOR.integers(0, 65536, (16, 24)).astype(np.uint16)
    expected = np.repeat((deep >> 8).astype(np.uint8)[..., None], 3, -1)
    check(encoded(deep, file_format), expected, decoders, tmp_path)


@pytest.mark.parametrize(
    ("image", "kind"),
    [
        (Image.fromarray(GREY.astype(np.float32)), "F"),
        (Image.fromarray(GREY.astype(np.int32) * 9999), "I"),
    ],
)
def test_pixels_without_one_meaning_are_refused(image, kind):
    with pytest.raises(ValueError, match=f"of the kind {kind} .* convert it to 8 bits"):
        by_pillow(encoded(image, "TIFF"), 3)


@pytest.mark.parametrize("file_format", ["GIF", "PNG", "TIFF", "WEBP"])
def test_of_several_frames_the_first_counts(file_format, tmp_path):
    first, second = (Image.fromarray(COLOUR).quantize(8).convert("RGB"), Image.new("RGB", (24, 16)))
    options = {"lossless": True} if file_format == "WEBP" else {}
    file = encoded(first, file_format, save_all=True, append_images=[second], **options)
    (tmp_path / "file").write_bytes(file)
    assert read_header(str(tmp_path / "file")).frames
    found = decode(tf.constant(file), (16, 24, 3), None)
    np.testing.assert_array_equal(found, np.asarray(first))


@pytest.mark.parametrize("options", [{"quality": 70}, {"lossless": True}])
@pytest.mark.parametrize("layers", [COLOUR, np.dstack([COLOUR, ALPHA])])
def test_webp_is_the_same_in_training_and_in_a_graph(layers, options, decoders):
    file = encoded(layers, "WEBP", **options)
    in_training, in_graph = decoders
    np.testing.assert_array_equal(in_training(file), in_graph(file))


def exif_block(order, entries, offset=8, count=None):
    """A TIFF header and one directory of (tag, kind, value)."""
    mark = {"<": b"II", ">": b"MM"}[order]
    body = struct.pack(order + "H", len(entries) if count is None else count)
    for tag, kind, value in entries:
        body += struct.pack(order + "HHIHH", tag, kind, 1, value, 0)
    head = mark + struct.pack(order + "HI", 42, offset)
    return head + b"\0" * (offset - 8 if 8 <= offset < 64 else 0) + body


@settings(max_examples=80, deadline=None)
@given(
    order=st.sampled_from("<>"),
    entries=st.lists(
        st.tuples(st.sampled_from([0x010F, 0x0112, 0x0131]), st.just(3), st.integers(0, 9)),
        max_size=4,
    ),
    offset=st.sampled_from([8, 8, 8, 20, 0, 2**32 - 1]),
    count=st.sampled_from([None, None, 0, 65535]),
    cut=st.integers(0, 70),
    before=st.sampled_from([b"", b"\xff\xe0\x00\x10JFIF\0\1\1\0\0\1\0\1\0\0", b"\xff\xfe\0\4hi"]),
)
def test_exif_in_the_graph_is_exif_in_python(order, entries, offset, count, cut, before):
    whole = exif_block(order, entries, offset, count)
    block = whole[: max(10, len(whole) - cut)] if cut < 20 else whole
    segment = b"\xff\xe1" + struct.pack(">H", len(block) + 8) + b"Exif\0\0" + block
    # Nothing after the block, so that a directory that is cut off ends where the file does.
    found = int(_jpeg_orientation(b"\xff\xd8" + before + segment))
    assert found == exif_orientation(b"Exif\0\0" + block)
    values = [value for tag, _, value in entries if tag == 0x0112]
    if block == whole and offset in (8, 20) and count is None:
        first = values[0] if values else 1
        assert found == (first if 1 <= first <= 8 else 1)


_jpeg_orientation = tf.function(jpeg_orientation, [tf.TensorSpec((), tf.string)])
