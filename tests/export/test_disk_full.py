"""A full disk is said in plain words and leaves nothing behind, neither there nor in /tmp."""

import errno
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import keras
import pytest
import tensorflow as tf

from tfkd.export import errors, model_card, records, saved_model, tflite
from tfkd.export.errors import DiskFullError
from tfkd.export.saved_model import export_saved_model
from tfkd.export.tflite import export_tflite
from tfkd.runtime import warmup

EXPORTS = {
    "saved_model": lambda student, at, **options: export_saved_model(student, at / "m", **options),
    "tflite": lambda student, at, **options: export_tflite(student, at / "m.tflite", **options),
}


@pytest.fixture(scope="module")
def heavy():
    """A student of 200 kB of weights, whose graph takes some 20 to 50 kB more."""
    image = keras.Input((8, 8, 1))
    x = keras.layers.Dense(700)(keras.layers.Flatten()(image))
    return keras.Model(image, keras.layers.Dense(3)(x))


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    """The system's temporary folder for the test, which must stay empty."""
    folder = tmp_path / "system"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    monkeypatch.setenv("TMPDIR", str(folder))
    yield folder
    assert not list(folder.iterdir())


def files(folder):
    return [path for path in Path(folder).rglob("*") if path.is_file()]


@pytest.mark.parametrize(
    "name, kilobytes",
    [("saved_model", 100), ("saved_model", 208), ("saved_model", 232), ("tflite", 100)]
    + [("tflite", 208)],
)
def test_a_tiny_disk(heavy, temporary, tmp_path, name, kilobytes):
    """Too small for the weights, for what comes beside them, for the last documents."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(disk)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("a file system can only be mounted by root")
    try:
        with pytest.raises(DiskFullError) as failure:
            EXPORTS[name](heavy, disk, check=False)
        assert not files(disk)
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)
    message = str(failure.value)
    assert message.startswith(f'The disk that holds "{disk}') and "0.2 MB at least" in message
    assert "Free some space there" in message and "starts the export again" in message


def full(*_, **__):
    raise OSError(errno.ENOSPC, "No space left on device")


def full_for_tensorflow(*_, **__):
    raise tf.errors.ResourceExhaustedError(None, None, "x.data; No space left on device")


def over_quota(*_, **__):
    raise OSError(errno.EDQUOT, "Disk quota exceeded")


@pytest.mark.parametrize(
    "name, owner, attribute, fails",
    [
        ("saved_model", saved_model, "save_functions", full_for_tensorflow),
        ("saved_model", warmup, "write", over_quota),
        ("saved_model", model_card, "write", full),
        ("tflite", tflite, "save_functions", full_for_tensorflow),
        ("tflite", records.Metadata, "model_dump_json", full),
        ("tflite", Path, "write_bytes", over_quota),
    ],
)
def test_no_space_at_any_step(
    heavy, temporary, tmp_path, monkeypatch, name, owner, attribute, fails
):
    monkeypatch.setattr(owner, attribute, fails)
    with pytest.raises(DiskFullError, match="Nothing of it was kept. Free some space") as failure:
        EXPORTS[name](heavy, tmp_path, check=False)
    assert failure.value.errno == errno.ENOSPC
    assert not files(tmp_path)


def test_an_export_that_succeeds_leaves_nothing_in_the_temporary_folder(heavy, temporary, tmp_path):
    for name, export in EXPORTS.items():
        export(heavy, tmp_path / name, check=False)
    assert os.listdir(tmp_path / "tflite") == ["m.tflite"]
    assert os.listdir(tmp_path / "saved_model" / "m") == ["1"]


def test_what_a_killed_conversion_left_is_removed_by_the_next(heavy, tmp_path):
    left = tmp_path / ".partial-m.parts"
    left.mkdir()
    (left / "saved_model.pb").write_bytes(b"half")
    export_tflite(heavy, tmp_path / "m.tflite", check=False)
    assert os.listdir(tmp_path) == ["m.tflite"]


def test_other_errors_pass_as_they_are(tmp_path):
    for error in (OSError(errno.EACCES, "no"), ValueError("no"), KeyError("no")):
        with pytest.raises(type(error)) as found:
            with errors.on_disk(tmp_path, 1):
                raise error
        assert found.value is error
    with pytest.raises(DiskFullError, match="needs 1,000,000,000,000.0 MB at least"):
        with errors.on_disk(tmp_path / "not" / "yet", 10**18):
            pytest.fail("nothing is begun")
    chained = RuntimeError("could not be written")
    chained.__cause__ = OSError(errno.ENOSPC, "full")
    assert errors.is_disk_full(chained) and not errors.is_disk_full(RuntimeError("no"))
