import io
import struct
import time
import zlib

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from tfkd.data.images import decode
from tfkd.export.images import decode_batch


@pytest.fixture(scope="module")
def decoder():
    @tf.function(input_signature=[tf.TensorSpec((None,), tf.string)], autograph=False)
    def decode_all(encoded):
        return decode_batch(encoded, (16, 20, 3))

    return decode_all


@pytest.fixture(scope="module")
def picture():
    return np.random.default_rng(0).integers(0, 256, (16, 20, 3)).astype("uint8")


def encoded(pixels, file_format, **options):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, file_format, **options)
    return file.getvalue()


def png(width, height):
    """A PNG file whose header claims any size; it holds no pixels."""

    def chunk(name, data):
        return (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    empty = zlib.compress(b"")
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", empty) + chunk(b"IEND", b"")
    )


def test_lossless_files_of_the_right_size_give_their_pixels(decoder, picture):
    alpha = np.dstack([picture, np.full((16, 20), 99, "uint8")])
    files = [
        encoded(picture, "PNG"),
        encoded(picture, "WEBP", lossless=True),
        encoded(alpha, "PNG"),
    ]
    files.append(encoded(alpha, "WEBP", lossless=True, exact=True))  # an extended header, VP8X
    for found in decoder(files).numpy():
        np.testing.assert_array_equal(found, picture)


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP"])
def test_any_size_is_decoded_and_resized_as_training_data_is(decoder, picture, file_format):
    large = encoded(np.kron(picture, np.ones((3, 2, 1), "uint8")), file_format)
    found = decoder([large]).numpy()[0]
    np.testing.assert_array_equal(found, decode(tf.constant(large), (16, 20, 3), resized=True))


def test_grey_students_get_grey_pixels(picture):
    grey = picture[..., :1]
    files = [encoded(grey[..., 0], "PNG"), encoded(np.repeat(grey, 3, -1), "WEBP", lossless=True)]
    for found in decode_batch(tf.constant(files), (16, 20, 1)).numpy():
        np.testing.assert_allclose(found, grey, atol=1)


@pytest.mark.parametrize(
    "claimed",
    [(0, 0), (0, 9), (5001, 5000), (2**31, 2**31), (2**32 - 1, 1), (2**32 - 1, 2**32 - 1)],
)
def test_a_bomb_or_an_empty_image_is_refused_before_it_is_decoded(decoder, claimed):
    start = time.process_time()
    with pytest.raises(tf.errors.InvalidArgumentError, match="at most 25000000 pixels"):
        decoder([png(*claimed)])
    assert time.process_time() - start < 1.0


def test_a_real_bomb_costs_no_time(decoder):
    bomb = encoded(np.zeros((9000, 9000), "uint8"), "PNG")
    assert len(bomb) < 100_000
    start = time.process_time()
    for _ in range(20):
        with pytest.raises(tf.errors.InvalidArgumentError, match=r"\[9000 9000\]"):
            decoder([bomb])
    assert time.process_time() - start < 1.0


@pytest.mark.parametrize("limit, accepted", [(320, True), (319, False)])
@pytest.mark.parametrize("options", [{"lossless": True}, {"quality": 80}, {"exact": True}])
def test_the_size_in_a_webp_header_is_read_right(picture, limit, accepted, options):
    pixels = picture
    if "exact" in options:
        pixels = np.dstack([picture, np.full((16, 20), 99, "uint8")])
    file = tf.constant([encoded(pixels, "WEBP", **options)])
    if accepted:
        assert decode_batch(file, (16, 20, 3), limit).shape == (1, 16, 20, 3)
    else:
        with pytest.raises(tf.errors.InvalidArgumentError, match="16,? 20"):
            decode_batch(file, (16, 20, 3), limit)


def test_truncated_and_foreign_bytes_are_refused(decoder, picture):
    whole = {name: encoded(picture, name) for name in ("PNG", "JPEG", "WEBP")}
    bad = [b"", b"junk", encoded(picture, "GIF"), encoded(picture, "BMP"), b"<svg/>"]
    bad += [file[:cut] for file in whole.values() for cut in (3, 11, 12, 16, 40, len(file) // 2)]
    for file in bad:
        with pytest.raises(tf.errors.InvalidArgumentError):
            decoder([whole["PNG"], file])
