"""Does a TFLite file do in the LiteRT interpreter what the student does in Keras?"""

import dataclasses
from pathlib import Path

import numpy as np

from tfkd.export.errors import ExportCheckError
from tfkd.runtime.interpreter import Interpreter

CLEAR_MARGIN = 0.1  # between the two largest probabilities; below it either answer is as good
CHECK_IMAGES = 256


@dataclasses.dataclass(frozen=True)
class Limits:
    """What a quantisation may cost: mean absolute error of a probability, agreement on clear
    images."""

    error: float
    agreement: float


LIMITS = {
    "float32": Limits(1e-5, 1.0),
    "float16": Limits(2e-3, 0.995),
    "dynamic": Limits(1e-2, 0.98),
    "int8": Limits(3e-2, 0.95),
}


def compare_tflite(path, served, quantization, io_dtype="float32", examples=None):
    """Compare a file with the Keras student on images.

    Args:
        path: the .tflite file.
        served: `student.Served`, the reference.
        quantization: says which `LIMITS` hold.
        io_dtype: dtype that inputs and outputs must have.
        examples: images (n, height, width, channels); default random ones, on which only the
            probabilities are compared, not the classes.

    Returns:
        dict: "images", "mean_error", "largest_error" (of probabilities), "agreement" (top-1, all
        images), "bytes".

    Raises:
        ExportCheckError: says what differed.
    """
    try:
        interpreter = Interpreter(path)
    except (ValueError, RuntimeError) as error:
        raise ExportCheckError(f"The LiteRT interpreter refuses {path}: {error}") from error
    flex = [name for name in interpreter.operations if name.startswith("Flex")]
    if flex:
        raise ExportCheckError(f"The file needs ops that are not built in: {flex}.")
    name, spec = next(iter(served.inputs.items()))
    described = {name: (np.dtype(io_dtype), (-1, *spec.shape[1:]))}
    if interpreter.inputs != described:
        raise ExportCheckError(f"The file takes {interpreter.inputs}; expected {described}.")
    if examples is None:
        feeds = served.sample(16)
    else:
        feeds = {name: np.asarray(examples[:CHECK_IMAGES], "float32")}
    expected = served.probabilities(served.logits(feeds)).numpy()
    found = np.concatenate(
        [
            interpreter.run({name: feeds[name][i : i + 32]})["probabilities"]
            for i in range(0, len(expected), 32)
        ]
    )
    return {
        **compare_probabilities(expected, found, LIMITS[quantization], examples is not None),
        "bytes": Path(path).stat().st_size,
    }


def compare_probabilities(expected, found, limits, compare_classes=True):
    """Errors and agreement of two arrays (images, classes); ExportCheckError beyond the limits."""
    if found.shape != expected.shape:
        raise ExportCheckError(f"The file gives the shape {found.shape}, not {expected.shape}.")
    errors = np.abs(found - expected)
    ordered = np.sort(expected, axis=-1)
    clear = ordered[:, -1] - ordered[:, -2] > CLEAR_MARGIN
    same = found.argmax(-1) == expected.argmax(-1)
    if not errors.mean() <= limits.error:  # also true for NaN
        raise ExportCheckError(
            f"The probabilities differ from the Keras student's by {errors.mean():.3g} on average "
            f"(allowed: {limits.error:.3g}), at most by {errors.max():.3g}. For int8, calibrate "
            "with "
            "more images, drawn from the training data."
        )
    if compare_classes and clear.any() and same[clear].mean() < limits.agreement:
        raise ExportCheckError(
            f"The class agrees with the Keras student's on {same[clear].mean():.1%} of the clear "
            f"images (at least {limits.agreement:.1%} are needed). For int8, calibrate with more "
            "images, drawn from the training data."
        )
    return {
        "images": len(expected),
        "mean_error": float(errors.mean()),
        "largest_error": float(errors.max()),
        "agreement": float(same.mean()),
    }
