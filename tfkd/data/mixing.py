"""Mixup and CutMix as augmentations: the share and the partner follow from the seed.

Teacher and student see the same mixed image, and a teacher cache stores the answer to it. That is
what makes distillation on mixed images function matching (Beyer et al. 2022, "Knowledge
distillation: a good teacher is patient and consistent", arXiv:2106.05237).
"""

import tensorflow as tf

from tfkd.data.pipeline import source_of
from tfkd.data.seeds import random_integers

# Draws of a seed; the augmentations use those below.
_PARTNER, _SHARE, _ROW, _COLUMN, _SEEDS = 8, 9, 10, 11, (12, 13)
_STEPS = 2**24  # floats below 1 that float32 tells apart


class Mixed:
    """Mixes each image with another one of its data set, in `batches` and in a teacher cache.

    ```python
    mixed = tfkd.data.Mixed(splits.train, augment=tfkd.data.augmentation("crop_flip"), classes=10)
    tfkd.TeacherCache.build("cache", distiller, splits.train, mixed, 30, augment_name="mixup")
    train = tfkd.TeacherCache("cache").dataset(splits.train, 128, augment=mixed)
    loss = keras.losses.CategoricalCrossentropy(from_logits=True)  # mixed labels are soft
    ```

    Mixup (Zhang et al. 2018, arXiv:1710.09412) gives share · own + (1 - share) · partner, with a
    share between 1/2 and 1, evenly; CutMix (Yun et al. 2019, arXiv:1905.04899) puts a rectangle of
    the partner, of up to all of the image, at a random place. Each example has a share of its own,
    where the papers draw one a batch. Images keep their dtype, uint8 is rounded.

    Args:
        dataset: the unbatched dataset that is trained on, with random access: one of
            `tfkd.data.load` that is held in memory, a folder, or `from_arrays`.
        kind: "mixup" or "cutmix".
        augment: callable (images, seeds) -> images for both images before they are mixed, or None.
        classes: number of classes, for mixed labels; None where labels are not read.

    Raises:
        ValueError: an unknown kind, or a dataset without random access.
    """

    def __init__(self, dataset, kind="mixup", augment=None, classes=None):
        if kind not in ("mixup", "cutmix"):
            raise ValueError(f'kind must be "mixup" or "cutmix", got {kind!r}.')
        self._source = source_of(dataset)
        if self._source is None:
            raise ValueError(
                "Mixing needs random access to the examples: a dataset of tfkd.data.load, or "
                "tfkd.data.pipeline.from_arrays(images, labels). This one is read in order."
            )
        self.kind, self._augment, self._classes = kind, augment, classes

    def __call__(self, images, seeds):
        """The mixed images, of the dtype and shape of `images`.

        Args:
            images: shape (batch, height, width, channels).
            seeds: int64, shape (batch, 2).
        """
        images = tf.convert_to_tensor(images)
        others, _ = self._source.gather(self._partners(seeds))
        if self._augment is not None:
            own = tf.stack([tf.cast(random_integers(seeds, n, 2**31), tf.int64) for n in _SEEDS], 1)
            images, others = self._augment(images, seeds), self._augment(others, own)
        mask = self._own_share(seeds, images.shape[1:3])
        mixed = mask * tf.cast(images, tf.float32) + (1.0 - mask) * tf.cast(others, tf.float32)
        return tf.cast(mixed if images.dtype.is_floating else tf.round(mixed), images.dtype)

    def labels(self, labels, seeds):
        """Soft labels, float32 (batch, classes): each image's two classes by their shares.

        Args:
            labels: integers, shape (batch,), of the images.
            seeds: those of the images.
        """
        if self._classes is None:
            return labels
        shape = self._source.gather(tf.zeros(1, tf.int64))[0].shape[1:3]
        share = tf.reduce_mean(self._own_share(seeds, shape), axis=(1, 2))
        _, others = self._source.gather(self._partners(seeds))
        own, other = (tf.one_hot(tf.cast(y, tf.int32), self._classes) for y in (labels, others))
        return share * own + (1.0 - share) * other

    def _partners(self, seeds):
        return tf.cast(random_integers(seeds, _PARTNER, self._source.size), tf.int64)

    def _own_share(self, seeds, size):
        """How much of each pixel is the image's own: (batch, height or 1, width or 1, 1)."""
        drawn = tf.cast(random_integers(seeds, _SHARE, _STEPS), tf.float32) / _STEPS
        if self.kind == "mixup":
            return (0.5 + 0.5 * drawn)[:, None, None, None]
        rows, columns = (
            _inside(seeds, draw, n, tf.sqrt(1.0 - drawn))
            for draw, n in zip((_ROW, _COLUMN), size, strict=True)
        )
        return 1.0 - (rows[:, :, None] * columns[:, None, :])[..., None]


def _inside(seeds, draw, size, share):
    """1.0 within a stretch of `share` of the positions around a random one, cut at the border."""
    centre = tf.cast(random_integers(seeds, draw, size), tf.float32)
    half = tf.round(share * size) / 2.0
    places = tf.range(size, dtype=tf.float32)[None]
    inside = (places >= (centre - half)[:, None]) & (places < (centre + half)[:, None])
    return tf.cast(inside, tf.float32)
