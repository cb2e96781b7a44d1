"""A class for each pixel of an image."""

from tfkd.evaluation.tables import Measure
from tfkd.tasks.base import Task

MODEL = "encoder_decoder"


class Segmentation(Task):
    """Classes of pixels, by a small encoder-decoder; judged by Keras's mean IoU.

    Augmentation moves or mirrors an image with its mask. Pixels of the value `ignore_class` count
    in no loss and no figure.
    """

    name = "segmentation"
    things = "images"
    figures = {
        "iou": Measure("mean IoU (%)", 100, 1, True),
        "pixel_accuracy": Measure("pixel accuracy (%)", 100, 1, True),
    }
    replays = True
    unit = "points of mean IoU"
    names = (MODEL,)

    def load(self, settings, limit=None):
        from tfkd.data import masks
        from tfkd.tasks import labelled

        return labelled.load(masks.load, settings, limit, ignore_class=settings.ignore_class)

    def build(self, role, settings, info):
        from tfkd import models

        options = getattr(settings, f"{role}_options")
        return models.encoder_decoder(info.image_shape, info.num_classes, **options)

    def check(self, role, model, name, info):
        from tfkd.tasks import labelled

        shape = (*info.image_shape[:2], info.num_classes)
        labelled.check(role, model, name, info, shape, "classes at each pixel", "one_of_many")

    def batches(self, dataset, settings, seed, info, views=None, stored=None):
        from tfkd.tasks import labelled

        made = super().batches(dataset, settings, seed, info, views, stored)
        ignored = info.ignore_class
        return made if ignored is None else labelled.without_ignored(made, ignored)

    def augmentation(self, settings, info):
        from tfkd.data import masks

        return masks.moving(super().augmentation(settings, info))

    def loss(self, info, settings, judge):
        import keras

        return keras.losses.SparseCategoricalCrossentropy(from_logits=judge.from_logits)

    def judge(self, model, dataset, info, output=None):
        from tfkd.tasks import labelled

        return labelled.PixelJudge(model, dataset, info.num_classes, info.ignore_class)

    @property
    def head(self):
        from tfkd.heads import Head

        return Head(labels="one_of_many")
