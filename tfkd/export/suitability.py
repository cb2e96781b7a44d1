"""Whether inputs given for calibration or a check are what the student was trained on.

An export and its check that are fed the same unsuitable images agree perfectly and mean nothing. So
what is given is compared with what the model says of its data: the layers that scale its input, and
the statistics that its BatchNormalization layers gathered in training. What is certainly wrong is
refused; what is merely odd is said in a warning.
"""

import dataclasses
import warnings

import keras
import numpy as np
import tensorflow as tf

from tfkd import taps
from tfkd.export import model_inputs
from tfkd.export.errors import ExportWarning

MAXIMUM_EXAMPLES = 256

_CERTAIN, _ODD = 50.0, 4.0  # times larger or smaller than the range that the model scales
_FEW_DISTINCT = 0.5  # share of distinct examples below which a set is said to repeat itself
_SHIFT, _SPREAD = 4.0, 5.0  # standard deviations from, and times, the statistics of training
_STATISTICS_EXAMPLES = 64


@dataclasses.dataclass(frozen=True)
class Examples:
    """Inputs to check with.

    Attributes:
        feeds: {input name: array, shape (n, ...)}, n ≤ 256.
        labels: array of n labels or more axes, as the student's loss takes them; or None.
    """

    feeds: dict
    labels: np.ndarray | None = None

    def __len__(self):
        return len(next(iter(self.feeds.values())))

    def batch(self, size):
        """{input name: array} of `size` examples, repeated if there are fewer."""
        chosen = np.arange(size) % len(self)
        return {name: array[chosen] for name, array in self.feeds.items()}


def examples(given, served):
    """What a caller gave to check with, as `Examples`; None for None.

    Args:
        given: an array of inputs; {input name: array}; a `tf.data.Dataset` of either, batched or
            not; the first two also with labels, as a tuple (inputs, labels), and the elements of a
            dataset likewise.
        served: the `student.Served`.

    Raises:
        ValueError: they do not fit the student, or are certainly not what it was trained on.
    """
    if given is None or isinstance(given, Examples):
        return given
    if isinstance(given, tf.data.Dataset):
        given = stacked(given, served, MAXIMUM_EXAMPLES)
    inputs, labels = given if isinstance(given, tuple) and len(given) == 2 else (given, None)
    found = feeds(inputs, served, "examples", MAXIMUM_EXAMPLES)
    size = len(next(iter(found.values())))
    if labels is not None:
        if len(labels) < size:
            raise ValueError(f"{size} examples were given with {len(labels)} labels.")
        labels = np.asarray(labels[:MAXIMUM_EXAMPLES])
    require_suitable(found, served, "examples")
    return Examples(found, labels)


def stacked(dataset, served, maximum):
    """The first `maximum` elements of a dataset: inputs, or (inputs, labels) where it has labels.

    Args:
        dataset: `tf.data.Dataset` of inputs or (inputs, label, ...), batched or not.
        served: the student, whose inputs tell whether it is batched.
        maximum: how many examples.
    """
    spec = dataset.element_spec
    labelled = isinstance(spec, tuple)
    first = tf.nest.flatten(spec[0] if labelled else spec)[0]
    if first.shape.rank == next(iter(served.inputs.values())).shape.rank:
        dataset = dataset.unbatch()
    parts = [
        element[:2] if labelled else (element,)
        for element in dataset.take(maximum).as_numpy_iterator()
    ]
    if not parts:
        return []
    whole = tuple(tf.nest.map_structure(lambda *arrays: _stack(arrays), *parts))
    return whole if len(whole) == 2 else whole[0]


def feeds(inputs, served, what, maximum):
    """{input name: array} of the first `maximum` examples that were given, of the right shapes.

    Args:
        inputs: an array or list of arrays, or {input name: one}.
        served: the student.
        what: what the inputs are for, for messages.
        maximum: how many examples.
    """
    if not isinstance(inputs, dict):
        if len(served.inputs) > 1:
            raise ValueError(
                f"The student has the inputs {list(served.inputs)}: give the {what} as "
                "{input name: array}."
            )
        inputs = {next(iter(served.inputs)): inputs}
    if set(inputs) != set(served.inputs):
        raise ValueError(
            f"The {what} has the inputs {sorted(inputs)}; the student takes {list(served.inputs)}."
        )
    arrays = {}
    for name, spec in served.inputs.items():
        given, shape = inputs[name][:maximum], tuple(spec.shape[1:])
        array = _stack(given) if isinstance(given, list) else np.asarray(given)
        if array.shape[1:] != shape or not len(array):
            raise ValueError(
                f"The {what} has the shape {array.shape}; the student takes (n, *{shape})."
            )
        if spec.dtype == tf.string:
            array = np.vectorize(tf.compat.as_bytes, otypes=[object])(array)
        elif array.dtype.kind not in "biuf":
            raise ValueError(f"The {what} has the dtype {array.dtype}; expected {spec.dtype.name}.")
        arrays[name] = array
    if len({len(array) for array in arrays.values()}) > 1:
        raise ValueError(
            f"The inputs of the {what} differ in number: "
            f"{ {name: len(array) for name, array in arrays.items()} }."
        )
    return arrays


def require_suitable(feeds, served, what):
    """Refuses or warns of inputs that are not what the student was trained on.

    Args:
        feeds: {input name: array}.
        served: the student.
        what: what the inputs are for, for messages: "examples", "calibration set".
    """
    for name, array in feeds.items():
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise ValueError(f"The {what} holds values that are not finite.")
        if array.dtype.kind in "OSU":
            continue
        if array.size and array.min() == array.max():
            raise ValueError(
                f"Every value of the {what} is {array.min():g}, so it shows no range of "
                "activations. Give real training images or other inputs of the student."
            )
        spec = served.inputs[name]
        if spec.dtype.is_integer and (array != np.round(array)).any():
            raise ValueError(
                f'The {what} for "{name}" holds fractions (from {array.min():g} to '
                f"{array.max():g}), but the export takes {spec.dtype.name}."
            )
        if served.image_shape is not None:
            _require_images(array, what)
            _require_range(array, served, what)
    if served.image_shape is not None:
        _compare_statistics(feeds, served, what)


def require_alike(calibration, given):
    """Refuses a calibration set and check examples of which one is certainly not the student's.

    Args:
        calibration: array.
        given: `Examples`, or None.
    """
    if given is None:
        return
    ranges = [(float(a.min()), float(a.max())) for a in (calibration, *given.feeds.values())]
    sizes = [max(abs(low), abs(high)) for low, high in ranges]
    if max(sizes) > _CERTAIN * min(sizes):
        raise ValueError(
            f"The calibration set runs from {ranges[0][0]:g} to {ranges[0][1]:g}, the examples to "
            f"check with from {ranges[1][0]:g} to {ranges[1][1]:g}: one of the two is not what the "
            "student takes. Give both as the student was trained on them."
        )


def _stack(arrays):
    try:
        return np.stack(arrays)
    except ValueError as error:
        raise ValueError(f"The given images differ in shape: {error}.") from error


def _require_images(images, what):
    """Pictures of one colour, and one picture many times, show nothing."""
    flat = images.reshape(len(images), -1)
    plain = float((flat.min(axis=1) == flat.max(axis=1)).mean())
    if plain == 1.0:
        raise ValueError(
            f"Each image of the {what} has a single colour. Give real training images."
        )
    distinct = len({image.tobytes() for image in flat})
    said = []
    if plain > 0.1:
        said.append(f"{plain:.0%} of its images have a single colour")
    if distinct < _FEW_DISTINCT * len(images):
        said.append(f"only {distinct} of its {len(images)} images are distinct")
    if said:
        _warn(f"The {what} shows less than it seems to: {' and '.join(said)}.")


def _require_range(images, served, what):
    high = model_inputs.scaled_range(served.model)
    if high is None:
        return
    largest = float(np.abs(images).max())
    low, top = float(images.min()), float(images.max())
    said = (
        f"The values of the {what} run from {low:g} to {top:g}, but the first layers of student "
        f'"{served.model.name}" scale values of up to about {high:g} to the range of its weights'
    )
    if largest * _CERTAIN < high or largest > _CERTAIN * high:
        raise ValueError(
            f"{said}. Give the inputs as the student takes them: raw pixels run from 0 to 255, and "
            "whoever divides by 255 must not do so twice."
        )
    if largest * _ODD < high or largest > _ODD * high:
        _warn(f"{said}. Are these the images that it was trained on?")


def _compare_statistics(feeds, served, what):
    """Compares the first BatchNormalization's input with the statistics it gathered in training."""
    found = _first_normalization(served.model)
    if found is None:
        return
    path, layer = found
    sample = {name: array[:_STATISTICS_EXAMPLES] for name, array in feeds.items()}
    served = dataclasses.replace(
        served, features=(path,), reader=taps.Taps(served.model, (path,), "student")
    )
    normalized = served.feature_maps(sample)[path].numpy().astype("float64")
    size = normalized.shape[-1]
    gamma = np.ones(size) if layer.gamma is None else np.asarray(layer.gamma, "float64")
    beta = np.zeros(size) if layer.beta is None else np.asarray(layer.beta, "float64")
    alive = np.abs(gamma) > 1e-3
    if not alive.any():
        return
    rows = (normalized.reshape(-1, size) - beta)[:, alive] / gamma[alive]
    shift, spread = np.median(np.abs(rows.mean(axis=0))), np.median(rows.std(axis=0))
    if shift > _SHIFT or not 1 / _SPREAD < spread < _SPREAD:
        _warn(
            f'The {what} is unlike the data that student "{served.model.name}" was trained on: '
            f'behind layer "{path}" its channels are off by {shift:.1f} standard deviations in the '
            f"middle, and spread {spread:.2g} times as far as in training. Give images as they "
            "were in training, of the same range and kind."
        )


def _first_normalization(model):
    """(path, layer) of the first BatchNormalization if it was trained, else None."""
    for path in taps.layer_paths(model):
        layer = taps.find_layer(model, path)
        if isinstance(layer, keras.layers.BatchNormalization):
            trained = layer.built and np.any(np.asarray(layer.moving_mean))
            return (path, layer) if trained and layer.axis in (-1, 3) else None
    return None


def _warn(message):
    warnings.warn(message, category=ExportWarning, stacklevel=5)
