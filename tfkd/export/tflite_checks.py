"""Does a TFLite file do in the LiteRT interpreter what the student does in Keras?"""

import dataclasses
import warnings
from pathlib import Path

import numpy as np
import tensorflow as tf

from tfkd.export import accuracy, codes, records
from tfkd.export.checks import reference
from tfkd.export.errors import ExportCheckError, ExportWarning
from tfkd.runtime.interpreter import Interpreter

CLEAR_MARGIN = 0.1  # between the two largest probabilities; below it either answer is as good
_MADE_UP, _BATCH, _MANY = 16, 32, 30


@dataclasses.dataclass(frozen=True)
class Limits:
    """What a quantisation may cost against the Keras student.

    Attributes:
        error: mean absolute error of a probability; of numbers, as a share of the largest.
        agreement: least share of clear examples with the same class.
        drop: greatest loss of accuracy on labelled examples, as a share.
    """

    error: float
    agreement: float
    drop: float


LIMITS = {
    "float32": Limits(1e-5, 1.0, 0.001),
    "float16": Limits(2e-3, 0.995, 0.005),
    "dynamic": Limits(1e-2, 0.98, 0.02),
    "int8": Limits(3e-2, 0.95, 0.05),
}


def check_tflite(path):
    """Check a file by itself, as after a copy: it loads, runs, and is what it says it is.

    Returns:
        dict: "quantization", "head", "operations" (how many).

    Raises:
        FileNotFoundError: no such file.
        ExportCheckError: says what is wrong.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {path}.")
    try:
        metadata = records.metadata(path)
    except ValueError as error:
        raise ExportCheckError(str(error)) from error
    interpreter = _opened(path)
    described = {name: tuple(one.shape) for name, one in metadata.inputs.items()}
    found = {name: shape for name, (_, shape) in interpreter.inputs.items()}
    if described != found:
        raise ExportCheckError(f"{path} says that it takes {described}, but it takes {found}.")
    zeros = {
        n: np.zeros((2, *shape[1:]), dtype) for n, (dtype, shape) in interpreter.inputs.items()
    }
    try:
        answer = interpreter.run(zeros)
    except (RuntimeError, ValueError) as error:
        raise ExportCheckError(f"The LiteRT interpreter cannot run {path}: {error}") from error
    numbers = answer.get("values", answer.get("probabilities"))
    if numbers is None or len(numbers) != 2:
        raise ExportCheckError(f"{path} gives {sorted(answer)}, no probabilities and no values.")
    return {
        "quantization": metadata.quantization,
        "head": metadata.head,
        "operations": len(interpreter.operations),
    }


def _opened(path):
    try:
        interpreter = Interpreter(path)
    except (ValueError, RuntimeError) as error:
        raise ExportCheckError(f"The LiteRT interpreter refuses {path}: {error}") from error
    flex = [name for name in interpreter.operations if name.startswith("Flex")]
    if flex:
        raise ExportCheckError(f"The file needs ops that are not built in: {flex}.")
    return interpreter


def compare_tflite(path, served, quantization, io_dtype="float32", examples=None):
    """Compares a file with the Keras student.

    Args:
        path: the .tflite file.
        served: `student.Served`, the reference.
        quantization: says which `LIMITS` hold.
        io_dtype: dtype that float inputs and outputs must have.
        examples: `suitability.Examples`; default made-up ones, on which only the probabilities are
            compared, not the classes.

    Returns:
        dict: "examples", "mean_error", "largest_error" (of probabilities or numbers), "agreement"
        (top-1 or independent labels, all examples; not of numbers), "bytes"; with labelled examples
        "keras_accuracy", "accuracy" and "labelled".

    Raises:
        ExportCheckError: says what differed.
    """
    interpreter = _opened(path)
    described = {
        name: (_dtype(spec.dtype, io_dtype), (-1, *spec.shape[1:]))
        for name, spec in served.inputs.items()
    }
    if interpreter.inputs != described:
        raise ExportCheckError(f"The file takes {interpreter.inputs}; expected {described}.")
    feeds = served.sample(_MADE_UP) if examples is None else examples.feeds
    limits, expected = LIMITS[quantization], reference("serving_default", served, feeds)
    found = _run(interpreter, served, feeds)
    size = {"bytes": Path(path).stat().st_size}
    if served.task == "code":
        codes.require_consistent(found, "the file")
    if not served.names_classes:
        return {**compare_numbers(expected["values"], found["values"], limits), **size}
    expected, found = expected["probabilities"], found["probabilities"]
    report = compare_probabilities(expected, found, limits, examples is not None, served.task)
    if examples is not None:
        _require_several_classes(expected, served)
        if examples.labels is not None:
            report |= accuracy.compare(expected, found, examples.labels, served, limits.drop)
    return {**report, **size}


def compare_probabilities(expected, found, limits, compare_classes=True, task="classes"):
    """Errors and agreement of two arrays (examples, ..., classes) of probabilities.

    Args:
        expected, found: what the Keras student and the file give.
        limits: `Limits`.
        compare_classes: whether the classes must agree; False for made-up inputs.
        task: "labels" compares each independent label with its opposite.

    Raises:
        ExportCheckError: beyond the limits.
    """
    if found.shape != expected.shape:
        raise ExportCheckError(f"The file gives the shape {found.shape}, not {expected.shape}.")
    errors = np.abs(found - expected)
    if not errors.mean() <= limits.error:  # also true for NaN
        raise ExportCheckError(
            f"The probabilities differ from the Keras student's by {errors.mean():.3g} on average "
            f"(allowed: {limits.error:.3g}), at most by {errors.max():.3g}. For int8, calibrate "
            "with more images, drawn from the training data."
        )
    expected_rows, found_rows = (_rows(array, task) for array in (expected, found))
    ordered = np.sort(expected_rows, axis=-1)
    clear = ordered[:, -1] - ordered[:, -2] > CLEAR_MARGIN
    same = found_rows.argmax(-1) == expected_rows.argmax(-1)
    if compare_classes and clear.any() and same[clear].mean() < limits.agreement:
        raise ExportCheckError(
            f"The class agrees with the Keras student's on {same[clear].mean():.1%} of the clear "
            f"examples (at least {limits.agreement:.1%} are needed). For int8, calibrate with more "
            "images, drawn from the training data."
        )
    return {
        "examples": len(expected),
        "mean_error": float(errors.mean()),
        "largest_error": float(errors.max()),
        "agreement": float(same.mean()),
    }


def compare_numbers(expected, found, limits):
    """Errors of two arrays of numbers; ExportCheckError beyond the limits."""
    if found.shape != expected.shape:
        raise ExportCheckError(f"The file gives the shape {found.shape}, not {expected.shape}.")
    errors = np.abs(found - expected)
    allowed = limits.error * float(np.abs(expected).max(initial=0.0))
    if not errors.mean() <= allowed:  # also true for NaN
        raise ExportCheckError(
            f"The numbers differ from the Keras student's by {errors.mean():.3g} on average "
            f"(allowed: {allowed:.3g}, {limits.error:.3g} of the largest), at most by "
            f"{errors.max():.3g}. For int8, calibrate with more of the training data."
        )
    return {
        "examples": len(expected),
        "mean_error": float(errors.mean()),
        "largest_error": float(errors.max()),
    }


def _dtype(own, io_dtype):
    """What the interpreter calls the dtype of an input."""
    if own == tf.string:
        return np.dtype("S")
    return np.dtype(io_dtype if own == tf.float32 else own.as_numpy_dtype)


def _run(interpreter, served, feeds):
    """{output name: array}; a file that refuses the inputs fails the check."""
    parts = []
    for start in range(0, len(next(iter(feeds.values()))), _BATCH):
        part = {name: array[start : start + _BATCH] for name, array in feeds.items()}
        try:
            parts.append(interpreter.run(part))
        except (RuntimeError, ValueError) as error:
            raise ExportCheckError(
                f'The LiteRT interpreter cannot run student "{served.model.name}": {error}'
            ) from error
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _rows(probabilities, task):
    """Probabilities as rows of classes; an independent label has two, itself and not."""
    if task == "labels":
        return np.stack([1 - probabilities.ravel(), probabilities.ravel()], axis=-1)
    return probabilities.reshape(-1, probabilities.shape[-1])


def _require_several_classes(expected, served):
    """Says that examples on which the student always gives one answer check little."""
    answers = expected > 0.5 if served.task == "labels" else expected.argmax(-1)
    answers = answers.reshape(len(answers), -1)
    if len(answers) >= _MANY and (answers == answers[0]).all():
        warnings.warn(
            f'Student "{served.model.name}" gives the same answer to all {len(answers)} examples '
            "that its export is checked with, so the check shows little. Give examples of every "
            "class, as the student was trained on them.",
            category=ExportWarning,
            stacklevel=4,
        )
