"""A student as a TFLite file, in float32 or quantised, built-in ops only."""

import json
import re
import tempfile
import zipfile
from pathlib import Path

import tensorflow as tf

from tfkd.export import calibration as calibrations
from tfkd.export import tflite_checks
from tfkd.export.errors import ExportCheckError
from tfkd.export.saved_model import concrete, save_functions
from tfkd.export.student import examine
from tfkd.files import written

QUANTIZATIONS = ("float32", "float16", "dynamic", "int8")
METADATA_FILE, LABELS_FILE = "tfkd.json", "labels.txt"


def export_tflite(
    student,
    path,
    *,
    quantization="float32",
    calibration=None,
    io_dtype="float32",
    labels=None,
    features=None,
    output=None,
    examples=None,
    check=True,
):
    """Write a .tflite file whose signature "serving_default" maps {"image"} to {"logits",
    "probabilities"}; with `features`, a signature "features" gives the taps.

    The batch dimension is free, pixels are raw (0..255), normalisation is inside. Mixed-precision
    students are converted in float32. The file is also a zip archive with `labels.txt` and
    `tfkd.json` (labels, normalisation, quantisation): read it with `read_metadata`.

    Args:
        student: a plain, built `keras.Model` of one image or one other input.
        path: the file; it ends in ".tflite".
        quantization: "float32"; "float16" (weights); "dynamic" (int8 weights); "int8" (weights and
            activations; needs `calibration`).
        calibration: some hundred training images, an array or a `tf.data.Dataset`.
        io_dtype: "float32", or for int8 files "uint8" or "int8": dtype of inputs and outputs.
        labels: class names; default "0", "1", ….
        features: names of taps to give in a second signature.
        output: name of the output with the logits, for students of several outputs.
        examples: real images to check with; default: the calibration set, else random images.
        check: False leaves the checks out.

    Returns:
        `pathlib.Path` of the file.

    Raises:
        TypeError, ValueError: student or arguments cannot be exported. ExportCheckError: the file
        does not do what the student does; then nothing is written.
    """
    path = Path(path)
    if path.suffix != ".tflite":
        raise ValueError(f'A TFLite file ends in ".tflite"; given {path.name!r}.')
    _check_types(quantization, io_dtype)
    served = examine(student, labels, output, features)
    if len(served.inputs) > 1:
        raise ValueError(
            f"TFLite export takes students of one input; this has {list(served.inputs)}."
        )
    images = calibrations.checked(calibration, served) if quantization == "int8" else None
    content = convert(served, quantization, images, io_dtype)
    with written(path) as hidden:
        hidden.write_bytes(content)
        _add_metadata(hidden, served, quantization, io_dtype)
        if check:
            sample = examples if examples is not None else images
            tflite_checks.compare_tflite(hidden, served, quantization, io_dtype, sample)
    return path


def convert(served, quantization="float32", calibration=None, io_dtype="float32"):
    """The bytes of a TFLite model; arguments as for `export_tflite`, already checked."""

    def classify(feeds):
        logits = served.logits(feeds)
        return {"logits": logits, "probabilities": served.probabilities(logits)}

    functions = {"serving_default": concrete(classify, served.inputs)}
    if served.features:
        functions["features"] = concrete(served.feature_maps, served.inputs)
    with tempfile.TemporaryDirectory() as directory:
        save_functions(functions, directory)
        converter = tf.lite.TFLiteConverter.from_saved_model(
            directory, signature_keys=list(functions)
        )
        integers = quantization == "int8"
        operations = (
            tf.lite.OpsSet.TFLITE_BUILTINS_INT8 if integers else tf.lite.OpsSet.TFLITE_BUILTINS
        )
        converter.target_spec.supported_ops = [operations]
        if quantization != "float32":
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
        if quantization == "float16":
            converter.target_spec.supported_types = [tf.float16]
        if integers:
            converter.representative_dataset = _representatives(functions, calibration)
            converter.inference_input_type = tf.dtypes.as_dtype(io_dtype)
            converter.inference_output_type = tf.dtypes.as_dtype(io_dtype)
        try:
            return converter.convert()
        except Exception as error:  # ConverterError, whose class is not public
            raise ExportCheckError(_reason(served, error)) from error


def read_metadata(path):
    """What travels in the file: dict with "name", "labels", "head", "quantization", "input", ….

    Raises:
        ValueError: the file was not written by tfkd.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            return json.loads(archive.read(METADATA_FILE))
    except (zipfile.BadZipFile, KeyError, ValueError) as error:
        raise ValueError(f"{path} carries no {METADATA_FILE}; tfkd did not write it.") from error


def _reason(served, error):
    text = str(error)
    custom = re.search(r"(?:Custom|Flex|Select TF) ops: *(.+)", text)
    if custom:
        return f'Model "{served.model.name}" has ops with no built-in TFLite op: {custom[1]}.'
    return f'Model "{served.model.name}" cannot be converted to TFLite: {text}'


def _representatives(functions, images):
    def generate():
        for signature in functions:
            for image in images:
                yield signature, {"image": image[None]}

    return generate


def _add_metadata(path, served, quantization, io_dtype):
    """Append a zip archive, as TFLite's own metadata tools do with associated files."""
    metadata = {
        "name": served.model.name,
        "labels": list(served.labels),
        "head": served.head,
        "parameters": served.model.count_params(),
        "quantization": quantization,
        "input": {
            "dtype": io_dtype,
            "shape": [-1, *next(iter(served.inputs.values())).shape[1:]],
            "values": "raw pixels 0..255" if served.image_shape else "as in training",
            "normalization": {"mean": 0.0, "std": 1.0, "inside_model": True},
        },
    }
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(METADATA_FILE, json.dumps(metadata, ensure_ascii=False))
        archive.writestr(LABELS_FILE, "".join(f"{label}\n" for label in served.labels))


def _check_types(quantization, io_dtype):
    if quantization not in QUANTIZATIONS:
        raise ValueError(f"quantization must be one of {QUANTIZATIONS}; given {quantization!r}.")
    allowed = ("float32", "uint8", "int8") if quantization == "int8" else ("float32",)
    if io_dtype not in allowed:
        raise ValueError(
            f"io_dtype of a {quantization} file must be one of {allowed}; given {io_dtype!r}."
        )
