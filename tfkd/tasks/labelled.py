"""What tasks on images with labels of other shapes than a class share: checks and judges."""

import keras
import numpy as np
import tensorflow as tf
from sklearn.metrics import average_precision_score

from tfkd import data
from tfkd.taps import heads_of
from tfkd.tasks import fitting

EVALUATION_BATCH = 64
DATA_SEED = 0  # the cut is the same for every seed


def load(read, settings, limit=None, **options):
    """`tfkd.data.Splits` of the settings, by a function of `tfkd.data` with options of its own."""
    return read(
        settings.data,
        settings.data_dir,
        seed=DATA_SEED,
        limit=settings.limit if limit is None else limit,
        image_size=settings.image_size,
        resize=settings.resize,
        **options,
    )


def without_ignored(batches, ignore_class):
    """Batches of masks with sample weights, by which pixels of a value count nowhere.

    They have the weight 0, and the others what makes the mean over all pixels of a batch that over
    the others. Every loss on pixels then leaves them out, that of distillation too; a batch of such
    pixels alone has the loss 0.

    Args:
        batches: `tf.data.Dataset` of (images, masks), perhaps with weights and stored knowledge.
        ignore_class: the value.

    Returns:
        `tf.data.Dataset` of (images, masks, float32 weights of the masks' shape) and knowledge,
        where there is some. The class of ignored pixels is 0 there.
    """

    def weighed(images, masks, weights=None, *knowledge):
        counted = tf.cast(masks != ignore_class, tf.float32)
        weights = tf.math.divide_no_nan(counted, tf.reduce_mean(counted))
        return (images, tf.where(counted > 0, masks, 0), weights, *knowledge)

    return batches.map(weighed)


def check(role, model, name, info, shape, what, labels):
    """Raises ValueError unless a model takes the images and gives such numbers.

    Args:
        role, model, name, info: as for `Task.check`.
        shape: of the output, without the batch.
        what: its last axis is, in words.
        labels: "independent" or "one_of_many", what probabilities must be.
    """
    fitting.check_images(role, model, name, info)
    output = model.compute_output_spec(keras.KerasTensor((None, *info.image_shape), "float32"))
    shapes = [tuple(own.shape) for own in keras.tree.flatten(output)]
    if len(shapes) != 1 or len(shapes[0]) != 1 + len(shape) or shapes[0][-1] != shape[-1]:
        raise ValueError(
            f'The {role} "{name}" has outputs of shape {shapes}; expected one of '
            f'{(None, *shape)}: "{info.name}" has {shape[-1]} {what}.'
        )
    if shapes[0][1:] != tuple(shape) and None not in shapes[0][1:]:
        raise ValueError(
            f'The {role} "{name}" answers at {shapes[0][1:-1]} positions; expected each of the '
            f"{shape[:-1]} pixels."
        )
    head = _head(model)
    if head is not None and head.kind == "probabilities" and head.labels not in (None, labels):
        own, wanted = ("softmax", "sigmoid") if labels == "independent" else ("sigmoid", "softmax")
        raise ValueError(
            f'The {role} "{name}" ends in a {own}, but "{info.name}" has {what}: expected logits, '
            f"or a {wanted}."
        )


def _head(model):
    found = heads_of(model) if getattr(model, "inputs", None) else {}
    return next(iter(found.values()), None)


class _Judge:
    """A model on a split, one compiled pass.

    Attributes:
        from_logits: whether its output is logits, and no probabilities.
    """

    def __init__(self, model, dataset):
        self._batches = data.batches(dataset, EVALUATION_BATCH)
        head = _head(model)
        self.from_logits = head is None or head.kind != "probabilities"

        @tf.function(input_signature=[self._batches.element_spec[0]])
        def outputs(images):
            return tf.cast(model(images, training=False), tf.float32)

        self._outputs = outputs


class LabelJudge(_Judge):
    """Average precision of independent labels on a split."""

    def __call__(self):
        parts = [(self._outputs(x).numpy(), y.numpy()) for x, y in self._batches]
        scores, labels = (np.concatenate(own) for own in zip(*parts, strict=True))
        return average_precisions(labels, scores)


def average_precisions(labels, scores):
    """{"map", "micro_ap"} by `sklearn.metrics.average_precision_score`.

    Args:
        labels: 0 or 1, shape (images, labels).
        scores: float, the same shape; more is likelier.

    Returns:
        "map": mean over the labels that an image has (others have no precision), "micro_ap": over
        all pairs of image and label.

    Raises:
        ValueError: no label at all.
    """
    there = labels.any(axis=0)
    if not there.any():
        raise ValueError("No image has a label: there is no precision to speak of.")
    macro = average_precision_score(labels[:, there], scores[:, there], average="macro")
    micro = average_precision_score(labels, scores, average="micro")
    return {"map": float(macro), "micro_ap": float(micro)}


class PixelJudge(_Judge):
    """Mean intersection over union, and accuracy, of pixels on a split; some may be ignored."""

    def __init__(self, model, dataset, num_classes, ignore_class=None):
        super().__init__(model, dataset)
        self._ignored = -1 if ignore_class is None else ignore_class
        self._iou = keras.metrics.MeanIoU(
            num_classes, ignore_class=ignore_class, sparse_y_true=True, sparse_y_pred=True
        )

    def __call__(self):
        self._iou.reset_state()
        right = pixels = 0
        for images, masks in self._batches:
            found = tf.argmax(self._outputs(images), axis=-1)
            masks = tf.cast(masks, tf.int64)
            self._iou.update_state(masks, found)
            right += int(tf.reduce_sum(tf.cast(found == masks, tf.int64)))
            pixels += int(tf.reduce_sum(tf.cast(masks != self._ignored, tf.int64)))
        return {"iou": float(self._iou.result()), "pixel_accuracy": right / pixels}
