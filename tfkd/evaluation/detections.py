"""Mean average precision of detections, by pycocotools; of turned boxes with shapely's overlaps."""

import contextlib
import io

import numpy as np

from tfkd import boxes
from tfkd._extras import needs_extra

MOST = 100  # detections an image that count, as COCO has it


def mean_average_precision(truth, found, num_classes, rotated=False):
    """mAP@50 and mAP (the mean over IoU 0.50, 0.55, ..., 0.95), each from 0 to 1.

    As COCO has it: at most 100 detections an image, 101 recalls, the mean over the classes of which
    there is a box. pycocotools accumulates; of turned boxes it is given exact overlaps of polygons.

    Args:
        truth: list of label rows (boxes, 6), one array an image; see `tfkd.boxes`. Padding counts
            for nothing.
        found: list of (boxes (n, 5), scores (n,), classes (n,)), one an image.
        num_classes: number of classes.
        rotated: whether to compare turned boxes.

    Returns:
        {"map50": float, "map": float}.

    Raises:
        ValueError: no image has a box: there is nothing to find.
    """
    needs_extra("tasks", "Mean average precision")
    from pycocotools.coco import COCO

    truth = [np.asarray(rows, float) for rows in truth]
    truth = [rows[rows[:, boxes.CLASS] >= 0] for rows in truth]
    if not sum(map(len, truth)):
        raise ValueError("No image has a box: there is no precision to measure.")
    labels = [
        _record(number, image, row[:5], row[5])
        for number, (image, row) in enumerate(_each(truth), start=1)
    ]
    answers = [
        {**_record(number, image, box, kind), "score": float(score)}
        for number, (image, (box, score, kind)) in enumerate(
            _each([zip(*answer, strict=True) for answer in found]), start=1
        )
    ]
    with contextlib.redirect_stdout(io.StringIO()):  # it tells what it does
        coco, given = COCO(), COCO()
        images = [{"id": image} for image in range(len(truth))]
        categories = [{"id": kind} for kind in range(num_classes)]
        for own, annotations in ((coco, labels), (given, answers)):
            own.dataset = {
                "images": images,
                "categories": categories,
                "annotations": annotations,
            }
            own.createIndex()
        evaluation = _evaluation(rotated)(coco, given, "bbox")
        # Of boxes of every size alone: those of three sizes would take four times as long.
        evaluation.params.areaRng, evaluation.params.areaRngLbl = [[0, 1e10]], ["all"]
        evaluation.params.maxDets = [MOST]
        evaluation.evaluate()
        evaluation.accumulate()
    precision = evaluation.eval["precision"][:, :, :, 0, 0]
    return {"map50": _mean(precision[0]), "map": _mean(precision)}


def _evaluation(rotated):
    from pycocotools.cocoeval import COCOeval

    if not rotated:
        return COCOeval

    class Rotated(COCOeval):
        """The same with the overlaps of turned boxes."""

        def computeIoU(self, imgId, catId):
            answers = sorted(self._dts[imgId, catId], key=lambda own: -own["score"])[:MOST]
            sides = [[own["turned"] for own in part] for part in (answers, self._gts[imgId, catId])]
            return overlaps(*sides) if all(sides) else []

    return Rotated


def overlaps(first, second):
    """IoU of every turned box of the first with every one of the second, (n, m).

    Args:
        first, second: centre x, centre y, width, height, angle, shape (n, 5 or more) and (m, ...).
    """
    rows, columns = np.indices((len(first), len(second))).reshape(2, -1)
    pairs = _overlaps_of_pairs(np.asarray(first)[rows], np.asarray(second)[columns])
    return pairs.reshape(len(first), len(second))


def _overlaps_of_pairs(first, second):
    """The same pair by pair, (n,)."""
    import shapely

    first, second = (np.asarray(part, float) for part in (first, second))
    apart = np.hypot(*(first[:, axis] - second[:, axis] for axis in (0, 1)))
    reach = sum(np.hypot(part[:, 2], part[:, 3]) / 2 for part in (first, second))
    near = np.flatnonzero(apart < reach)  # the others share nothing
    sides = (shapely.polygons(polygons(part[near])) for part in (first, second))
    shared = np.zeros(len(first))
    shared[near] = shapely.area(shapely.intersection(*sides))
    areas = first[:, 2] * first[:, 3] + second[:, 2] * second[:, 3]
    return shared / np.maximum(areas - shared, 1e-9)


def polygons(rows):
    """The four corners of turned boxes, in turn, (n, 4, 2)."""
    x, y, width, height, angle = np.asarray(rows, float)[:, :5].T
    along = np.stack([np.cos(angle), np.sin(angle)], axis=-1) * (width / 2)[:, None]
    across = np.stack([-np.sin(angle), np.cos(angle)], axis=-1) * (height / 2)[:, None]
    corners = [-along - across, along - across, along + across, across - along]
    return np.stack([x, y], axis=-1)[:, None] + np.stack(corners, axis=1)


def suppressed(turned, scores, threshold):
    """Non-maximum suppression of turned boxes: which stay, the highest score first.

    Args:
        turned: shape (n, 5).
        scores: shape (n,).
        threshold: overlap above which the lower of two boxes goes.

    Returns:
        Integer array.
    """
    order = np.argsort(-scores, kind="stable")
    better, worse = np.triu_indices(len(order), 1)
    shared = _overlaps_of_pairs(turned[order[better]], turned[order[worse]]) > threshold
    hides = np.zeros((len(order), len(order)), bool)
    hides[better[shared], worse[shared]] = True
    kept = []
    for place in range(len(order)):
        if not hides[kept, place].any():
            kept.append(place)
    return order[kept]


def _each(lists):
    return [(image, item) for image, items in enumerate(lists) for item in items]


def _record(number, image, box, kind):
    """A box as COCO has it."""
    x, y, width, height = map(float, box[:4])
    area = width * height
    return {
        "id": number,
        "image_id": image,
        "category_id": int(kind),
        "bbox": [x - width / 2, y - height / 2, width, height],
        "turned": np.asarray(box, float),
        "area": area,
        "iscrowd": 0,
    }


def _mean(precision):
    """The mean of what is known: -1 stands where a class has no box."""
    return float(precision[precision > -1].mean())
