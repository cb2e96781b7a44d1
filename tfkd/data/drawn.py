"""Drawn images with exact boxes: cells in three kinds, and turned shapes in three kinds.

"cells" looks like a smear of blood under a microscope, made small: on a textured ground lie discs
(one colour, 16 to 22 pixels wide), rings (pale in the middle, 11 to 16) and dots (5 to 8), some on
top of each other, all under noise. "rotated_shapes" has bars, ellipses and rhombuses that are 1.8
to 3 times as long as they are wide, at any angle, over textures that are drawn too;
"rotated_shapes/rsscn7" lays them over crops of real aerial images (TFDS data set rsscn7), more
images and no aerial image in two splits.

A box is the smallest around the shape: upright around cells, along the long axis of turned shapes.
Everything follows from seed 0 by NumPy's frozen `RandomState`; there is no network and no file but
the aerial images.
"""

import functools

import numpy as np
from scipy.ndimage import gaussian_filter

SIZE = 64  # pixels a side
COUNTS = {"train": 192, "validation": 48, "test": 48}
COUNTS_OVER = {"train": 2000, "validation": 150, "test": 300}  # over given textures
CELLS = ("disc", "ring", "dot")
SHAPES = ("bar", "ellipse", "rhombus")
_WIDTHS = {"disc": (16, 22), "ring": (11, 16), "dot": (5, 8)}
_COLOURS = {"disc": (120, 70, 150), "ring": (200, 110, 110), "dot": (90, 60, 110)}
_MOST_COVERED = 0.2  # of a shape by the one before it, where a place is looked for


@functools.cache
def cells():
    """{split: (uint8 images (n, 64, 64, 3), list of label rows (boxes, 6))}; see `tfkd.boxes`."""
    return _splits(_cells, COUNTS, dict.fromkeys(COUNTS))


def rotated_shapes(textures=None):
    """The same of turned shapes.

    Args:
        textures: {split: uint8 images (n, 64 or more, 64 or more, 3)} to lay under them; by default
            they are drawn, and fewer.
    """
    if textures is None:
        return _splits(_shapes, COUNTS, dict.fromkeys(COUNTS))
    return _splits(_shapes, COUNTS_OVER, textures)


def _splits(draw, counts, textures):
    random = np.random.RandomState(0)
    found = {}
    for split, count in counts.items():
        made = [draw(random, _ground(random, textures[split])) for _ in range(count)]
        images = np.stack([image for image, _ in made])
        found[split] = images, [labels for _, labels in made]
    return found


def _ground(random, textures):
    if textures is None:
        rough = gaussian_filter(random.standard_normal((SIZE, SIZE, 3)), (2, 2, 0))
        smooth = gaussian_filter(random.standard_normal((SIZE, SIZE, 3)), (9, 9, 0))
        return 205 + 60 * rough + 250 * smooth
    image = textures[random.randint(len(textures))]
    top, left = (random.randint(side - SIZE + 1) for side in image.shape[:2])
    return image[top : top + SIZE, left : left + SIZE].astype(float)


def _cells(random, image):
    labels = []
    for _ in range(random.randint(3, 8)):
        kind = random.randint(len(CELLS))
        name = CELLS[kind]
        width, height = random.uniform(*_WIDTHS[name]) * random.uniform(0.92, 1.08, 2)
        place = _place(random, labels, width, height)
        if place is None:
            continue
        x, y = place
        across, down = _grid()
        distance = np.hypot((across - x) * 2 / width, (down - y) * 2 / height)
        inside = _soft((1 - distance) * min(width, height) / 2)
        shade = np.array(_COLOURS[name]) + random.uniform(-18, 18, 3)
        strength = np.where(distance < 0.55, 0.35, 1.0) if name == "ring" else 0.9
        image = image + (inside * strength)[..., None] * (shade - image)
        labels.append((x, y, width, height, 0.0, kind))
    return _finished(random, image), _rows(labels)


def _shapes(random, image):
    labels = []
    for _ in range(random.randint(2, 6)):
        kind = random.randint(len(SHAPES))
        height = random.uniform(7, 11)
        width, angle = height * random.uniform(1.8, 3), random.uniform(0, np.pi)
        place = _place(random, labels, width, width)
        if place is None:
            continue
        x, y = place
        across, down = _grid()
        across, down = across - x, down - y
        u = (across * np.cos(angle) + down * np.sin(angle)) * 2 / width
        v = (down * np.cos(angle) - across * np.sin(angle)) * 2 / height
        far = {
            "bar": np.maximum(np.abs(u), np.abs(v)),
            "ellipse": np.hypot(u, v),
            "rhombus": np.abs(u) + np.abs(v),
        }[SHAPES[kind]]
        inside = _soft((1 - far) * height / 2)
        shade = random.uniform(0, 255, 3)
        image = image + 0.9 * inside[..., None] * (shade - image)
        labels.append((x, y, width, height, angle, kind))
    return _finished(random, image), _rows(labels)


def _place(random, labels, width, height):
    """A centre inside of the image where little of what is there is covered; None after 20."""
    for _ in range(20):
        x = random.uniform(width / 2, SIZE - width / 2)
        y = random.uniform(height / 2, SIZE - height / 2)
        covered = [_covered(x, y, width, height, label) for label in labels]
        if all(share <= _MOST_COVERED for share in covered):
            return x, y
    return None


def _covered(x, y, width, height, label):
    """The share of the smaller of two upright boxes that lies in the other."""
    shared = 1.0
    for own, size, other, side in ((x, width, *label[0:3:2]), (y, height, *label[1:4:2])):
        shared *= max(
            0.0, min(own + size / 2, other + side / 2) - max(own - size / 2, other - side / 2)
        )
    return shared / min(width * height, label[2] * label[3])


def _grid():
    middles = np.arange(SIZE) + 0.5
    return np.meshgrid(middles, middles)


def _soft(distance):
    """From how far inside of an edge a pixel lies to how much of it is covered."""
    return np.clip(distance + 0.5, 0, 1)


def _finished(random, image):
    noisy = image + 15 * random.standard_normal(image.shape)
    return np.clip(np.rint(noisy), 0, 255).astype(np.uint8)


def _rows(labels):
    return np.array(labels, np.float32).reshape(-1, 6)
