"""Detection: boxes and their classes, judged by mean average precision."""

from typing import ClassVar

from tfkd._extras import needs_extra
from tfkd.evaluation.tables import Measure
from tfkd.tasks.base import Task

NAMES = ("retinanet", "two_stage", "distribution_detector")
TURNING = ("distribution_detector",)  # those that can find turned boxes
BATCH = 16  # images that are judged at a time
LEAST, OVERLAP = 0.05, 0.5  # of a score that is judged, and above which the lower box goes


class Detection(Task):
    """Images with boxes; the detectors of `tfkd.models.detectors`."""

    name = "detection"
    things = "images"
    figures: ClassVar = {
        "map50": Measure("mAP@50 (%)", 100, 1, True),
        "map": Measure("mAP (%)", 100, 1, True),
    }
    replays = True
    unit = "points of mAP@50"
    names = NAMES
    not_exported: ClassVar = {
        "int8": "a detector gives one table of pixels and logits, for which the 256 steps of int8 "
        "are too coarse"
    }

    def load(self, settings, limit=None):
        needs_extra("tasks", "The judgement of detectors")
        from tfkd.data import labelled_boxes

        limit = settings.limit if limit is None else limit
        where = (settings.data, settings.data_dir, settings.image_size)
        return labelled_boxes.load(*where, limit, settings.resize)

    def build(self, role, settings, info):
        from tfkd.models import detectors

        name, options = getattr(settings, role), dict(getattr(settings, f"{role}_options"))
        if info.rotated:
            if name not in TURNING:
                raise ValueError(
                    f'The boxes of "{info.name}" are turned, and {name} finds upright ones. Give '
                    f"{' or '.join(TURNING)} as {role}."
                )
            options["angle_bins"] = detectors.ANGLE_BINS
        return detectors.build(name, info.image_shape, info.num_classes, **options)

    def check(self, role, model, name, info):
        from tfkd.models import detectors
        from tfkd.models.detections import detector_layout

        classes, angle_bins = detector_layout(model)
        wanted = (info.num_classes, detectors.ANGLE_BINS if info.rotated else 0)
        if (classes, angle_bins) != wanted:
            raise ValueError(
                f'The {role} "{name}" tells {classes} classes apart with {angle_bins} bins of the '
                f'angle, but "{info.name}" needs {wanted[0]} classes and {wanted[1]} bins.'
            )
        if tuple(model.input_shape[1:]) != tuple(info.image_shape):
            raise ValueError(
                f'The {role} "{name}" takes images of {model.input_shape[1:]}, but those of '
                f'"{info.name}" are {info.image_shape}. Give image_size.'
            )

    def augmentation(self, settings, info):
        from tfkd.data import labelled_boxes

        return labelled_boxes.mirroring(info.image_shape[1]) if settings.augment == "flip" else None

    def loss(self, info, settings, judge):
        from tfkd.losses import DetectionLoss
        from tfkd.models import detectors

        return DetectionLoss(info.num_classes, detectors.ANGLE_BINS if info.rotated else 0)

    def judge(self, model, dataset, info, output=None):
        from tfkd.evaluation.detections import mean_average_precision

        answer = answers(model)
        batches = dataset.batch(BATCH).cache()

        def figures():
            found, truth = [], []
            for images, labels in batches:
                found += answer(images)
                truth += list(labels.numpy())
            return mean_average_precision(truth, found, info.num_classes, info.rotated)

        return figures

    def exports(self, student, splits, check=True):
        from tfkd.tasks.exports import DetectorExports

        return DetectorExports(student, splits, check)


def answers(model):
    """A function of a batch of images -> [(boxes (n, 5), scores (n,), classes (n,))], one an image.

    Compiled once; overlapping boxes of a class are suppressed, turned ones by exact overlaps.

    Args:
        model: a detector of `tfkd.models.detectors`.
    """
    import numpy as np
    import tensorflow as tf

    from tfkd.evaluation.detections import suppressed
    from tfkd.models.detections import Suppression, best_candidates, detector_layout

    classes, angle_bins = detector_layout(model)
    suppress = Suppression(classes, least=LEAST, overlap=OVERLAP)

    @tf.function(reduce_retracing=True, autograph=False)
    def compiled(images):
        candidates = model(images, training=False)
        if angle_bins:
            return best_candidates(candidates, classes, angle_bins)
        return suppress(candidates)

    def upright(answer):
        answer = {name: tensor.numpy() for name, tensor in answer.items()}
        found = []
        for corners, scores, kinds, count in zip(
            *(answer[name] for name in ("boxes", "scores", "classes", "count")), strict=True
        ):
            left, top, right, bottom = corners[:count].T
            rows = ((left + right) / 2, (top + bottom) / 2, right - left, bottom - top, 0 * left)
            found.append((np.stack(rows, axis=1), scores[:count], kinds[:count]))
        return found

    def turned(answer):
        found = []
        for rows, scores, kinds in zip(*(part.numpy() for part in answer), strict=True):
            kept = [
                places[suppressed(rows[places], scores[places], OVERLAP)]
                for kind in range(classes)
                for places in [np.flatnonzero((kinds == kind) & (scores > LEAST))]
            ]
            kept = np.concatenate(kept)
            found.append((rows[kept], scores[kept], kinds[kept]))
        return found

    def answer(images):
        return (turned if angle_bins else upright)(compiled(tf.cast(images, tf.float32)))

    return answer
