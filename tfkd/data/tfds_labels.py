"""Prepared TFDS sets of images with several labels, or with a class for each pixel."""

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds

from tfkd.data.files import require_room
from tfkd.data.images import decode
from tfkd.data.splits import roles
from tfkd.data.tfds_source import how_to_prepare, image_shape


def multi_label(name, builder, size, rule):
    """({role: (images, labels uint8 (n, labels))}, names) of a set.

    Raises:
        ValueError: not one image with one sequence of labels or one vector of 0 and 1.
        FileNotFoundError: it is not prepared.
    """
    features = _features(name, builder)
    images = [key for key, own in features.items() if _is_image(own)]
    labels = [key for key, own in features.items() if _is_labels(own)]
    if len(images) != 1 or len(labels) != 1:
        raise ValueError(
            f'"{name}" has no images with several labels: expected one uint8 Image, and one '
            "Sequence of ClassLabel or vector of whole numbers (0 or 1 a label); it has "
            f"{_kinds(features)}."
        )
    (image,), (label,) = images, labels
    feature, several = features[label], isinstance(features[label], tfds.features.Sequence)
    count = feature.feature.num_classes if several else feature.shape[0]
    names = tuple(feature.feature.names if several else map(str, range(count)))

    def labels_of(example):
        given = example[label]
        if several:
            hot = tf.one_hot(tf.cast(given, tf.int64), count, on_value=1, off_value=0)
            given = tf.reduce_max(tf.concat([tf.zeros((1, count), tf.int32), hot], axis=0), axis=0)
        return tf.cast(given, tf.int64)

    arrays = _read(name, builder, image, features[image], size, rule, labels_of)
    for role, (_, own) in arrays.items():
        if not ((own == 0) | (own == 1)).all():
            raise ValueError(
                f'"{label}" of the {role} split of "{name}" holds {own.min()} to {own.max()}; '
                "expected 0 or 1 for each label."
            )
    return {role: (x, y.astype(np.uint8)) for role, (x, y) in arrays.items()}, names


def masks(name, builder, size):
    """{role: (images, masks uint8 (n, height, width))} of a set, values as they are there.

    Raises:
        ValueError: not one image of three channels with one of a single channel.
        FileNotFoundError: it is not prepared.
    """
    features = _features(name, builder)
    images = [key for key, own in features.items() if _is_image(own) and own.shape[-1] != 1]
    found = [key for key, own in features.items() if _is_image(own) and own.shape[-1] == 1]
    if len(images) != 1 or len(found) != 1:
        raise ValueError(
            f'"{name}" has no segmentation mask: expected one uint8 Image of three channels and '
            f"one of a single channel; it has {_kinds(features)}."
        )
    (image,), (mask,) = images, found

    def mask_of(example):
        own = example[mask]
        if size is not None:
            own = tf.image.resize(own, size, method="nearest")
        return own[..., 0]

    return _read(name, builder, image, features[image], size, "stretch", mask_of)


def _features(name, builder):
    if not builder.info.splits:
        raise FileNotFoundError(how_to_prepare(name, builder))
    features = builder.info.features
    return dict(features) if isinstance(features, tfds.features.FeaturesDict) else {}


def _is_image(feature):
    return isinstance(feature, tfds.features.Image) and feature.np_dtype == np.uint8


def _is_labels(feature):
    if isinstance(feature, tfds.features.Sequence):
        return isinstance(feature.feature, tfds.features.ClassLabel)
    vector = type(feature) is tfds.features.Tensor and len(feature.shape) == 1
    return vector and feature.shape[0] is not None and np.dtype(feature.np_dtype).kind in "biu"


def _kinds(features):
    return ", ".join(f"{key}: {type(own).__name__}" for key, own in features.items()) or "none"


def _read(name, builder, image, feature, size, rule, labels_of):
    """{role: (images, labels)} of all splits, in the files' order."""
    shape = image_shape(name, feature, size)
    published = roles(list(builder.info.splits), name)
    counts = [builder.info.splits[split].num_examples for split in published.values()]
    require_room(name, sum(counts), shape)

    def example(own):
        return decode(own[image], shape, None if size is None else rule), labels_of(own)

    arrays = {}
    for role, split in published.items():
        examples = builder.as_dataset(
            split=split,
            decoders={image: tfds.decode.SkipDecoding()},
            read_config=tfds.ReadConfig(try_autocache=False, interleave_cycle_length=1),
            shuffle_files=False,
        )
        read = examples.map(example, tf.data.AUTOTUNE, deterministic=True)
        try:
            parts = list(read.as_numpy_iterator())
            arrays[role] = tuple(np.stack(own) for own in zip(*parts, strict=True))
        except (tf.errors.OpError, ValueError) as error:
            reason = str(error).splitlines()[0][:300]
            raise ValueError(
                f'The {split} split of "{name}" cannot be read: {reason}. Where masks differ from '
                "their images in size, give image_size."
            ) from error
    return arrays
