import os
import zipfile

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfkd.export import tflite_checks
from tfkd.export.errors import ExportCheckError
from tfkd.export.tflite import export_tflite, read_metadata
from tfkd.runtime.interpreter import Interpreter


@pytest.fixture(scope="module")
def truth(student, images):
    return keras.ops.softmax(student(images.astype("float32"), training=False)).numpy()


@pytest.mark.parametrize(
    "quantization, io_dtype, error",
    [
        ("float32", "float32", 1e-5),
        ("float16", "float32", 1e-3),
        ("dynamic", "float32", 5e-3),
        ("int8", "float32", 1e-2),
        ("int8", "uint8", 1e-2),
        ("int8", "int8", 1e-2),
    ],
)
def test_every_variant_equals_keras_within_its_precision(
    student, images, truth, labels, tmp_path, quantization, io_dtype, error
):
    options = {"calibration": images, "examples": images} if quantization == "int8" else {}
    path = export_tflite(
        student,
        tmp_path / "deep" / "student.tflite",
        quantization=quantization,
        io_dtype=io_dtype,
        labels=labels,
        **options,
    )
    assert os.listdir(path.parent) == ["student.tflite"]
    interpreter = Interpreter(path)
    assert interpreter.inputs == {"image": (np.dtype(io_dtype), (-1, 12, 12, 3))}
    assert not [name for name in interpreter.operations if name.startswith("Flex")]
    for size in (1, 7, 30):
        found = interpreter.run({"image": images[:size]})
        assert np.abs(found["probabilities"] - truth[:size]).mean() < error
    assert read_metadata(path)["labels"] == list(labels)
    assert read_metadata(path)["head"] == "logits"
    assert read_metadata(path)["inputs"]["image"] == {
        "dtype": io_dtype,
        "shape": [-1, 12, 12, 3],
        "values": "raw pixels 0..255",
    }
    assert zipfile.ZipFile(path).read("labels.txt").decode().split() == list(labels)


def test_quantised_files_hold_the_weights_in_fewer_bytes(tmp_path, build_student):
    student = build_student(units=3)
    wide = keras.layers.Dense(3, name="wide")(
        keras.layers.Dense(512, activation="relu")(
            keras.layers.Flatten()(student.get_layer("stage1_out").output)
        )
    )
    student = keras.Model(student.input, wide)
    assert student.count_params() > 100_000
    images = np.random.default_rng(0).integers(0, 256, (20, 12, 12, 3))
    sizes = {
        name: export_tflite(
            student,
            tmp_path / f"{name}.tflite",
            quantization=name,
            calibration=images,
            check=False,
        )
        .stat()
        .st_size
        for name in ("float32", "float16", "dynamic", "int8")
    }
    assert sizes["float16"] < 0.55 * sizes["float32"]
    assert sizes["dynamic"] < 0.3 * sizes["float32"]
    assert sizes["int8"] < 0.3 * sizes["float32"]


def test_taps_are_a_signature_of_their_own(student, images, tmp_path):
    path = export_tflite(student, tmp_path / "s.tflite", features=["stage1_out"])
    interpreter = Interpreter(path)
    assert sorted(interpreter.signatures) == ["features", "serving_default"]
    stage = keras.Model(student.input, student.get_layer("stage1_out").output)
    found = interpreter.run({"image": images.astype("float32")}, "features")
    np.testing.assert_allclose(found["stage1_out"], stage(images.astype("float32")), atol=1e-5)


def test_a_mixed_precision_student_becomes_a_file_of_built_in_ops(build_student, images, tmp_path):
    keras.config.set_dtype_policy("mixed_float16")
    student = build_student()
    keras.config.set_dtype_policy("float32")
    found = Interpreter(export_tflite(student, tmp_path / "s.tflite")).run({"image": images})
    exact = build_student()(images.astype("float32")).numpy()
    np.testing.assert_allclose(found["logits"], exact, atol=1e-4)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"quantization": "int4"}, "quantization must be one of"),
        ({"io_dtype": "uint8"}, "io_dtype of a float32 file"),
        ({"quantization": "int8", "io_dtype": "float16"}, "io_dtype of a int8 file"),
        ({"quantization": "int8"}, "int8 needs calibration images"),
        ({"labels": ["a"]}, "1 labels were given"),
        ({"path": "student.bin"}, 'ends in ".tflite"'),
    ],
)
def test_wrong_arguments_are_refused_before_anything_is_written(
    student, tmp_path, options, message
):
    name = options.pop("path", "student.tflite")
    with pytest.raises(ValueError, match=message):
        export_tflite(student, tmp_path / name, **options)
    assert os.listdir(tmp_path) == []


def test_a_failed_check_leaves_the_old_file_alone(student, images, tmp_path, monkeypatch):
    path = export_tflite(student, tmp_path / "student.tflite")
    before = path.read_bytes()
    limits = {"int8": tflite_checks.Limits(error=1e-9, agreement=1.0, drop=1.0)}
    monkeypatch.setattr(tflite_checks, "LIMITS", limits)
    with pytest.raises(ExportCheckError, match="differ from the Keras student's by .* on average"):
        export_tflite(student, path, quantization="int8", calibration=images, examples=images)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["student.tflite"]


def test_an_op_that_tflite_lacks_is_named(build_student, tmp_path):
    student = build_student()

    class Digamma(keras.layers.Layer):
        def call(self, x):
            return tf.math.digamma(x)

    odd = keras.Model(student.input, Digamma()(student.output))
    with pytest.raises(ExportCheckError, match="no built-in TFLite op.*Digamma"):
        export_tflite(odd, tmp_path / "odd.tflite")
    assert os.listdir(tmp_path) == []


def test_a_foreign_file_has_no_metadata(tmp_path):
    (tmp_path / "x.tflite").write_bytes(b"something else")
    with pytest.raises(ValueError, match="tfkd did not write it"):
        read_metadata(tmp_path / "x.tflite")
