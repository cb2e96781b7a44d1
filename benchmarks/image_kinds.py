"""Files of every kind that a server of images meets: sound, odd, damaged, hostile."""

import io
import struct
import zlib

import numpy as np
from PIL import Image

_SIDE = 28


def kinds():
    """{name: (bytes of a file, whether a student of grey images is served it)}."""
    chance = np.random.default_rng(0)
    rgb = Image.fromarray(chance.integers(0, 256, (_SIDE, _SIDE, 3)).astype("uint8"))
    rgba = Image.fromarray(chance.integers(0, 256, (_SIDE, _SIDE, 4)).astype("uint8"))
    grey = rgb.convert("L")
    frames = [
        Image.fromarray(chance.integers(0, 256, (_SIDE, _SIDE, 3)).astype("uint8"))
        for _ in range(4)
    ]
    return {
        **_jpegs(rgb, grey),
        **_pngs(rgb, rgba, grey, frames),
        **_webps(rgb, rgba, frames),
        **_others(rgb, rgba, grey, frames),
    }


def _file(image, file_format, **options):
    file = io.BytesIO()
    image.save(file, file_format, **options)
    return file.getvalue()


def _animation(frames, file_format, **options):
    rest = {"save_all": True, "append_images": frames[1:], "duration": 50}
    return _file(frames[0], file_format, **rest, **options)


def _jpegs(rgb, grey):
    plain, progressive = _file(rgb, "JPEG"), _file(rgb, "JPEG", progressive=True)
    exif = Image.Exif()
    exif[0x0112] = 6
    scan = progressive[progressive.rindex(b"\xff\xda") : -2]
    size = plain.index(b"\xff\xc0") + 5
    huge = plain[:size] + b"\xff\xff\xff\xff" + plain[size + 4 :]
    return {
        "JPEG": (plain, True),
        "JPEG, progressive": (progressive, True),
        "JPEG, grey": (_file(grey, "JPEG"), True),
        # TensorFlow's decoder makes no grey of it, and the student is one of grey images.
        "JPEG, CMYK": (_file(rgb.convert("CMYK"), "JPEG"), False),
        "JPEG, turned by EXIF": (_file(rgb, "JPEG", exif=exif), True),
        "JPEG, EXIF cut short": (_file(rgb, "JPEG", exif=b"Exif\0\0II*\0\x08\0\0\0\xff\xff"), True),
        "JPEG, one pixel": (_file(rgb.resize((1, 1)), "JPEG"), True),
        "JPEG, cut short": (plain[: len(plain) // 3], False),
        "JPEG, of 65535 x 65535 pixels": (huge, False),
        "JPEG, of 200 scans": (progressive[:-2] + scan * 200 + progressive[-2:], False),
        "JPEG, header alone": (plain[:4], False),
    }


def _chunk(name, data):
    checksum = struct.pack(">I", zlib.crc32(name + data))
    return struct.pack(">I", len(data)) + name + data + checksum


def _pngs(rgb, rgba, grey, frames):
    plain = _file(rgb, "PNG")
    exif = Image.Exif()
    exif[0x0112] = 3
    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    claims = plain[:8] + _chunk(b"IHDR", header) + plain[33:]
    late = plain[:8] + _chunk(b"tEXt", b"a\0b") + plain[8:]
    deep = Image.fromarray(np.arange(_SIDE * _SIDE, dtype="uint16").reshape(_SIDE, _SIDE) * 80)
    wrong = bytearray(plain)
    wrong[60] ^= 1
    return {
        "PNG": (plain, True),
        "PNG, alpha": (_file(rgba, "PNG"), True),
        "PNG, grey": (_file(grey, "PNG"), True),
        "PNG, palette": (_file(rgb.quantize(16), "PNG"), True),
        "PNG, palette with transparency": (_file(rgb.quantize(16), "PNG", transparency=3), True),
        "PNG, black and white": (_file(grey.convert("1"), "PNG"), True),
        "PNG, 16 bits": (_file(deep, "PNG"), True),
        "PNG, turned by EXIF": (_file(rgb, "PNG", exif=exif), True),
        "PNG, animated": (_animation(frames, "PNG"), True),  # its still image
        "PNG, a bit changed": (bytes(wrong), False),
        "PNG, cut short": (plain[:200], False),
        "PNG, of 60000 x 60000 pixels": (claims, False),
        "PNG, bomb": (_file(Image.new("L", (9000, 9000)), "PNG"), False),
        "PNG, header late": (late, False),
    }


def _webps(rgb, rgba, frames):
    lossless, lossy = _file(rgb, "WEBP", lossless=True), _file(rgb, "WEBP", quality=80)
    extended = _file(rgba, "WEBP", lossless=True, exact=True)
    unflagged = bytearray(_animation(frames, "WEBP", lossless=True))
    unflagged[20] &= ~2
    smaller = bytearray(extended)
    smaller[24] = 1  # the canvas, not the image
    long = bytearray(lossless)
    long[4:8] = b"\xff\xff\xff\xff"
    colours = [frame.convert("RGBA") for frame in frames]
    return {
        "WebP, lossy": (lossy, True),
        "WebP, lossless": (lossless, True),
        "WebP, alpha": (extended, True),
        "WebP, with EXIF": (_file(rgb, "WEBP", exif=b"Exif\0\0II*\0\x08\0\0\0\0\0"), True),
        "WebP, animated": (_animation(frames, "WEBP", lossless=True), False),
        "WebP, animated and lossy": (_animation(frames, "WEBP", quality=30), False),
        "WebP, animated with alpha": (_animation(colours, "WEBP", lossless=True), False),
        "WebP, animated without its flag": (bytes(unflagged), False),
        "WebP, canvas of another size": (bytes(smaller), False),
        "WebP, cut short": (lossless[: len(lossless) // 2], False),
        "WebP, length of 4 GB": (bytes(long), False),
        "WebP, image without its chunk": (lossless[:12] + lossless[20:], False),
    }


def _others(rgb, rgba, grey, frames):
    bitmap = _file(rgb, "BMP")
    return {
        "GIF": (_file(rgb, "GIF"), False),
        "GIF, animated": (_animation(frames, "GIF"), False),
        "BMP": (bitmap, False),
        "BMP, grey": (_file(grey, "BMP"), False),
        "BMP, negative height": (bitmap[:22] + struct.pack("<i", -_SIDE) + bitmap[26:], False),
        "BMP, of 2 billion rows": (bitmap[:22] + struct.pack("<i", 2**31 - 1) + bitmap[26:], False),
        "TIFF": (_file(rgb, "TIFF"), False),
        "ICO": (_file(rgba, "ICO"), False),
        "PPM": (_file(rgb, "PPM"), False),
        "JPEG XL": (b"\xff\x0a" + bytes(60), False),
        "AVIF": (b"\0\0\0\x1cftypavif" + bytes(60), False),
        "SVG": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", False),
        "nothing": (b"", False),
        "a byte": (b"\x89", False),
        "RIFF alone": (b"RIFF\xff\xff\xff\xff", False),
        "a sound": (b"RIFF\x24\0\0\0WAVEfmt " + bytes(40), False),
    }
