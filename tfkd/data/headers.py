"""What an image file says of itself in its first bytes: size, colour, frames; no pixel is decoded.

JPEG and PNG, which nearly all files are, are read here; Pillow reads the rest.
"""

import os
import struct
from typing import NamedTuple

from tfkd.data.images import ALPHA_MODES, check_pixels, open_by_pillow, reason
from tfkd.data.orientation import exif_orientation

GREY_MODES = {"1", "L", "I;16", "I;16B", "I;16L"}
_FIRST_BYTES, _LAST_BYTES = 4096, 64
_LFS = b"version https://git-lfs"
_TIFF_TAGS = {"width": 256, "height": 257, "orientation": 274}
_TIFF_PARTS = ((273, 279), (324, 325))  # offsets and sizes of strips, of tiles


class Header(NamedTuple):
    """What is known of an image before it is decoded.

    Attributes:
        height, width: as a viewer shows it, turned by its EXIF orientation.
        grey: whether it holds one channel and no transparency by its file format.
        frames: whether it is an animation or holds several pages.
        doubtful: whether it looks cut off, or is of a rare kind: to be decoded to know.
    """

    height: int
    width: int
    grey: bool
    frames: bool
    doubtful: bool


def conversions(path):
    """How a file's pixels become eight bits a channel in grey or colour, upright: list of str.

    Raises:
        Whatever Pillow's readers raise for a broken file.
    """
    with open_by_pillow(os.fsdecode(path)) as image:
        exif = image.info.get("exif", b"")
        orientation = exif_orientation(exif)
        if image.format == "TIFF":
            orientation = image.tag_v2.get(_TIFF_TAGS["orientation"], 1)
        layout = " ".join(str(tile[3]) for tile in image.tile)
        kinds = ("PNG", "PPM", "TIFF")
        deep = image.mode[0] == "I" or (image.format in kinds and "16" in layout)
        found = {
            "16 bits a channel: the upper 8 count": deep,
            "transparent: laid on white": image.mode in ALPHA_MODES or "transparency" in image.info,
            "palette: its colours": image.mode in ("P", "PA"),
            "CMYK: RGB": image.mode == "CMYK",
            "turned by its EXIF orientation": 1 < orientation <= 8,
            "several frames or pages: the first": getattr(image, "n_frames", 1) > 1,
        }
        return [text for text, applies in found.items() if applies]


class _More(Exception):
    """The header is longer than the bytes read so far."""


class _Unusual(Exception):
    """No plain JPEG or PNG: Pillow is asked."""


def read_header(path):
    """The `Header` of a file.

    Args:
        path: str or bytes.

    Raises:
        ValueError: for what is no image, with the reason but not the file's name.
        OSError: for a file that cannot be opened.
    """
    file = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
    try:
        size = os.fstat(file).st_size
        start = os.read(file, _FIRST_BYTES)
        if not start:
            raise ValueError("the file is empty")
        end = start
        if size > len(start):
            os.lseek(file, max(0, size - _LAST_BYTES), os.SEEK_SET)
            end = os.read(file, _LAST_BYTES)
        try:
            try:
                found = _parsed(start, end)
            except _More:
                os.lseek(file, 0, os.SEEK_SET)
                found = _parsed(_whole(file), end, whole=True)
        except (_More, _Unusual):
            found = _pillows(path, start, size)
    finally:
        os.close(file)
    check_pixels(found.height, found.width)
    return found


def _whole(file):
    parts = []
    while part := os.read(file, 2**20):
        parts.append(part)
    return b"".join(parts)


def _parsed(data, end, whole=False):
    if data.startswith(b"\xff\xd8\xff"):
        return _jpeg(data, b"\xff\xd9" not in end)
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return _png(data, b"IEND" not in end)
    raise _Unusual


def _jpeg(data, doubtful):
    position, orientation, early = 2, 1, True
    while True:
        if position + 18 > len(data):
            raise _More
        if data[position] != 0xFF:
            raise _Unusual
        marker = data[position + 1]
        length = data[position + 2] * 256 + data[position + 3]
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            precision, height, width, channels = struct.unpack_from(">BHHB", data, position + 4)
            doubtful = doubtful or marker > 0xC2 or precision != 8
            if orientation >= 5:
                height, width = width, height
            return Header(height, width, channels == 1, False, doubtful)
        if marker in (0xD8, 0xD9, 0xDA, 0xFF) or length < 2:
            raise _Unusual
        # EXIF counts before anything but application segments and comments, as in the graph.
        early = early and (0xE0 <= marker <= 0xEF or marker == 0xFE)
        if marker == 0xE1 and early and data[position + 4 : position + 10] == b"Exif\0\0":
            if position + 2 + length > len(data):
                raise _More
            orientation = exif_orientation(data[position + 10 : position + 2 + length])
            early = False
        position += 2 + length


def _png(data, doubtful):
    if len(data) < 33 or data[12:16] != b"IHDR":
        raise _Unusual
    width, height, _, colour = struct.unpack_from(">IIBB", data, 16)
    position, orientation, frames = 33, 1, False
    while True:
        if position + 8 > len(data):
            raise _More
        (length,), kind = (
            struct.unpack_from(">I", data, position),
            data[position + 4 : position + 8],
        )
        if kind in (b"IDAT", b"IEND"):
            break
        frames = frames or kind == b"acTL"
        if kind == b"eXIf":
            if position + 8 + length > len(data):
                raise _More
            orientation = exif_orientation(data[position + 8 : position + 8 + length])
        position += 12 + length
    if orientation >= 5:
        height, width = width, height
    return Header(height, width, colour == 0, frames, doubtful)


def _pillows(path, start, size):
    """The header by Pillow: of the rarer formats, and of broken files, with the reason."""
    if start.startswith(_LFS):
        raise ValueError("it is Git LFS's pointer, not the image itself: run `git lfs pull`")
    try:
        with open_by_pillow(os.fsdecode(path)) as image:
            height, width = image.height, image.width
            frames = bool(getattr(image, "is_animated", False))
            doubtful = image.format in ("JPEG", "PNG")
            orientation = exif_orientation(image.info.get("exif", b""))
            if image.format == "TIFF":
                tags = image.tag_v2
                height, width = tags[_TIFF_TAGS["height"]], tags[_TIFF_TAGS["width"]]
                orientation = tags.get(_TIFF_TAGS["orientation"], 1)
                for offsets, sizes in _TIFF_PARTS:
                    parts = zip(tags.get(offsets, ()), tags.get(sizes, ()), strict=False)
                    doubtful |= any(offset + count > size for offset, count in parts)
            elif image.format == "WEBP":
                doubtful = int.from_bytes(start[4:8], "little") + 8 > size
            elif image.format == "GIF":
                with open(path, "rb") as file:
                    file.seek(-1, os.SEEK_END)
                    doubtful = file.read() != b";"
            elif image.format in ("BMP", "PPM"):
                pixels = image.tile[0][2] + height * width * len(image.getbands())
                told = int.from_bytes(start[2:6], "little") if image.format == "BMP" else 0
                doubtful = size < max(pixels, told)
            if orientation in (5, 6, 7, 8):
                height, width = width, height
            return Header(height, width, image.mode in GREY_MODES, frames, doubtful)
    except Exception as error:  # bytes of strangers: Pillow's readers raise nearly anything
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise ValueError(reason(error)) from error
