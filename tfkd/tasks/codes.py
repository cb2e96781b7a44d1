"""What hashing needs of images and models: pairs of views, backbones, codes, searches."""

import dataclasses
from typing import Any

import keras
import tensorflow as tf

from tfkd import data, evaluation, fingerprints, models
from tfkd.batches import INDEX
from tfkd.data.pipeline import batches_of
from tfkd.losses import code_clusters
from tfkd.settings import DataSettings
from tfkd.tasks import fitting

EVALUATION_BATCH = 256
FIRST = 1000  # images of the ranking that the second figure counts
DATA_SEED = 0  # the cut is the same for every seed


@dataclasses.dataclass(frozen=True)
class HashingInfo(data.DataInfo):
    """What a data set of images is, and what is searched.

    Attributes:
        bits: of a code.
        database: the unbatched training split, among whose images is searched.
    """

    bits: int = 64
    database: Any = dataclasses.field(default=None, repr=False, compare=False)


def load(settings, limit):
    """`tfkd.data.Splits` of images, with a `HashingInfo`."""
    splits = data.load(
        settings.data,
        settings.data_dir,
        seed=DATA_SEED,
        limit=limit,
        image_size=settings.image_size,
        resize=settings.resize,
        skip_damaged=settings.skip_damaged,
        store=settings.store,
    )
    fields = dataclasses.fields(data.DataInfo)
    known = {field.name: getattr(splits.info, field.name) for field in fields}
    info = HashingInfo(**known, bits=settings.bits, database=splits.train)
    _last[:] = [(_key(settings, limit), splits._replace(info=info))]
    return _last[0][1]


_last: list[tuple] = []  # what was loaded last: a recipe's clusters are of the run's own images


def _key(settings, limit):
    names = (*DataSettings.model_fields, "data", "bits")
    return (*(getattr(settings, name) for name in names if name != "limit"), limit)


def on_backbone(image_shape, bits, file=None, frozen=True):
    """A hashing model on the features of a trained classifier.

    Args:
        image_shape: of the data's images.
        bits: of the code.
        file: the classifier's `.keras` file.
        frozen: whether its features stay as they are.

    Raises:
        ValueError: no file, one that cannot be read, or no classifier of these images.
    """
    if file is None:
        raise ValueError(
            '"backbone" is a trained classifier: say which, with the option file=PATH.keras.'
        )
    try:
        model = keras.saving.load_model(file, compile=False)
    except Exception as error:  # Keras raises many kinds
        raise ValueError(f'The backbone "{file}" cannot be loaded: {error}') from error
    return models.with_code(model, bits, frozen)


def check(role, model, name, info):
    """Raises ValueError unless a model takes the images and gives a number for each bit."""
    fitting.check_images(role, model, name, info)
    output = model.compute_output_spec(keras.KerasTensor((None, *info.image_shape), "float32"))
    shapes = [tuple(own.shape) for own in keras.tree.flatten(output)]
    if shapes == [(None, info.bits)]:
        return
    hint = ""
    if shapes == [(None, info.num_classes)]:
        hint = (
            " It looks like a classifier: to train a hashing model on its features, give "
            f"{role} = backbone and {role}_options file={name}."
        )
    raise ValueError(
        f'The {role} "{name}" has outputs of shape {shapes}; expected one of shape (batch, bits) '
        f"with {info.bits} bits.{hint}"
    )


def pairs(dataset, settings, seed, views=None, stored=None):
    """Training batches of two views of each image, and the images' numbers as labels.

    Rows 2k and 2k + 1 are of one image. Views of epoch e are the versions 2e and 2e + 1, modulo
    `views`; the versions are the same for all seeds.

    Args:
        dataset: unbatched, of (image, label); labels are not read.
        settings: with `batch_size` (images, of which there are two rows each), `augmentation` and
            `seed`, that of the versions.
        seed: of the order.
        views: versions of each image, at least 2; None for new ones in every epoch.
        stored: `tfkd.TeacherCache` of so many versions, or None.

    Returns:
        `tf.data.Dataset` of (uint8 images (2 batch, height, width, channels), int64 (2 batch,));
        with `stored` also of weights of 1 and of what the teacher says of each row.
    """
    name, options = settings.augmentation
    augment = data.augmentation(name, **options)
    if stored is not None:
        own = {"seed": seed, "augment": augment, "views_per_step": 2}
        batches = stored.dataset(dataset, settings.batch_size, **own)
        return batches.map(lambda rows, labels, ones, known: (rows, known[INDEX], ones, known))

    def made(indices, epochs, images, labels):
        epochs = tf.broadcast_to(epochs, tf.shape(indices))
        numbers, epochs, rows = (tf.repeat(own, 2, axis=0) for own in (indices, epochs, images))
        versions = 2 * epochs + tf.range(tf.size(numbers, tf.int64)) % 2
        versions = versions if views is None else versions % views
        return augment(rows, data.view_seed(numbers, versions, settings.seed)), numbers

    return batches_of(dataset, settings.batch_size, made, shuffle=True, seed=seed)


def search(model, queries, database):
    """How well a model finds images of a class: a function () -> its figures, compiled once.

    Args:
        model: gives the codes of both.
        queries: unbatched, of (image, label).
        database: the same, of what is searched.

    Returns:
        function () -> {"map": float, "map_1000": float}.
    """
    both, cut = _answers(model, queries.concatenate(database)), int(queries.cardinality())

    def figures():
        numbers, labels = both()
        return _found(numbers[:cut], labels[:cut], numbers[cut:], labels[cut:])

    return figures


def asymmetric_search(model, queries, numbers, labels):
    """How well a model's codes find images in a database that another model has hashed.

    Args:
        model: gives the queries' codes.
        queries: unbatched, of (image, label).
        numbers, labels: what `predicted` gives of the other model and the database.

    Returns:
        {"map": float, "map_1000": float}.
    """
    return _found(*predicted(model, queries), numbers, labels)


def predicted(model, dataset):
    """A model's numbers, (images, bits), and the labels of an unbatched dataset."""
    return _answers(model, dataset)()


def _answers(model, dataset):
    return evaluation.prediction(model, data.batches(dataset, EVALUATION_BATCH))


def _found(*codes):
    found = evaluation.retrieval_average_precision(*codes, top=(None, FIRST))
    return dict(zip(("map", f"map_{FIRST}"), found, strict=True))


_clusters: dict[tuple, Any] = {}  # of the last few teachers


def clusters_of_teacher(settings, teacher):
    """`tfkd.losses.CodeClusters` of a teacher's codes of the training images.

    Args:
        settings: with `clusters`, and the data's.
        teacher: the hashing model.

    Raises:
        ValueError: more clusters than images.
    """
    key = _key(settings, settings.limit)
    known = _last and _last[0][0] == key
    splits = _last[0][1] if known else load(settings, settings.limit)
    key = (splits.info.fingerprint, fingerprints.of_weights(teacher), settings.clusters)
    if key not in _clusters:
        while len(_clusters) > 3:
            _clusters.pop(next(iter(_clusters)))
        images = splits.info.sizes["train"]
        if settings.clusters > images:
            raise ValueError(
                f"There are {settings.clusters} clusters of {images} training images. Set clusters "
                "to fewer, or raise the limit."
            )
        numbers, _ = predicted(teacher, splits.train)
        _clusters[key] = code_clusters(numbers, settings.clusters)
    return _clusters[key]
