"""The embedded digits."""

import numpy as np
import tensorflow as tf
from sklearn.datasets import load_digits

from tfkd.data import load


def stacked(dataset):
    images, labels = zip(*dataset.as_numpy_iterator(), strict=True)
    return np.stack(images), np.array(labels)


def test_sizes_types_and_names():
    splits = load("digits")
    assert splits.info.sizes == {"train": 1294, "validation": 144, "test": 359}
    assert splits.info.image_shape == (8, 8, 1)
    assert splits.info.num_classes == 10
    assert splits.info.label_names == tuple("0123456789")
    for dataset in splits[:3]:
        assert dataset.element_spec == (
            tf.TensorSpec((8, 8, 1), tf.uint8),
            tf.TensorSpec((), tf.int64),
        )
    assert [int(dataset.cardinality()) for dataset in splits[:3]] == [1294, 144, 359]


def test_the_three_splits_are_scikit_learns_digits():
    splits = load("digits", seed=4)
    images, labels = (np.concatenate(part) for part in zip(*map(stacked, splits[:3]), strict=True))
    digits = load_digits()
    # 0..16 there, 0..255 here: the inverse is exact. 1797 rows, each of them once.
    ours = np.column_stack([np.rint(images.reshape(1797, 64) / 255 * 16), labels])
    theirs = np.column_stack([digits.data, digits.target])
    np.testing.assert_array_equal(ours[np.lexsort(ours.T)], theirs[np.lexsort(theirs.T)])
    assert images.max() == 255 and images.min() == 0


def test_every_class_is_in_proportion():
    whole = np.bincount(load_digits().target) / 1797
    for dataset in load("digits")[:3]:
        labels = stacked(dataset)[1]
        np.testing.assert_allclose(np.bincount(labels, minlength=10), whole * len(labels), atol=1.5)


def test_fingerprint_tells_data_apart():
    one = load("digits").info
    assert load("digits").info == one
    assert one.fingerprint.startswith("sha256:") and len(one.fingerprint) == 7 + 64
    others = [load("digits", seed=1), load("digits", limit=100), load("digits", image_size=9)]
    assert len({one.fingerprint, *(splits.info.fingerprint for splits in others)}) == 4


def test_limit_and_image_size():
    splits = load("digits", limit=100, image_size=(16, 12))
    assert splits.info.sizes == {"train": 100, "validation": 144, "test": 359}
    assert splits.info.image_shape == (16, 12, 1)
    assert stacked(splits.test)[0].shape == (359, 16, 12, 1)
