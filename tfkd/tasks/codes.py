"""What hashing needs of images and models: pairs of views, backbones, codes, searches."""

import dataclasses
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfkd import data, evaluation, fingerprints, models
from tfkd.data.pipeline import batches_of
from tfkd.losses import code_clusters
from tfkd.settings import DataSettings
from tfkd.tasks import fitting

EVALUATION_BATCH = 256
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


def pairs(dataset, settings, seed):
    """Training batches of two views of each image, and the images' numbers as labels.

    Rows 2k and 2k + 1 are of one image. Views of epoch e are the versions 2e and 2e + 1.

    Args:
        dataset: unbatched, of (image, label); labels are not read.
        settings: with `batch_size` (images, of which there are two rows each) and `augmentation`.
        seed: of order and views.

    Returns:
        `tf.data.Dataset` of (uint8 images (2 batch, height, width, channels), int64 (2 batch,)).
    """
    name, options = settings.augmentation
    augment = data.augmentation(name, **options)

    def made(indices, epochs, images, labels):
        views = [
            images if augment is None else augment(images, data.view_seed(indices, view, seed))
            for view in (2 * epochs, 2 * epochs + 1)
        ]
        rows = tf.reshape(tf.stack(views, axis=1), (-1, *images.shape[1:]))
        return rows, tf.repeat(indices, 2)

    return batches_of(dataset, settings.batch_size, made, shuffle=True, seed=seed)


def search(model, queries, database, database_model=None):
    """How well images of a class are found: a function () -> {"map": float}, compiled once.

    Args:
        model: gives the queries' codes.
        queries: unbatched, of (image, label).
        database: the same, of what is searched.
        database_model: gives the database's codes, for an asymmetric search; by default `model`.
    """
    if database_model is not None:
        run = [_answers(model, queries), _answers(database_model, database)]
        return lambda: {"map": evaluation.retrieval_average_precision(*run[0](), *run[1]())}
    both, cut = _answers(model, queries.concatenate(database)), int(queries.cardinality())

    def figures():
        codes, labels = both()
        parts = codes[:cut], labels[:cut], codes[cut:], labels[cut:]
        return {"map": evaluation.retrieval_average_precision(*parts)}

    return figures


def _answers(model, dataset):
    return evaluation.prediction(model, data.batches(dataset, EVALUATION_BATCH))


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
        codes, _ = _answers(teacher, splits.train)()
        _clusters[key] = code_clusters(np.asarray(codes), settings.clusters)
    return _clusters[key]
