"""Images from which int8 quantisation takes the ranges of activations."""

import numpy as np
import tensorflow as tf

from tfkd.export import suitability
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
    """Calibration inputs as the student's own, shape (n, *its input's shape), n ≤ 500.

    Args:
        calibration: array (n, height, width, channels), or a `tf.data.Dataset` of images or
            (image, label), batched or not; its first 500 images are used. A student of another
            input takes arrays of that.
        served: the student.

    Raises:
        ValueError: None, empty, constant, of another shape, not finite, or certainly not what the
            student was trained on.
    """
    if len(served.inputs) > 1:
        raise ValueError(
            f"int8 needs calibration images, so the student must take one input; it takes "
            f"{list(served.inputs)}. Export as dynamic or float16."
        )
    if calibration is None:
        raise ValueError(
            "int8 needs calibration images: give calibration=some hundred training images, for "
            "example tfkd.export.calibration.choose(train)."
        )
    name, spec = next(iter(served.inputs.items()))
    if isinstance(calibration, tf.data.Dataset):
        calibration = suitability.stacked(calibration, served, MAXIMUM_IMAGES)
        calibration = calibration[0] if isinstance(calibration, tuple) else calibration
    if not len(calibration):
        raise ValueError("The calibration set is empty; some hundred training images are needed.")
    feeds = suitability.feeds(calibration, served, "calibration set", MAXIMUM_IMAGES)
    suitability.require_suitable(feeds, served, "calibration set")
    return feeds[name].astype(spec.dtype.as_numpy_dtype)


def _image(*element):
    return element[0]
