import numpy as np
import pytest

import tfkd
from tfkd.export import tflite_checks
from tfkd.export.errors import ExportCheckError
from tfkd.export.student import examine
from tfkd.export.tflite import convert, export_tflite
from tfkd.export.tflite_checks import Limits, compare_probabilities, compare_tflite

LOOSE = Limits(error=1.0, agreement=0.9, drop=1.0)


def test_errors_and_agreement_by_hand():
    expected = np.array([[0.9, 0.1], [0.2, 0.8], [0.52, 0.48], [0.7, 0.3]])
    found = np.array([[0.8, 0.2], [0.2, 0.8], [0.48, 0.52], [0.7, 0.3]])
    report = compare_probabilities(expected, found, LOOSE)
    assert report["examples"] == 4
    assert report["mean_error"] == pytest.approx((0.1 + 0.04) / 4)
    assert report["largest_error"] == pytest.approx(0.1)
    assert report["agreement"] == 0.75  # the third image is no clear case, so it passes


def test_a_clear_disagreement_and_a_large_error_and_nan_fail():
    expected = np.array([[0.9, 0.1], [0.2, 0.8]])
    with pytest.raises(ExportCheckError, match="on 50.0% of the clear examples"):
        compare_probabilities(expected, np.array([[0.1, 0.9], [0.2, 0.8]]), LOOSE)
    with pytest.raises(ExportCheckError, match="by 0.05 on average"):
        compare_probabilities(expected, expected + 0.05, Limits(0.01, 0.5, 1.0))
    with pytest.raises(ExportCheckError, match="by nan"):
        compare_probabilities(expected, expected * np.nan, LOOSE)
    with pytest.raises(ExportCheckError, match="gives the shape"):
        compare_probabilities(expected, expected[:1], LOOSE)


@pytest.fixture(scope="module")
def content(student, tmp_path_factory):
    directory = tmp_path_factory.mktemp("content") / "parts"
    content = convert(examine(student), "float32", None, "float32", directory)
    assert not directory.exists()
    return content


def test_a_corrupted_or_foreign_file_is_found(student, build_student, content, tmp_path):
    served = examine(student)
    path = tmp_path / "student.tflite"
    path.write_bytes(content)
    report = compare_tflite(path, served, "float32")
    assert report["bytes"] == len(content) and report["mean_error"] < 1e-6
    with pytest.raises(ExportCheckError, match=r"takes .*12, 12.* expected .*14, 14"):
        compare_tflite(path, examine(build_student(size=14)), "float32")
    other = build_student()
    other.get_layer("logits").bias.assign([2.0, 0.0, 0.0])
    with pytest.raises(ExportCheckError, match="differ from the Keras student's"):
        compare_tflite(path, examine(other), "float32")
    path.write_bytes(b"junk" * 100)
    with pytest.raises(ExportCheckError, match="refuses"):
        compare_tflite(path, served, "float32")


def test_an_op_that_is_not_built_in_is_found(student, content, tmp_path, monkeypatch):
    class WithFlex(tflite_checks.Interpreter):
        def __init__(self, path):
            super().__init__(path)
            self.operations.append("FlexTan")

    served = examine(student)
    (tmp_path / "student.tflite").write_bytes(content)
    monkeypatch.setattr(tflite_checks, "Interpreter", WithFlex)
    with pytest.raises(ExportCheckError, match=r"not built in: \['FlexTan'\]"):
        compare_tflite(tmp_path / "student.tflite", served, "float32")


def test_a_file_is_checked_by_itself(student, tmp_path):
    path = export_tflite(student, tmp_path / "student.tflite", check=False)
    found = tfkd.export.check_tflite(path)
    assert (found["quantization"], found["head"]) == ("float32", "logits")
    assert found["operations"] > 3
    whole = path.read_bytes()
    for content, message in (
        (whole[: len(whole) // 2], "tfkd did not write it"),
        (b"junk" + whole[4:], "refuses"),
        (b"", "tfkd did not write it"),
    ):
        path.write_bytes(content)
        with pytest.raises(ExportCheckError, match=message):
            tfkd.export.check_tflite(path)
    with pytest.raises(FileNotFoundError, match="no file"):
        tfkd.export.check_tflite(tmp_path / "nothing.tflite")


def test_every_public_name_is_there():
    assert all(callable(getattr(tfkd.export, name)) for name in tfkd.export.__all__)
