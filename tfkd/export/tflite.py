"""A student as a TFLite file, in float32 or quantised, built-in ops only."""

import re
import shutil
import warnings
import zipfile
from pathlib import Path

import tensorflow as tf

from tfkd.data.resizing import STRETCH
from tfkd.export import calibration as calibrations
from tfkd.export import records, suitability, tflite_checks
from tfkd.export.errors import ExportCheckError, ExportWarning, is_disk_full, on_disk
from tfkd.export.records import LABELS_FILE, METADATA_FILE
from tfkd.export.saved_model import concrete, save_functions, space
from tfkd.export.student import examine
from tfkd.files import written

_LONGEST_REASON = 500  # characters of a converter's message
QUANTIZATIONS = ("float32", "float16", "dynamic", "int8")


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
    head=None,
    resize=STRETCH,
    files=None,
    examples=None,
    check=True,
):
    """Write a .tflite file with the signature "serving_default".

    It maps {"image"}, or the student's own inputs, to {"logits", "probabilities"}, of a regression
    to {"values"}, of a hash code to {"values", "codes", "packed"}; with `features`, a signature
    "features" gives the taps. The batch dimension is free, pixels are raw (0..255) where the
    student takes them so, normalisation is inside. Students of another precision are converted in
    float32. The file is also a zip archive with `labels.txt` and `tfkd.json` (labels, head, inputs,
    quantisation): read it with `read_metadata`.

    Args:
        student: a plain, built `keras.Model`.
        path: the file; it ends in ".tflite".
        quantization: "float32"; "float16" (weights); "dynamic" (int8 weights); "int8" (weights and
            activations; needs `calibration` and a student of one input).
        calibration: some hundred training images, an array or a `tf.data.Dataset`.
        io_dtype: "float32", or for int8 files "uint8" or "int8": dtype of inputs and outputs.
        labels: class names; default "0", "1", ….
        features: names of taps to give in a second signature.
        output: name of the output to serve, for students of several outputs.
        head: what its numbers mean, as for `export_saved_model`.
        resize: the rule by which images of another size were resized in training, as for
            `export_saved_model`; `tfkd.json` says it to those who prepare the pixels.
        files: {name: text} of further files that travel in the archive, such as a vocabulary.
        examples: real inputs to check with, best ones that were not trained on, as for
            `export_saved_model`; with labels the accuracy is compared too. Default: the calibration
            set, with a warning, for it cannot show that it is unlike the training data; made-up
            inputs where there is none.
        check: False leaves the checks out.

    Returns:
        `pathlib.Path` of the file.

    Raises:
        TypeError, ValueError: student, arguments or what was given to calibrate and check with
            cannot be used.
        ExportCheckError: the student has an operation that TFLite lacks, or the file does not do
            what the student does.
        DiskFullError: there is no space left for it. In each case nothing is written.
    """
    path = Path(path)
    if path.suffix != ".tflite":
        raise ValueError(f'A TFLite file ends in ".tflite"; given {path.name!r}.')
    _check_types(quantization, io_dtype)
    served = examine(student, labels, output, features, head=head, resize=resize)
    given = suitability.examples(examples, served)
    images = calibrations.checked(calibration, served) if quantization == "int8" else None
    if images is not None:
        suitability.require_alike(images, given)
    with on_disk(path, space(served.model)), written(path) as hidden:
        content = convert(served, quantization, images, io_dtype, hidden.with_suffix(".parts"))
        hidden.write_bytes(content)
        _add_metadata(hidden, served, quantization, io_dtype, files or {})
        if check:
            given = given or _calibration_as_examples(images, served)
            tflite_checks.compare_tflite(hidden, served, quantization, io_dtype, given)
    return path


def convert(served, quantization, calibration, io_dtype, directory):
    """The bytes of a TFLite model.

    Args:
        served, quantization, io_dtype: as for `export_tflite`, already checked.
        calibration: array of inputs, for int8; else None.
        directory: hidden directory for what the converter reads; removed again.
    """
    functions = {
        "serving_default": concrete(lambda feeds: served.outputs(feeds, names=False), served.inputs)
    }
    if served.features:
        functions["features"] = concrete(served.feature_maps, served.inputs)
    shutil.rmtree(directory, ignore_errors=True)  # of an export that was killed
    try:
        save_functions(functions, directory, served.model)
        converter = tf.lite.TFLiteConverter.from_saved_model(
            str(directory), signature_keys=list(functions)
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
            converter.representative_dataset = _representatives(functions, served, calibration)
            converter.inference_input_type = tf.dtypes.as_dtype(io_dtype)
            converter.inference_output_type = tf.dtypes.as_dtype(io_dtype)
        return converter.convert()
    except Exception as error:  # ConverterError, whose class is not public
        if is_disk_full(error):
            raise
        raise ExportCheckError(_reason(served, error)) from error
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def read_metadata(path):
    """What travels in the file, a dict: see `tfkd.export.records.Metadata`.

    Raises:
        ValueError: the file was not written by tfkd, or is damaged.
    """
    return records.metadata(path).model_dump()


def _reason(served, error):
    """What the converter's pages come down to: which operations it has no op for."""
    text, name = str(error), served.model.name
    custom = re.search(r"(?:Custom|Flex|Select TF) ops: *(.+)", text)
    missing = [custom[1].strip(". ")] if custom else re.findall(r"'tf\.(\w+)' op", text)
    if not missing:
        located = re.search(r'error: loc\(callsite\(fused\["(\w+):.*\)\)\): (.+)', text)
        said = f"at its operation {located[1]}: {located[2]}" if located else text.strip()
        said = said.split("\n")[0][:_LONGEST_REASON]
        return f'Model "{name}" cannot be converted to TFLite, {said or type(error).__name__}.'
    missing = ", ".join(dict.fromkeys(missing))
    advice = "Export it as a SavedModel, or build it of other layers."
    if "TensorList" in missing:
        advice = "Recurrent layers convert once they are built with unroll=True."
    elif "String" in missing or "Regex" in missing:
        advice = "Export it as a SavedModel, or export the part behind the layers that read text."
    return f'Model "{name}" has operations with no built-in TFLite op: {missing}. {advice}'


def _representatives(functions, served, images):
    (name,) = served.inputs

    def generate():
        for signature in functions:
            for image in images:
                yield signature, {name: image[None]}

    return generate


def _calibration_as_examples(images, served):
    if images is None:
        return None
    warnings.warn(
        f'The int8 file of student "{served.model.name}" is checked with its own calibration '
        "images: that these are unlike the training data would not show. Give "
        "examples=(images, labels) that were not calibrated with.",
        category=ExportWarning,
        stacklevel=3,
    )
    (name,) = served.inputs
    return suitability.Examples({name: images[: suitability.MAXIMUM_EXAMPLES]})


def _add_metadata(path, served, quantization, io_dtype, files):
    """Append a zip archive, as TFLite's own metadata tools do with associated files."""
    metadata = records.Metadata(
        name=served.model.name,
        labels=list(served.labels),
        head=served.head.name,
        assumed=served.assumed,
        parameters=served.model.count_params(),
        quantization=quantization,
        inputs={
            name: records.Input(
                dtype=io_dtype if spec.dtype.is_floating else spec.dtype.name,
                shape=[-1, *spec.shape[1:]],
                values="raw pixels 0..255" if served.takes_pixels else "as in training",
            )
            for name, spec in served.inputs.items()
        },
        resize=served.resize,
    )
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(METADATA_FILE, metadata.model_dump_json())
        archive.writestr(LABELS_FILE, "".join(f"{label}\n" for label in served.labels))
        for name, text in files.items():
            archive.writestr(name, text)


def _check_types(quantization, io_dtype):
    if quantization not in QUANTIZATIONS:
        raise ValueError(f"quantization must be one of {QUANTIZATIONS}; given {quantization!r}.")
    allowed = ("float32", "uint8", "int8") if quantization == "int8" else ("float32",)
    if io_dtype not in allowed:
        raise ValueError(
            f"io_dtype of a {quantization} file must be one of {allowed}; given {io_dtype!r}."
        )
