"""Images from which int8 quantisation takes the ranges of activations."""

import numpy as np
import tensorflow as tf

from tfkd.export.student import Served

MAXIMUM_IMAGES = 500


def choose(dataset, count=200, seed=0):
    """A uniform random sample of a training set, in one pass.

    Args:
        dataset: unbatched `tf.data.Dataset` of images or (image, label).
        count: how many; fewer if the dataset is smaller.
        seed: seed of the sample.

    Returns:
        array, shape (count, height, width, channels), dtype as in the dataset.
    """
    generator = np.random.default_rng(seed)
    images = dataset.map(_image)
    size = int(dataset.cardinality())
    if size < 0:
        size = int(images.reduce(0, lambda number, _: number + 1))
    chosen = np.zeros(size, bool)
    chosen[generator.permutation(size)[:count]] = True
    pairs = tf.data.Dataset.zip(tf.data.Dataset.from_tensor_slices(chosen), images)
    picked = pairs.filter(lambda wanted, _: wanted).map(lambda _, image: image)
    return np.stack(list(picked.as_numpy_iterator()))


def checked(calibration, served: Served):
    """Calibration images as float32, shape (n, height, width, channels), n ≤ 500.

    Args:
        calibration: array (n, height, width, channels), or a `tf.data.Dataset` of images or
            (image, label), batched or not; its first 500 images are used.
        served: the student.

    Raises:
        ValueError: None, empty, constant, of another shape, or not finite.
    """
    shape = served.image_shape
    if shape is None:
        raise ValueError("int8 needs calibration images, so the student must take one image.")
    if calibration is None:
        raise ValueError(
            "int8 needs calibration images: give calibration=some hundred training images, for "
            "example tfkd.export.calibration.choose(train)."
        )
    if isinstance(calibration, tf.data.Dataset):
        images = calibration.map(_image)
        if images.element_spec.shape.rank == 4:
            images = images.unbatch()
        calibration = list(images.take(MAXIMUM_IMAGES).as_numpy_iterator())
    try:
        array = np.asarray(calibration, "float32")[:MAXIMUM_IMAGES]
    except ValueError as error:
        raise ValueError(f"The calibration images differ in shape: {error}.") from error
    if not len(array):
        raise ValueError("The calibration set is empty; some hundred training images are needed.")
    if array.shape[1:] != shape:
        raise ValueError(
            f"The calibration set has the shape {array.shape}; the student takes (n, *{shape})."
        )
    if not np.isfinite(array).all():
        raise ValueError("The calibration set holds values that are not finite.")
    if array.min() == array.max():
        raise ValueError(
            f"Every value of the calibration set is {array.min():g}, so it shows no range of "
            "activations. Give real training images."
        )
    return array


def _image(*element):
    return element[0]
