import shutil
import zipfile

import keras
import numpy as np
import pytest

from tfkd.runtime.exported_models import open_exported, open_keras


@pytest.fixture
def copy(version, tmp_path):
    return shutil.copytree(version, tmp_path / "1")


def test_labels_are_those_of_the_export(copy, labels):
    with open_exported(copy) as exported:
        assert exported.labels == list(labels)
    (copy / "assets.extra" / "labels.json").unlink()
    with open_exported(copy.parent) as exported:
        assert exported.labels is None


@pytest.mark.parametrize("text", ["", "nonsense", '{"a": 1}', "[1, 2]", '["a", "a"]', "[" * 9999])
def test_damaged_labels_are_named(copy, text):
    (copy / "assets.extra" / "labels.json").write_text(text)
    with pytest.raises(ValueError, match="assets.extra/labels.json holds no class names"):
        open_exported(copy)


@pytest.mark.parametrize("text", ["", "[]", '{"labels": [1]}', '{"labels": "ab"}'])
def test_damaged_labels_of_a_tflite_file_are_named(tmp_path, text):
    path = tmp_path / "model.tflite"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("tfkd.json", text)
    with pytest.raises(ValueError, match="tfkd.json in .*model.tflite holds no class"):
        open_exported(path)


def test_a_model_of_two_inputs_is_refused(tmp_path):
    sides = [keras.Input((1,), name=name) for name in ("left", "right")]
    model = keras.Model(sides, keras.layers.Concatenate()(sides))
    model.export(str(tmp_path / "pair"), verbose=False)
    with pytest.raises(ValueError, match=r"of one input: its inputs are \['left', 'right'\]"):
        open_exported(tmp_path / "pair")


def test_nothing_is_left_of_a_keras_model_that_cannot_be_saved(tmp_path, student, monkeypatch):
    def full(self, path, include_optimizer):
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(type(student), "save", full)
    with pytest.raises(OSError, match="No space"):
        open_keras(student, directory=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_left_of_a_keras_model_after_closing(tmp_path, student, images):
    with open_keras(student, directory=tmp_path) as opened:
        found = opened.logits(images[:2])
        assert len(list(tmp_path.iterdir())) == 1
    np.testing.assert_allclose(found, student(images[:2].astype("float32")), atol=1e-5)
    assert list(tmp_path.iterdir()) == []
