"""Boxes as tensors: labels, and the table of candidates that every detector gives.

**Labels** of an image are rows of six numbers, shape (boxes, 6): centre x, centre y, width, height
(pixels), angle (radians, from the x axis towards y, 0 for upright boxes) and class. Rows of images
with fewer boxes are filled with -1.

**Candidates** are what a detector gives, shape (batch, rows, 5 + classes + regression):

    kind        1 a detection; 2 one of a second stage, which looked at a proposal; 0 a proposal of
                a first stage, whose first logit says whether there is any object and whose other
                logits say nothing; -1 a row without meaning
    x1 y1 x2 y2 the reference: an anchor, a proposal, or a cell of a feature map (pixels)
    classes     a logit for each class, independent of each other
    regression  4 numbers that move the reference (`keras.utils.bounding_boxes`), or logits of
                distributions: of the distances from the reference's centre to the box's left,
                top, right and bottom side, in units of the reference's width, then of the angle

One table for every detector: one loss, one decoding, one figure and one export serve them all.
"""

import math
from typing import NamedTuple

import keras
from keras import ops

COLUMNS = 6
CLASS = 5  # the column of a label's class
DETECTION, SECOND_LOOK, PROPOSAL, UNUSED = 1.0, 2.0, 0.0, -1.0
VARIANCE = (0.1, 0.1, 0.2, 0.2)  # of the four numbers that move a reference
FORMAT = "xyxy"
_TINY = 1e-6
_CUT = math.pi / 36


class Columns(NamedTuple):
    """The columns of candidates: kind (batch, rows), the others (batch, rows, ...)."""

    kind: object
    reference: object
    logits: object
    regression: object


def columns(candidates, classes):
    """The `Columns` of candidates with that many classes."""
    return Columns(
        candidates[..., 0],
        candidates[..., 1:5],
        candidates[..., 5 : 5 + classes],
        candidates[..., 5 + classes :],
    )


def are_distributions(regression):
    """Whether columns of regression hold distributions."""
    return regression.shape[-1] > 4


def of_angle(regression, angle_bins):
    """(logits of the four distances (..., 4, bins), logits of the angle (..., angle_bins))."""
    width = regression.shape[-1] - angle_bins
    distances = regression[..., :width]
    distances = ops.reshape(distances, (*ops.shape(distances)[:-1], 4, width // 4))
    return distances, regression[..., width:]


def corners(labels):
    """x1, y1, x2, y2 of the upright rectangles around boxes, shape (..., 4).

    Args:
        labels: centre x, centre y, width, height, angle, shape (..., 5 or more).
    """
    x, y, width, height, angle = (labels[..., column] for column in range(5))
    cosine, sine = ops.abs(ops.cos(angle)), ops.abs(ops.sin(angle))
    half_width = (width * cosine + height * sine) / 2
    half_height = (width * sine + height * cosine) / 2
    sides = (x - half_width, y - half_height, x + half_width, y + half_height)
    return ops.stack(sides, axis=-1)


def wrapped(angle):
    """The same turn of a box as an angle in [-5°, 175°).

    A box turned by half a turn is the same box, but its left and right side change places. Where
    that happens must lie apart from upright boxes, or the slightest error swaps their sides.
    """
    return ops.mod(angle + _CUT, math.pi) - _CUT


def in_frame(x, y, label):
    """Points as seen from boxes: offsets along each box's width and height, in pixels.

    Args:
        x, y: tensors that broadcast with one column of `label`.
        label: shape (..., 5 or more).
    """
    x, y = x - label[..., 0], y - label[..., 1]
    cosine, sine = ops.cos(label[..., 4]), ops.sin(label[..., 4])
    return x * cosine + y * sine, y * cosine - x * sine


def centres(reference):
    """(x, y, width) of references, each of shape (..., )."""
    x = (reference[..., 0] + reference[..., 2]) / 2
    y = (reference[..., 1] + reference[..., 3]) / 2
    return x, y, reference[..., 2] - reference[..., 0]


# Distributions in the place of numbers.


def two_bins(values, bins):
    """The distribution over whole numbers whose mean is a value: shares of its two neighbours.

    Li et al. 2020, "Generalized Focal Loss", arXiv:2006.04388, eq. 6.

    Args:
        values: shape (...), from 0 to bins - 1.
        bins: number of the whole numbers, from 0.

    Returns:
        Tensor of shape (..., bins), each row summing to 1.
    """
    places = ops.arange(bins, dtype="float32")
    return ops.relu(1.0 - ops.abs(values[..., None] - places))


def mean_of_bins(logits):
    """The mean of a distribution over 0, 1, ..., bins - 1; logits (..., bins) -> (...)."""
    places = ops.arange(logits.shape[-1], dtype="float32")
    return ops.sum(ops.softmax(logits) * places, axis=-1)


def periodic_gaussian(angle, bins, deviation):
    """A Gaussian around an angle over bins of half a turn; the last bin lies beside the first.

    Args:
        angle: radians, shape (...); a box turned by half a turn is the same box.
        bins: bin k stands for k pi / bins.
        deviation: the Gaussian's, in bins.

    Returns:
        Tensor of shape (..., bins), each row summing to 1.
    """
    places = ops.arange(bins, dtype="float32")
    distance = ops.mod(angle[..., None] * (bins / math.pi) - places + bins / 2, bins) - bins / 2
    return ops.softmax(-ops.square(distance / deviation) / 2)


def angle_of_bins(logits):
    """The circular mean of a distribution over half a turn, `wrapped`.

    Args:
        logits: shape (..., bins); bin k stands for k pi / bins.

    Returns:
        Tensor of shape (...).
    """
    bins = logits.shape[-1]
    double = ops.arange(bins, dtype="float32") * (2 * math.pi / bins)
    shares = ops.softmax(logits)
    sine, cosine = (ops.sum(shares * part(double), axis=-1) for part in (ops.sin, ops.cos))
    return wrapped(ops.arctan2(sine, cosine) / 2)


def distances_to_sides(reference, label):
    """Distances from a reference's centre to the box's left, top, right and bottom side.

    Args:
        reference: shape (..., 4).
        label: the box of each reference, shape (..., 5 or more).

    Returns:
        Tensor of shape (..., 4), in units of the reference's width; negative outside of the box.
        The sides are those of the `wrapped` angle.
    """
    x, y, unit = centres(reference)
    turned = ops.concatenate([label[..., :4], wrapped(label[..., 4:5])], axis=-1)
    along, across = in_frame(x, y, turned)
    half_width, half_height = label[..., 2] / 2, label[..., 3] / 2
    sides = (half_width + along, half_height + across, half_width - along, half_height - across)
    return ops.stack(sides, axis=-1) / ops.maximum(unit, _TINY)[..., None]


def box_of_distances(reference, distances, angle):
    """The opposite of `distances_to_sides`: centre x, centre y, width, height, angle, (..., 5)."""
    x, y, unit = centres(reference)
    left, top, right, bottom = (distances[..., side] * unit for side in range(4))
    along, across = (left - right) / 2, (top - bottom) / 2
    cosine, sine = ops.cos(angle), ops.sin(angle)
    parts = (
        x - along * cosine + across * sine,
        y - along * sine - across * cosine,
        left + right,
        top + bottom,
        angle,
    )
    return ops.stack(parts, axis=-1)


# From candidates to boxes.


def deltas(reference, labels):
    """The four numbers that move references onto boxes, shape (..., 4)."""
    return keras.utils.bounding_boxes.encode_box_to_deltas(
        reference, corners(labels), FORMAT, FORMAT, variance=VARIANCE
    )


def moved(reference, regression):
    """References moved by four numbers: x1, y1, x2, y2 (..., 4).

    The logarithm of a size is held below that of 1000 / 16, as Faster R-CNN does.
    """
    limit = math.log(1000 / 16) / VARIANCE[-1]
    held = ops.concatenate([regression[..., :2], ops.minimum(regression[..., 2:], limit)], axis=-1)
    return keras.utils.bounding_boxes.decode_deltas_to_boxes(
        reference, held, FORMAT, FORMAT, variance=VARIANCE
    )


def decode(reference, regression, angle_bins=0):
    """The boxes of candidates: centre x, centre y, width, height, angle, shape (..., 5).

    Args:
        reference: shape (..., 4).
        regression: shape (..., 4), or distributions.
        angle_bins: how many of the distributions' last columns are the angle's.
    """
    if are_distributions(regression):
        distances, angle = of_angle(regression, angle_bins)
        turned = angle_of_bins(angle) if angle_bins else ops.zeros_like(reference[..., 0])
        return box_of_distances(reference, mean_of_bins(distances), turned)
    found = moved(reference, regression)
    x, y, width = centres(found)
    return ops.stack([x, y, width, found[..., 3] - found[..., 1], ops.zeros_like(x)], axis=-1)


def scores(kind, logits):
    """The probability of each class, 0 for rows that are no detection; shape of the logits."""
    return ops.where(ops.greater_equal(kind, DETECTION)[..., None], ops.sigmoid(logits), 0.0)


def efficient_iou(boxes, labels):
    """EIoU of boxes and labels, pair by pair, seen from each label's own frame.

    IoU minus the squares of three distances, each a share of the smallest rectangle around both:
    of the centres, of the widths, of the heights (Zhang et al. 2022, "Focal and Efficient IOU
    Loss", arXiv:2101.08158). Where both have an angle, both are laid into the label's frame, and
    the box's remaining angle is left aside.

    Args:
        boxes, labels: centre x, centre y, width, height, angle, ...; shapes that broadcast.

    Returns:
        Tensor of shape (...), at most 1.
    """
    offsets = in_frame(boxes[..., 0], boxes[..., 1], labels)
    intersection, diagonal, ratios = 1.0, 0.0, 0.0
    for offset, size in zip(offsets, (2, 3), strict=True):
        own, other = boxes[..., size] / 2, labels[..., size] / 2
        low, high = offset - own, offset + own
        shared = ops.minimum(high, other) - ops.maximum(low, -other)
        around = ops.square(ops.maximum(high, other) - ops.minimum(low, -other))
        intersection *= ops.relu(shared)
        diagonal += around
        ratios += ops.square(2 * (own - other)) / ops.maximum(around, _TINY)
    areas = boxes[..., 2] * boxes[..., 3] + labels[..., 2] * labels[..., 3]
    overlap = intersection / ops.maximum(areas - intersection, _TINY)
    apart = (ops.square(offsets[0]) + ops.square(offsets[1])) / ops.maximum(diagonal, _TINY)
    return overlap - apart - ratios
