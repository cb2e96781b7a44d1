import numpy as np
import pytest
import tensorflow as tf

from tfkd.export import calibration
from tfkd.export.student import examine


@pytest.fixture(scope="module")
def served(student):
    return examine(student)


def test_a_sample_is_uniform_distinct_and_repeatable():
    dataset = tf.data.Dataset.range(1000).map(lambda i: (tf.reshape(i, (1, 1, 1)), i % 10))
    first = calibration.choose(dataset, 200, seed=1).ravel()
    assert len(set(first)) == 200
    np.testing.assert_array_equal(first, calibration.choose(dataset, 200, seed=1).ravel())
    assert set(first) != set(calibration.choose(dataset, 200, seed=2).ravel())
    assert 400 < first.mean() < 600  # 499.5 ± 18: not the first ones
    assert len(calibration.choose(dataset.take(5), 200)) == 5
    filtered = dataset.filter(lambda _, label: label < 5)  # unknown cardinality
    assert len(calibration.choose(filtered, 600)) == 500


def test_arrays_and_datasets_of_every_form_give_the_same_images(served, images):
    dataset = tf.data.Dataset.from_tensor_slices(images)
    labelled = tf.data.Dataset.zip(dataset, tf.data.Dataset.range(30))
    for given in (images, list(images), dataset, dataset.batch(7), labelled, labelled.batch(7)):
        found = calibration.checked(given, served)
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, images)
    many = np.resize(images, (700, 12, 12, 3))
    with pytest.warns(UserWarning, match="only 30 of its 500 images are distinct"):
        assert len(calibration.checked(many, served)) == 500


@pytest.mark.parametrize(
    "given, message",
    [
        (None, "int8 needs calibration images"),
        ([], "empty"),
        (tf.data.Dataset.from_tensor_slices(np.zeros((0, 12, 12, 3))), "empty"),
        (np.zeros((4, 12, 12, 3)), "Every value of the calibration set is 0"),
        (np.ones((4, 12, 12, 1)), r"shape \(4, 12, 12, 1\); the student takes \(n, \*\(12, 12, 3"),
        (np.ones((12, 12, 3)), "the student takes"),
        (np.full((2, 12, 12, 3), np.nan), "not finite"),
        ([np.ones((12, 12, 3)), np.ones((11, 12, 3))], "differ in shape"),
    ],
)
def test_what_is_no_calibration_set_is_refused(served, given, message):
    with pytest.raises(ValueError, match=message):
        calibration.checked(given, served)
