import io
import struct
import time
import zlib

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageOps

from tfkd.data.images import decode
from tfkd.data.resizing import RULES
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
    on_white = (picture.astype(int) * 99 + 255 * (255 - 99) + 127) // 255
    files = {
        "PNG": (encoded(picture, "PNG"), picture),
        "WebP": (encoded(picture, "WEBP", lossless=True), picture),
        "transparent PNG": (encoded(alpha, "PNG"), on_white),
        # An extended header, VP8X.
        "transparent WebP": (encoded(alpha, "WEBP", lossless=True, exact=True), on_white),
    }
    decoded = decoder([file for file, _ in files.values()]).numpy()
    for name, found, (_, shown) in zip(files, decoded, files.values(), strict=True):
        np.testing.assert_array_equal(found, shown, err_msg=name)


@pytest.mark.parametrize("rule", RULES)
def test_an_odd_aspect_is_resized_by_the_rule_of_training(picture, rule):
    for turn, file_format in enumerate(["JPEG", "PNG"]):
        odd = np.rot90(np.kron(picture, np.ones((1, 5, 1), "uint8")), turn)  # 16x100, 100x16
        file = encoded(odd, file_format)
        (found,) = decode_batch(tf.constant([file]), (16, 20, 3), rule=rule).numpy()
        np.testing.assert_array_equal(found, decode(tf.constant(file), (16, 20, 3), rule))
        stretched = decode(tf.constant(file), (16, 20, 3), "stretch").numpy()
        assert np.array_equal(found, stretched) == (rule == "stretch")


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP"])
def test_any_size_is_decoded_and_resized_as_training_data_is(decoder, picture, file_format):
    large = encoded(np.kron(picture, np.ones((3, 2, 1), "uint8")), file_format)
    found = decoder([large]).numpy()[0]
    np.testing.assert_array_equal(found, decode(tf.constant(large), (16, 20, 3), "stretch"))


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


def frames(picture, file_format, count=3, **options):
    """An animation of noise, which none of its frames repeats."""
    generator = np.random.default_rng(1)
    pictures = [Image.fromarray(picture)]
    for _ in range(count - 1):
        noise = generator.integers(0, 256, picture.shape).astype("uint8")
        pictures.append(Image.fromarray(noise))
    file = io.BytesIO()
    rest = {"save_all": True, "append_images": pictures[1:], "duration": 50}
    pictures[0].save(file, file_format, **rest, **options)
    return file.getvalue()


@pytest.mark.parametrize("count", [2, 7])
@pytest.mark.parametrize("alpha", [False, True])
@pytest.mark.parametrize("options", [{"lossless": True}, {"quality": 50}, {"minimize_size": True}])
def test_an_animated_webp_is_refused_by_its_header(decoder, picture, count, alpha, options):
    pixels = np.dstack([picture, picture[..., :1]]) if alpha else picture
    file = frames(pixels, "WEBP", count, **options)
    for cut in (len(file), 40, 21):  # the flag is in the 21st byte
        with pytest.raises(tf.errors.InvalidArgumentError, match="is animated"):
            decoder([file[:cut]])


def test_an_animation_without_its_flag_is_refused_by_the_decoder(decoder, picture):
    file = bytearray(frames(picture, "WEBP", lossless=True))
    file[20] &= ~2
    with pytest.raises(tf.errors.InvalidArgumentError):
        decoder([bytes(file)])


def test_of_an_animated_png_the_still_image_is_taken(decoder, picture):
    file = frames(picture, "PNG")
    assert Image.open(io.BytesIO(file)).n_frames == 3
    np.testing.assert_array_equal(decoder([file]).numpy()[0], picture)


def test_a_size_that_does_not_stand_where_the_decoder_reads_it_is_refused(decoder, picture):
    lossless = encoded(picture, "WEBP", lossless=True)
    bare = lossless[:12] + lossless[20:]  # the image without the head of its chunk
    late = png(20, 16)
    text = b"\0\0\0\x04tEXtabcd" + struct.pack(">I", zlib.crc32(b"tEXtabcd"))
    late = late[:8] + text + late[8:]  # a chunk before the header
    lossy = bytearray(encoded(picture, "WEBP", quality=80))
    lossy[23] = 0  # no start code
    other = lossless[:12] + b"ALPH" + lossless[16:]
    for file in (bare, late, bytes(lossy), other):
        with pytest.raises(tf.errors.InvalidArgumentError, match="header"):
            decoder([file])


def test_a_jpeg_of_endless_scans_is_refused(decoder, picture):
    file = encoded(picture, "JPEG", progressive=True)
    start = file.rindex(b"\xff\xda")
    scans = file.count(b"\xff\xda")
    last, end = file[start:-2], file[-2:]
    accepted = file[:start] + last * (65 - scans) + end
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"\[65\] \[scans; at most 64"):
        decoder([file[:start] + last * (66 - scans) + end])
    try:
        decoder([accepted])
    except tf.errors.InvalidArgumentError as error:
        assert "scans" not in str(error)


TURNED = {
    2: lambda pixels: pixels[:, ::-1],
    3: lambda pixels: pixels[::-1, ::-1],
    4: lambda pixels: pixels[::-1],
    5: lambda pixels: pixels.transpose(1, 0, 2),
    6: lambda pixels: np.rot90(pixels, -1),
    7: lambda pixels: pixels[::-1, ::-1].transpose(1, 0, 2),
    8: lambda pixels: np.rot90(pixels, 1),
}


def exif(orientation, big_endian=False, kind=3):
    """An EXIF block by hand, with other tags before and behind the orientation."""
    order = ">" if big_endian else "<"
    value = (orientation, 0) if kind == 3 else (0, orientation)
    entries = [struct.pack(f"{order}HHII", 0x010F, 2, 4, 0x41414100)]
    entries += [struct.pack(f"{order}HHIHH", 0x0112, kind, 1, *value)]
    entries += [struct.pack(f"{order}HHII", 0x0128, 4, 1, 2)]
    head = (b"MM" if big_endian else b"II") + struct.pack(f"{order}HI", 42, 8)
    return head + struct.pack(f"{order}H", len(entries)) + b"".join(entries) + b"\0" * 4


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("file_format", ["PNG", "WEBP", "JPEG"])
def test_images_are_turned_upright_as_pillow_turns_them(orientation, file_format):
    stored = np.random.default_rng(orientation).integers(0, 256, (12, 12, 3)).astype("uint8")
    options = {"lossless": True} if file_format == "WEBP" else {}
    plain = decode_batch(tf.constant([encoded(stored, file_format, **options)]), (12, 12, 3))
    expected = TURNED.get(orientation, lambda pixels: pixels)(plain[0].numpy())
    for big_endian in (False, True):
        block = exif(orientation, big_endian)
        file = encoded(stored, file_format, exif=b"Exif\0\0" + block, **options)
        found = decode_batch(tf.constant([file]), (12, 12, 3)).numpy()[0]
        np.testing.assert_array_equal(found, expected)
        if file_format != "JPEG":
            turned = ImageOps.exif_transpose(Image.open(io.BytesIO(file)))
            np.testing.assert_array_equal(found, np.asarray(turned.convert("RGB")))


def test_a_turned_photograph_is_resized_after_it_was_turned(decoder, picture):
    wide = np.kron(picture, np.ones((2, 3, 1), "uint8"))  # (32, 60)
    file = encoded(np.rot90(wide, 1), "PNG", exif=b"Exif\0\0" + exif(6))
    upright = encoded(wide, "PNG")
    np.testing.assert_array_equal(decoder([file]), decoder([upright]))


def segment(marker, content):
    return bytes([0xFF, marker]) + struct.pack(">H", len(content) + 2) + content


def test_only_the_orientation_of_the_files_own_exif_counts(decoder, picture):
    jpeg = encoded(picture, "JPEG")
    upright = decoder([jpeg]).numpy()[0]
    mirrored = upright[:, ::-1]
    mark = b"Exif\0\0"
    block = segment(0xE1, mark + exif(2))
    half_turn = segment(0xE1, mark + exif(3))
    xmp = segment(0xE1, b'http://ns.adobe.com/xap/1.0/\0<x tiff:Orientation="3"/>')
    start, rest = jpeg[:2], jpeg[2:]
    for name, file, expected in [
        ("the first block", start + block + half_turn + rest, mirrored),
        ("behind other segments", start + segment(0xFE, b"text" * 99) + block + rest, mirrored),
        ("behind XMP", start + xmp + block + rest, mirrored),
        ("XMP alone", start + xmp + rest, upright),
        ("a comment", start + segment(0xFE, mark + exif(2)) + rest, upright),
        ("a second image behind", jpeg + start + block + rest, upright),
        ("nonsense", start + segment(0xE1, mark + exif(77)) + rest, upright),
        ("zero", start + segment(0xE1, mark + exif(0)) + rest, upright),
        ("another type", start + segment(0xE1, mark + exif(2, True, 4)) + rest, upright),
        ("cut short", start + segment(0xE1, mark + exif(2)[:15]) + rest, upright),
        ("no TIFF", start + segment(0xE1, mark + b"\xff" * 40) + rest, upright),
        ("nothing", start + segment(0xE1, mark) + rest, upright),
    ]:
        np.testing.assert_array_equal(decoder([file]).numpy()[0], expected, name)


def test_truncated_and_foreign_bytes_are_refused(decoder, picture):
    whole = {name: encoded(picture, name) for name in ("PNG", "JPEG", "WEBP")}
    bad = [b"", b"junk", encoded(picture, "GIF"), encoded(picture, "BMP"), b"<svg/>"]
    bad += [frames(picture, "GIF"), frames(picture, "TIFF"), encoded(picture, "TIFF")]
    bad += [b"\xff\x0a" + bytes(40), b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(40)]  # JPEG XL
    bad += [b"RIFF", b"RIFF\xff\xff\xff\xffWEBP", b"RIFF\x10\0\0\0WAVEfmt "]
    bad += [file[:cut] for file in whole.values() for cut in (3, 11, 12, 16, 40, len(file) // 2)]
    for file in bad:
        with pytest.raises(tf.errors.InvalidArgumentError):
            decoder([whole["PNG"], file])
