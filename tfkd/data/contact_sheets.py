"""Pictures of each class on one sheet."""

import os

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from tfkd.files import written

CLASSES_SHOWN = 100
_SMALLEST_SIDE = 64  # smaller images are shown several times as large, pixel by pixel
_GAP, _FONT_SIZE, _WIDEST_NAME = 6, 14, 240


def contact_sheet(samples, path):
    """Draws some images of each class, a row a class, small ones a whole number of times larger.

    Args:
        samples: {class name: list of uint8 arrays (height, width, 1 or 3)}, of one size, as
            `tfkd.data.inspect` gives them; the first 100 classes are drawn.
        path: of the PNG to write; written beside and renamed.

    Returns:
        `PIL.Image.Image`, the sheet.

    Raises:
        ValueError: there is no image.
    """
    import matplotlib  # which takes its time, and is for the font alone

    shown = {name: some for name, some in samples.items() if some}
    if not shown:
        raise ValueError("There is no image to draw a contact sheet of.")
    shown = dict(list(shown.items())[:CLASSES_SHOWN])
    height, width = next(iter(shown.values()))[0].shape[:2]
    times = max(1, -(-_SMALLEST_SIDE // min(height, width)))
    row, column = height * times + _GAP, width * times + _GAP
    # matplotlib's, for it knows more letters than Pillow's.
    font = ImageFont.truetype(
        os.path.join(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf"), _FONT_SIZE
    )
    names = {name: _fitting(name, font) for name in shown}
    left = int(max(font.getlength(text) for text in names.values())) + 2 * _GAP
    columns = max(len(some) for some in shown.values())
    sheet = Image.new("RGB", (left + columns * column, len(shown) * row + _GAP), "white")
    draw = ImageDraw.Draw(sheet)
    for line, (name, some) in enumerate(shown.items()):
        top = _GAP + line * row
        middle = top + height * times // 2
        draw.text((_GAP, middle), names[name], fill="black", font=font, anchor="lm")
        for place, image in enumerate(some):
            large = np.kron(image, np.ones((times, times, 1), np.uint8))
            colour = np.broadcast_to(large, (*large.shape[:2], 3))
            sheet.paste(Image.fromarray(np.ascontiguousarray(colour)), (left + place * column, top))
    with written(path) as partial:
        sheet.save(partial, "PNG")
    return sheet


def _fitting(name, font):
    """A class's name, its end left out where it is too long."""
    if font.getlength(name) <= _WIDEST_NAME:
        return name
    while font.getlength(name + "…") > _WIDEST_NAME:
        name = name[:-1]
    return name + "…"
