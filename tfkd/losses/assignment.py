"""Which label each candidate of a detector is to find: by overlap, or by position."""

import math

import keras
import numpy as np
from keras import ops

from tfkd import boxes

# Overlap (IoU) with an anchor from which an object is one to find, and below which it is ground.
# RetinaNet's are 0.5 and 0.4, with nine anchors a position; the detectors here have two.
POSITIVE, NEGATIVE = 0.4, 0.3
SECOND_LOOK = 0.5  # the same of a second stage, whose proposals lie well already
FOUND, GROUND, IGNORED = 1, -1, -2

# A box belongs to the cells around its centre, on the level where it is so many cells large.
RADIUS = 1.5
CELLS = 4.0
_EVEN = 1e-3  # of logarithms of sizes: levels that fit a box as well


def assign(kind, reference, labels, distributions):
    """The label that each candidate is to find.

    Args:
        kind: shape (batch, rows).
        reference: shape (batch, rows, 4).
        labels: shape (batch, boxes, 6), see `tfkd.boxes`.
        distributions: whether references are cells whose sides are distributions.

    Returns:
        (the label of each row (batch, rows, 6), which means something where the second is 1;
        1 for an object, -1 for the ground, -2 for what is neither (batch, rows)).
    """
    if distributions:
        index, match = by_position(reference, labels)
    else:
        index, match = by_overlap(kind, reference, labels)
    return ops.take_along_axis(labels, index[..., None], axis=1), match


def by_overlap(kind, reference, labels):
    """The label that overlaps a reference most.

    As in RetinaNet (Lin et al. 2017, arXiv:1708.02002) and, for a second look, in Faster R-CNN (Ren
    et al. 2015, arXiv:1506.01497). Before a second look the references that overlap a label most
    are to find that label, however little that is (Ren et al., section 3.1.2): the small and the
    long objects would be ground otherwise.

    Returns:
        (its index int32, 1 / -1 / -2), each (batch, rows).
    """
    import keras_hub  # takes seconds, and is an extra

    first = keras_hub.layers.BoxMatcher([NEGATIVE, POSITIVE], [GROUND, IGNORED, FOUND])
    second = keras_hub.layers.BoxMatcher([SECOND_LOOK], [GROUND, FOUND])
    overlaps = keras.utils.bounding_boxes.compute_iou(
        reference, boxes.corners(labels), bounding_box_format=boxes.FORMAT
    )
    overlaps = ops.where(_known(labels), overlaps, -1.0)
    index, match = first(overlaps)
    anchors = ops.equal(kind, boxes.DETECTION) | ops.equal(kind, boxes.PROPOSAL)
    best = _best(ops.where(anchors[..., None], overlaps, -1.0))
    is_best = ops.any(best, axis=-1)
    index = ops.where(is_best, ops.cast(ops.argmax(best, axis=-1), "int32"), index)
    match = ops.where(is_best, FOUND, match)
    return index, ops.where(ops.equal(kind, boxes.SECOND_LOOK), second(overlaps)[1], match)


def _best(overlaps):
    """Which rows overlap a label most, all that are alike, (batch, rows, boxes)."""
    most = ops.max(overlaps, axis=1, keepdims=True)
    return ops.greater(most, 0.0) & ops.greater_equal(overlaps, most - 1e-5)


def by_position(reference, labels):
    """The smallest label around whose centre a cell lies, on the level of the label's size.

    After FCOS (Tian et al. 2019, arXiv:1904.01355), whose levels go by the longest distance to a
    side; here they go by the square root of the area.

    Returns:
        (its index int32, 1 or -1), each (batch, rows).
    """
    x, y, unit = (part[..., None] for part in boxes.centres(reference))
    label = labels[:, None]
    along, across = boxes.in_frame(x, y, label)
    width, height = label[..., 2], label[..., 3]
    near = ops.maximum(ops.abs(along), ops.abs(across)) < RADIUS * unit
    inside = (2 * ops.abs(along) < width) & (2 * ops.abs(across) < height)
    known = _known(labels)
    area = ops.where(known, width * height, 1.0)
    # Rows without meaning have no width: they are as far from every size as can be.
    wanted = ops.log(area) / 2 - math.log(CELLS)
    apart = ops.abs(ops.log(ops.maximum(unit, 1e-9)) - wanted)
    level = apart <= ops.min(apart, axis=1, keepdims=True) + _EVEN
    area = ops.where(near & inside & level & known, area, math.inf)
    found = ops.isfinite(ops.min(area, axis=-1))
    return ops.cast(ops.argmin(area, axis=-1), "int32"), ops.where(found, FOUND, GROUND)


def reach(labels, levels):
    """How far a side lies from a cell that `by_position` gives its box to, at most, in cells.

    Bins of distributions have to reach as far, or the sides beyond are cut.

    Args:
        labels: of one or several images, shape (..., 6); padding counts for nothing.
        levels: numbers of the pyramid's levels, from the finest.

    Returns:
        float; 0 without any box.
    """
    rows = np.asarray(labels, float).reshape(-1, boxes.COLUMNS)
    sides = rows[rows[:, boxes.CLASS] >= 0, 2:4]
    cells = 2.0 ** np.array(levels)
    wanted = np.log(sides.prod(axis=1)) / 2 - math.log(CELLS)
    apart = np.abs(np.log(cells) - wanted[:, None])
    finest = np.argmax(apart <= apart.min(axis=1, keepdims=True) + _EVEN, axis=1)
    half = sides.max(axis=1) / 2 / cells[finest]
    return float(np.max(half + np.minimum(half, RADIUS), initial=0.0))


def _known(labels):
    """Whether rows hold a box, (batch, 1, boxes)."""
    return ops.greater_equal(labels[..., boxes.CLASS], 0)[:, None]
