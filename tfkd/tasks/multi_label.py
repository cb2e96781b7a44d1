"""Any number of labels for an image, each by itself."""

from tfkd.evaluation.tables import Measure
from tfkd.tasks.base import Task


class MultiLabel(Task):
    """Independent labels of images: a sigmoid for each logit.

    Models are those of classification. The figures are scikit-learn's average precision: the mean
    over the labels, which judges, and over all pairs of image and label.
    """

    name = "multi-label"
    things = "images"
    figures = {
        "map": Measure("mAP of labels (%)", 100, 1, True),
        "micro_ap": Measure("AP over all labels (%)", 100, 1, True),
    }
    replays = True
    unit = "points of mAP"

    @property
    def names(self):
        from tfkd import models

        return tuple(models.names())

    def check_name(self, name):
        from tfkd import models

        models.check_name(name)

    def load(self, settings, limit=None):
        from tfkd.data import multi_label
        from tfkd.tasks import labelled

        return labelled.load(multi_label.load, settings, limit)

    def build(self, role, settings, info):
        from tfkd import models

        name, options = getattr(settings, role), getattr(settings, f"{role}_options")
        return models.build(name, info.image_shape, info.num_classes, **options)

    def check(self, role, model, name, info):
        from tfkd.tasks import labelled

        labelled.check(role, model, name, info, (info.num_classes,), "labels", "independent")

    def loss(self, info, settings, judge):
        import keras

        return keras.losses.BinaryCrossentropy(from_logits=judge.from_logits)

    def judge(self, model, dataset, info, output=None):
        from tfkd.tasks import labelled

        return labelled.LabelJudge(model, dataset)

    @property
    def head(self):
        from tfkd.heads import Head

        return Head(labels="independent")
