"""Built-in pictures with more than one class each: groups of digits, and shapes with masks.

They are made anew each time, the same on every machine: `RandomState`'s streams are frozen by
NumPy's policy (NEP 19).
"""

import numpy as np
from sklearn.datasets import load_digits

from tfkd.data.splits import divide

GROUP_SIZES = {"train": 1200, "validation": 200, "test": 400}
SHAPE_SIZES = {"train": 600, "validation": 100, "test": 200}
SHAPE_NAMES = ("background", "disk", "square", "triangle")
_CELLS, _PRESENT = 4, 0.5  # of a picture of digits
_SIDE, _MOST = 32, 2  # pixels of a picture of shapes, and how many there are at most


def digit_groups():
    """Up to four of scikit-learn's digits in one picture, labelled by which digits are there.

    A picture has four places of 8 x 8 pixels, each empty or with a digit. Pictures of a split show
    digits of that split of "digits" alone.

    Returns:
        {role: (images uint8 (n, 16, 16, 1), labels uint8 (n, 10), 1 for each digit there)}.
    """
    digits = load_digits()
    pixels = np.rint(digits.images * (255 / 16)).astype(np.uint8)
    parts, arrays = divide({"train": digits.target}, "digits"), {}
    for number, (role, count) in enumerate(GROUP_SIZES.items()):
        random = np.random.RandomState(number)
        own = parts[role].indices[random.randint(0, len(parts[role].indices), (count, _CELLS))]
        there = random.rand(count, _CELLS) < _PRESENT
        there[~there.any(axis=1), 0] = True
        cells = pixels[own] * there[..., None, None]
        rows = cells.reshape(count, 2, 2, 8, 8).transpose(0, 1, 3, 2, 4)
        labels = np.zeros((count, 10), np.uint8)
        pictures, places = np.nonzero(there)
        labels[pictures, digits.target[own[pictures, places]]] = 1
        arrays[role] = rows.reshape(count, 16, 16, 1).astype(np.uint8), labels
    return arrays


def shapes():
    """Disks, squares and triangles of any colour on noise, with the class of each pixel.

    Returns:
        {role: (images uint8 (n, 32, 32, 3), masks uint8 (n, 32, 32), `SHAPE_NAMES`)}.
    """
    random, arrays = np.random.RandomState(0), {}
    for role, count in SHAPE_SIZES.items():
        images = np.empty((count, _SIDE, _SIDE, 3))
        images[:] = random.uniform(0, 255, (count, 1, 1, 3))
        masks = np.zeros((count, _SIDE, _SIDE), np.uint8)
        for number in range(_MOST):
            kinds = random.randint(1, len(SHAPE_NAMES), count)
            inside = _inside(kinds, *random.uniform((7, 7, 6), (25, 25, 10), (count, 3)).T)
            inside &= (random.rand(count) < (1.0 if number == 0 else 0.5))[:, None, None]
            colours = random.uniform(0, 255, (count, 1, 1, 3))
            images = np.where(inside[..., None], colours, images)
            masks = np.where(inside, kinds[:, None, None], masks).astype(np.uint8)
        images += random.normal(0, 15, images.shape)
        arrays[role] = np.clip(np.rint(images), 0, 255).astype(np.uint8), masks
    return arrays


def _inside(kinds, top, left, radius):
    """Which pixels each shape covers: bool (count, side, side).

    Args:
        kinds: number of the shape's class, (count,).
        top, left, radius: of its middle, and its size, in pixels, (count,).
    """
    rows, columns = np.mgrid[:_SIDE, :_SIDE]
    down = rows - top[:, None, None]
    across = np.abs(columns - left[:, None, None])
    size, kinds = radius[:, None, None], kinds[:, None, None]
    disk = down**2 + across**2 <= size**2
    square = np.maximum(np.abs(down), across) <= 0.85 * size
    triangle = (down <= 0.7 * size) & (down >= -size + 1.9 * across)
    return np.where(kinds == 1, disk, np.where(kinds == 2, square, triangle))
