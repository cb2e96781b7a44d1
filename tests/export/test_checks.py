import dataclasses
import random
import shutil

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfkd.export import checks, loading
from tfkd.export.errors import ExportCheckError
from tfkd.export.saved_model import save_functions, signature_functions
from tfkd.export.student import examine
from tfkd.heads import Head
from tfkd.runtime import warmup
from tfkd.runtime.worker import Worker


@pytest.fixture
def copy(version, tmp_path):
    return shutil.copytree(version, tmp_path / "1")


def saved(served, directory):
    functions = signature_functions(served)
    save_functions(functions, directory, served.model)
    return functions


@pytest.fixture(scope="module")
def once(student, tmp_path_factory):
    """The student as a SavedModel, traced and saved once: (served, functions, directory)."""
    served, directory = examine(student), tmp_path_factory.mktemp("saved")
    return served, saved(served, directory), directory


@pytest.fixture
def written(once, tmp_path):
    """The same with a directory of the test's own."""
    served, functions, directory = once
    return served, functions, shutil.copytree(directory, tmp_path / "1")


def test_a_whole_version_passes(version):
    assert checks.check_saved_model(version) == {"files": 7, "warmup_records": 6}


def test_any_flipped_bit_and_any_missing_file_is_found(copy, version):
    files = sorted(path for path in copy.rglob("*") if path.is_file())
    moments = random.Random(0)
    for file in files:
        if file.name == "manifest.json":
            continue
        whole = file.read_bytes()
        flipped = bytearray(whole)
        flipped[moments.randrange(len(flipped))] ^= 1 << moments.randrange(8)
        file.write_bytes(flipped)
        with pytest.raises(ExportCheckError, match=f"{file.name} is changed"):
            checks.check_saved_model(copy)
        file.unlink()
        with pytest.raises(ExportCheckError, match=f"{file.name} is missing"):
            checks.check_saved_model(copy)
        file.write_bytes(whole)
    (copy / "assets.extra" / "teacher.keras").write_text("stray")
    with pytest.raises(ExportCheckError, match="teacher.keras is foreign"):
        checks.check_saved_model(copy)


def test_without_a_manifest_or_a_directory(copy):
    (copy / "assets.extra" / "manifest.json").unlink()
    with pytest.raises(ExportCheckError, match="manifest.json is no readable manifest"):
        checks.check_saved_model(copy)
    with pytest.raises(FileNotFoundError):
        checks.check_saved_model(copy / "nothing")


@pytest.mark.parametrize(
    "file, size, message",
    [
        ("saved_model.pb", 1000, "at loading"),
        ("variables/variables.data-00000-of-00001", 1000, "variables cannot be read"),
        ("variables/variables.index", 0, "variables cannot be read"),
    ],
)
def test_a_truncated_file_is_found(written, file, size, message):
    served, functions, directory = written
    with open(directory / file, "r+b") as opened:
        opened.truncate(size)
    with pytest.raises(ExportCheckError, match=message):
        checks.compare_saved_model(directory, served, functions)


def test_other_weights_are_found(once, build_student):
    _, functions, directory = once
    other = build_student()
    other.get_layer("logits").bias.assign([0.0, 0.1, 0.0])
    served = examine(other)
    with pytest.raises(ExportCheckError, match="not the student's"):
        checks.compare_saved_model(directory, served, functions)


def test_a_passenger_is_found(student, once, tmp_path):
    served, functions, _ = once
    module = tf.Module()
    module.weights = [v.value for v in student.variables]
    module.teacher = tf.Variable(tf.ones((3, 3)))
    tf.saved_model.save(module, str(tmp_path), signatures=functions)
    with pytest.raises(ExportCheckError, match="stores teacher/.*shape \\(3, 3\\)"):
        checks.compare_saved_model(tmp_path, served, functions)


def test_a_fixed_batch_a_lost_signature_and_xla_are_found(student, once, tmp_path):
    served, functions, _ = once

    def save_as(name, signatures):
        module = tf.Module()
        module.weights = [v.value for v in student.variables]
        tf.saved_model.save(module, str(tmp_path / name), signatures=signatures)
        checks.compare_saved_model(tmp_path / name, served, functions)

    with pytest.raises(ExportCheckError, match='no signature "serving_default"'):
        save_as("lost", {"serve_bytes": functions["serve_bytes"]})
    with pytest.raises(ExportCheckError, match='Signature "serve_bytes" gives None'):
        save_as("other", {"serving_default": functions["serving_default"]})

    def traced(batch, **options):
        spec = tf.TensorSpec((batch, 12, 12, 3), name="image")
        function = tf.function(lambda image: {"logits": student(image)}, **options)
        return {"serving_default": function.get_concrete_function(image=spec)}

    with pytest.raises(ExportCheckError, match="no free batch dimension"):
        save_as("fixed", traced(4))
    with pytest.raises(ExportCheckError, match="demand XLA"):
        save_as("compiled", traced(None, jit_compile=True))


def test_a_savedmodel_that_only_python_can_run_is_found(student, once, tmp_path):
    """`tf.saved_model.save(keras_model)` loads in Python and nowhere else."""
    served, functions, _ = once
    tf.saved_model.save(student, str(tmp_path))
    batch = np.zeros((1, 12, 12, 3), "float32")
    python = tf.saved_model.load(str(tmp_path)).signatures["serving_default"]
    assert next(iter(python(tf.constant(batch)).values())).shape == (1, 3)
    with pytest.raises(ExportCheckError):
        checks.compare_saved_model(tmp_path, served, functions)
    with pytest.raises(ExportCheckError, match="Could not find variable"):
        with Worker(tmp_path) as worker:
            name = next(iter(worker.signatures["serving_default"]["inputs"]))
            loading.attempt("a run", worker.run, "serving_default", {name: batch})


def test_a_bad_warmup_record_fails_the_version(written):
    served, functions, directory = written
    warmup.write(directory, "student", [("serving_default", {"image": np.zeros((1, 5, 5, 3))})])
    with pytest.raises(ExportCheckError, match="at a warm-up record"):
        checks.compare_saved_model(directory, served, functions)


@pytest.mark.parametrize(
    "activation, wrong, said",
    [
        (None, "probabilities", "outside of 0 and 1"),
        ("softmax", "logits", "is a distribution over the classes"),
        ("softmax", "independent_logits", "is a distribution over the classes"),
        ("sigmoid", "probabilities", "do not sum to 1"),
    ],
)
def test_a_wrong_head_cannot_pass_the_check(build_student, images, activation, wrong, said):
    served = examine(build_student(3, activation))
    served = dataclasses.replace(served, head=Head.get(wrong))
    with pytest.raises(ExportCheckError, match=f'for "{wrong}", but .*{said}'):
        checks.reference("serving_default", served, {"image": images})


def test_what_is_served_beside_the_probabilities_must_follow_from_them(student, images):
    served = examine(student)
    found = {name: t.numpy() for name, t in served.outputs({"image": images}).items()}
    checks._check_consistency(found, served, "the answer")
    for name, value in (
        ("logits", found["logits"] * 1.01),
        ("class_id", (found["class_id"] + 1) % 3),
        ("label", np.roll(found["label"], 1)),
    ):
        with pytest.raises(ExportCheckError, match=f'"{name}"'):
            checks._check_consistency(found | {name: value}, served, "the answer")


def test_nan_is_never_within_tolerance(build_student, tmp_path):
    student = build_student()
    student.get_layer("logits").bias.assign([float("nan"), 0.0, 0.0])
    served = examine(student)
    with pytest.raises(ExportCheckError, match="differs from the Keras student by nan"):
        checks.compare_saved_model(tmp_path, served, saved(served, tmp_path))


def test_openvino_reads_the_same_numbers(version, student, images):
    """A second reader that shares no code with TensorFlow."""
    openvino = pytest.importorskip("openvino")
    model = openvino.convert_model(str(version))
    compiled = openvino.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    found = compiled({"image": images.astype("float32")})
    expected = keras.ops.softmax(student(images.astype("float32"))).numpy()
    np.testing.assert_allclose(found["probabilities"], expected, atol=1e-5)
