"""Maps of unlike sizes: the bins of the methods' reference implementations, and what is a map."""

import functools

import numpy as np
from keras import ops


def check_maps(loss, teacher_shape, student_shape):
    """Raises ValueError unless both static shapes are those of maps of known size.

    Args:
        loss: what reads them, with a `name`.
        teacher_shape, student_shape: (batch, height, width, channels); or a tuple of such.
    """
    for side, shapes in (("teacher", teacher_shape), ("student", student_shape)):
        for shape in shapes if shapes and isinstance(shapes[0], tuple | list) else [shapes]:
            if len(shape) != 4 or None in tuple(shape)[1:]:
                raise ValueError(
                    f"{loss.name} compares maps of known size, (batch, height, width, channels), "
                    f"but reads {tuple(shape)} of the {side}. Name layers that give such maps; "
                    "tfkd.models.stages(model) lists a model's. Give models inputs of a fixed size."
                )


def check_features(loss, teacher_shape, student_shape):
    """Raises ValueError unless both static shapes tell how many features an example has."""
    for side, shape in (("teacher", teacher_shape), ("student", student_shape)):
        if len(shape) < 2 or None in tuple(shape)[1:]:
            raise ValueError(
                f"{loss.name} compares the examples of a batch by features of a known number, "
                f"(batch, ...), but reads {tuple(shape)} of the {side}. Name a layer whose output "
                "has a fixed size: pooled features, or a map of images of one size."
            )


def flat(tensor):
    """A tensor (batch, ...) as (batch, features)."""
    return ops.reshape(tensor, (-1, int(np.prod(tensor.shape[1:]))))


def adaptive_average_pool(x, size):
    """The mean over each of height x width bins, as `adaptive_avg_pool2d` of PyTorch has them.

    Bin i of k over n positions is [floor(i n / k), ceil((i + 1) n / k)): where k does not divide n,
    bins overlap.

    Args:
        x: float tensor, shape (batch, height, width, channels), of known size.
        size: (height, width) of the result, each at most that of `x`.
    """
    return _resampled(x, size, _bins)


def nearest_resize(x, size):
    """Resizing to the position floor(i n / k), as the references do; larger or smaller."""
    return _resampled(x, size, _nearest)


def at_one_size(teacher, student):
    """Both maps at the smaller height and width of the two, the other pooled adaptively."""
    size = tuple(map(min, teacher.shape[1:3], student.shape[1:3]))
    return adaptive_average_pool(teacher, size), adaptive_average_pool(student, size)


def blurred(x, deviation):
    """Each position the mean of all, weighed by a Gaussian of their distance.

    Weights of a position sum to 1, also at the border: what is even stays as it is.

    Args:
        x: float tensor, shape (batch, height, width, channels), of known size.
        deviation: standard deviation in positions, at least 0; 0 for `x` itself.
    """
    if not deviation:
        return x
    rows, columns = (_gaussian(n, float(deviation)) for n in x.shape[1:3])
    return ops.einsum("bhwc,hp,wq->bpqc", x, rows, columns)


def _resampled(x, size, matrix):
    given, size = tuple(x.shape[1:3]), tuple(size)
    if given == size:
        return x
    rows, columns = (matrix(n, k) for n, k in zip(given, size, strict=True))
    return ops.einsum("bhwc,hp,wq->bpqc", x, rows, columns)


@functools.cache
def _bins(n, k):
    matrix = np.zeros((n, k), "float32")
    for i in range(k):
        start, end = i * n // k, -(-(i + 1) * n // k)
        matrix[start:end, i] = 1.0 / (end - start)
    return matrix


@functools.cache
def _nearest(n, k):
    matrix = np.zeros((n, k), "float32")
    matrix[np.arange(k) * n // k, np.arange(k)] = 1.0
    return matrix


@functools.cache
def _gaussian(n, deviation):
    distances = np.subtract.outer(np.arange(n), np.arange(n)) / deviation
    weights = np.exp(-0.5 * distances**2)
    return (weights / weights.sum(axis=0)).astype("float32")
