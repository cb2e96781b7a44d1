"""What travels with an export is read as data of somebody else."""

import json
import shutil
import zipfile

import pytest

from tfkd.export import checks, loading, records
from tfkd.export.errors import ExportCheckError

CHECKSUM = "0" * 64


@pytest.mark.parametrize(
    "content, message",
    [
        ("", "manifest.json is no readable manifest"),
        ('{"files": {"saved_model.pb": ', "manifest.json is no readable manifest"),
        ("[]", "manifest.json is no readable manifest"),
        ('{"file": {}}', "files: Field required"),
        ({"files": ["saved_model.pb"]}, "files: Input should be an object"),
        ({"files": {"saved_model.pb": 7}}, "files.saved_model.pb: Input should be a valid string"),
        ({"files": {"saved_model.pb": "junk"}}, "String should match pattern"),
        ({"files": {"../secret": CHECKSUM}}, "'../secret' does not lie inside the directory"),
        ({"files": {"/etc/passwd": CHECKSUM}}, "'/etc/passwd' does not lie inside"),
        ({"files": {"a/../../b": CHECKSUM}}, "does not lie inside"),
    ],
)
def test_a_manifest_that_is_none_is_named(tmp_path, content, message):
    path = tmp_path / "assets.extra" / "manifest.json"
    path.parent.mkdir()
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    with pytest.raises(ExportCheckError, match=message):
        checks.check_saved_model(tmp_path)


def write(path, content, name=records.METADATA_FILE):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, content)


GOOD = {
    "name": "student", "labels": ["a", "b"], "head": "logits", "assumed": "", "parameters": 3,
    "quantization": "int8",
    "resize": "crop",
    "inputs": {"image": {"dtype": "int8", "shape": [-1, 8, 8, 1], "values": "raw pixels 0..255"}},
}  # fmt: skip


@pytest.mark.parametrize(
    "content, message",
    [
        ("{", "cannot be read: Invalid JSON"),
        ("7", "cannot be read"),
        (json.dumps(GOOD | {"labels": "ab"}), "labels: Input should be a valid (list|array)"),
        (json.dumps(GOOD | {"labels": [1, 2]}), "labels.0: Input should be a valid string"),
        (json.dumps(GOOD | {"parameters": "many"}), "parameters: Input should be a valid integer"),
        (" " * 20_000_000, "has more than 16,000,000 bytes"),
    ],
)
def test_metadata_that_is_none_is_named(tmp_path, content, message):
    path = tmp_path / "student.tflite"
    write(path, json.dumps(GOOD))
    assert records.metadata(path).model_dump() == GOOD
    earlier = {name: value for name, value in GOOD.items() if name != "resize"}
    write(path, json.dumps(earlier))
    assert records.metadata(path).resize == "stretch"
    write(path, content)
    with pytest.raises(ValueError, match=f"student.tflite carries as tfkd.json .*{message}"):
        records.metadata(path)
    write(path, json.dumps(GOOD), "other.json")
    with pytest.raises(ValueError, match="tfkd did not write it"):
        records.metadata(path)


def test_a_damaged_archive_is_named(tmp_path):
    path = tmp_path / "student.tflite"
    write(path, json.dumps(GOOD))
    damaged = bytearray(path.read_bytes())
    damaged[45] ^= 0xFF  # within the compressed text
    path.write_bytes(damaged)
    with pytest.raises(ValueError, match="student.tflite carr"):
        records.metadata(path)


def test_a_whole_manifest_is_read(version, tmp_path):
    copy = shutil.copytree(version, tmp_path / "1")
    found = records.manifest(copy / "assets.extra" / "manifest.json")
    assert found.files == loading.checksums(copy)
