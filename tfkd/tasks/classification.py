"""One class of many for an image."""

from tfkd.evaluation.tables import MEASURES
from tfkd.tasks.base import Task

EVALUATION_BATCH = 256
# The cut into train and validation is the same for every seed: a teacher from another run must not
# have been trained on what is validation here.
DATA_SEED = 0


class Classification(Task):
    """Classes of images, judged by accuracy; of equal ones by the lower cross-entropy.

    Small validation splits tie often.
    """

    name = "classification"
    things = "images"
    figures = {name: MEASURES[name] for name in ("accuracy", "cross_entropy")}
    unit = "points of accuracy"
    classifies = True
    replays = True
    stores = True
    suffixes = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")

    def check_name(self, name):
        from tfkd import models

        models.check_name(name)

    def load(self, settings, limit=None):
        from tfkd import data

        return data.load(
            settings.data,
            settings.data_dir,
            seed=DATA_SEED,
            limit=settings.limit if limit is None else limit,
            image_size=settings.image_size,
            resize=settings.resize,
            skip_damaged=settings.skip_damaged,
            store=settings.store,
        )

    def build(self, role, settings, info):
        from tfkd import models

        name, options = getattr(settings, role), getattr(settings, f"{role}_options")
        return models.build(name, info.image_shape, info.num_classes, **options)

    def check(self, role, model, name, info):
        from tfkd.tasks import fitting

        fitting.check(role, model, name, info)

    def loss(self, info, settings, judge):
        from tfkd.tasks import labels

        return labels.loss(settings.label_smoothing, judge.logits.from_logits)

    def judge(self, model, dataset, info, output=None):
        from tfkd.tasks.logits import Judge

        return Judge(model, dataset, EVALUATION_BATCH, output)

    def read(self, path, data):
        import tensorflow as tf

        from tfkd.data.images import decode

        encoded = tf.io.read_file(str(path))
        return decode(encoded, tuple(data.image_shape), data.resize).numpy()

    def score(self, figures):
        return figures["accuracy"], -figures["cross_entropy"]

    def short(self, value):
        return f"val acc {100 * value:.1f} %", f"acc {100 * value:.1f}%"

    @property
    def head(self):
        from tfkd.heads import Head

        return Head(labels="one_of_many")
