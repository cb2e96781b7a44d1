"""A hash code for an image, by which others of its kind are found."""

from tfkd.evaluation.tables import Measure
from tfkd.tasks.base import Task

BACKBONE = "backbone"


class Hashing(Task):
    """Codes of bits that are learnt without labels; labels only judge what a search finds.

    A model returns a number for each bit, which is whether it is above 0. It learns from pairs of
    views of each image (`tfkd.losses.ContrastiveHashing`). The figures are the mean average
    precision of a symmetric search, the split's images looked for among the training images by the
    model's own codes: of the whole ranking, which judges, and of its first 1,000 images, as papers
    on hashing have it (`tfkd.evaluation.retrieval_average_precision`). By the labels of the
    validation split it also chooses the epoch that is kept.

    Models are those of classification, of as many outputs as bits; and "backbone", a trained
    classifier (option file=PATH.keras) on whose features a layer of bits is trained, which are
    frozen unless frozen=false is told.
    """

    name = "hashing"
    stores = True
    replays = True
    views_a_step = 2
    learns_from = "views"
    things = "images"
    figures = {
        "map": Measure("mAP (%)", 100, 1, True),
        "map_1000": Measure("mAP@1000 (%)", 100, 1, True),
    }
    unit = "points of mAP"

    @property
    def names(self):
        from tfkd import models

        return (*models.names(), BACKBONE)

    def check_name(self, name):
        from tfkd import models

        if name != BACKBONE:
            models.check_name(name)

    def load(self, settings, limit=None):
        from tfkd.tasks import codes

        return codes.load(settings, settings.limit if limit is None else limit)

    def build(self, role, settings, info):
        from tfkd import models
        from tfkd.tasks import codes

        name, options = getattr(settings, role), getattr(settings, f"{role}_options")
        if name == BACKBONE:
            return codes.on_backbone(info.image_shape, settings.bits, **options)
        return models.build(name, info.image_shape, settings.bits, **options)

    def check(self, role, model, name, info):
        from tfkd.tasks import codes

        codes.check(role, model, name, info)

    def batches(self, dataset, settings, seed, info, views=None, stored=None):
        from tfkd.tasks import codes

        return codes.pairs(dataset, settings, seed, views, stored)

    def loss(self, info, settings, judge):
        from tfkd.losses import ContrastiveHashing

        return ContrastiveHashing(settings.temperature, settings.divergence_weight)

    def judge(self, model, dataset, info, output=None):
        from tfkd.tasks import codes

        return codes.search(model, dataset, info.database)

    @property
    def head(self):
        from tfkd.heads import Head

        return Head("code")
