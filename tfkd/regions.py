"""From candidates to boxes to look at, and from boxes to what a feature map shows inside."""

import math

import tensorflow as tf
from keras import ops

from tfkd import boxes

CONSIDERED = 256  # candidates of the highest scores among which proposals are chosen
OVERLAP = 0.7  # above it the lower of two proposals goes
CELLS = 2.0  # a region is looked at on the level where its side is 2 to 4 cells


def propose(candidates, classes, kind, count):
    """The candidates of one kind with the highest scores, without those that overlap others.

    No gradient goes through them.

    Args:
        candidates: shape (batch, rows, columns), see `tfkd.boxes`.
        classes: number of classes.
        kind: `boxes.PROPOSAL` or `boxes.DETECTION`.
        count: how many to choose an image.

    Returns:
        (x1 y1 x2 y2 (batch, count, 4), rows int32 (batch, count), whether there are so many
        (batch, count)); where there are not, row 0 stands.
    """
    candidates = ops.stop_gradient(candidates)
    own, reference, logits, regression = boxes.columns(candidates, classes)
    best = logits[..., 0] if kind == boxes.PROPOSAL else ops.max(logits, axis=-1)
    best = ops.where(ops.equal(own, kind), best, -math.inf)
    top, rows = ops.top_k(best, min(CONSIDERED, best.shape[-1]))
    found = boxes.corners(boxes.decode(*(_picked(part, rows) for part in (reference, regression))))
    # TensorFlow's own for a batch of any size: KerasHub's asks for a fixed one.
    chosen, valid = tf.image.non_max_suppression_padded(
        ops.take(found, [1, 0, 3, 2], axis=-1),
        ops.sigmoid(top),
        max_output_size=count,
        iou_threshold=OVERLAP,
        score_threshold=0.0,
        pad_to_max_output_size=True,
        sorted_input=True,
        tile_size=CONSIDERED,
    )
    valid = ops.arange(count)[None] < valid[:, None]
    chosen = ops.where(valid, chosen, 0)
    return _picked(found, chosen), ops.take_along_axis(rows, chosen, axis=1), valid


def _picked(tensor, rows):
    return ops.take_along_axis(tensor, rows[..., None], axis=1)


def look(maps, levels, regions, size):
    """RoIAlign: what feature maps show inside of boxes, on the level that fits each box's size.

    One bilinear sample in the middle of each of `size` x `size` parts (He et al. 2017, "Mask
    R-CNN", takes the mean of four).

    Args:
        maps: list of tensors (batch, height, width, channels), one a level.
        levels: their numbers; a cell of level n is 2ⁿ pixels.
        regions: x1, y1, x2, y2 in pixels, shape (batch, count, 4).
        size: parts a side.

    Returns:
        Tensor of shape (batch, count, size, size, channels).
    """
    count = regions.shape[1]
    flat = ops.reshape(regions, (-1, 4))
    image = ops.repeat(ops.arange(ops.shape(regions)[0], dtype="int32"), count)
    sides = ops.maximum(flat[:, 2:] - flat[:, :2], 1e-3)
    level = ops.floor(ops.log2(ops.sqrt(sides[:, 0] * sides[:, 1]) / CELLS))
    level = ops.clip(level, levels[0], levels[-1])
    seen = 0.0
    for number, features in zip(levels, maps, strict=True):
        height, width = features.shape[1:3]
        step = sides / size
        # crop_and_resize puts its samples on the corners of the box that it is given, in shares
        # of the way from the middle of the first to the middle of the last cell.
        low = (flat[:, :2] + step / 2) / 2**number - 0.5
        high = low + step * (size - 1) / 2**number
        whole = ops.maximum(ops.convert_to_tensor([width - 1, height - 1], "float32"), 1.0)
        low, high = low / whole, high / whole
        frame = ops.stack([low[:, 1], low[:, 0], high[:, 1], high[:, 0]], axis=-1)
        shown = tf.image.crop_and_resize(features, frame, image, (size, size))
        seen += ops.where(ops.equal(level, number)[:, None, None, None], shown, 0.0)
    return ops.reshape(seen, (-1, count, size, size, maps[0].shape[-1]))


def rows(regions, valid, logits, regression):
    """Candidates whose references are regions; see `tfkd.boxes`."""
    kind = ops.where(valid, boxes.SECOND_LOOK, boxes.UNUSED)[..., None]
    return ops.concatenate([kind, regions, logits, regression], axis=-1)
