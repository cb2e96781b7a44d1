"""Small data sets written on the spot: folders of images, prepared TFDS sets."""

import io

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds
from PIL import Image


def _write_images(folder, count, size=(6, 5), channels=3, suffix=".png", first_value=0):
    """Writes `count` images whose pixels all equal first_value + their number."""
    folder.mkdir(parents=True)
    encode = tf.io.encode_png if suffix == ".png" else tf.io.encode_jpeg
    for number in range(count):
        image = np.full((*size, channels), first_value + number, np.uint8)
        (folder / f"{number:03d}{suffix}").write_bytes(encode(image).numpy())


@pytest.fixture(autouse=True)
def cache_home(tmp_path_factory, monkeypatch):
    """The user's cache directory: an empty one for each test."""
    directory = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("XDG_CACHE_HOME", str(directory))
    return directory


_TINY = io.BytesIO()
Image.new("RGB", (2, 2)).save(_TINY, "PNG")


@pytest.fixture
def make_tree():
    """Function (root, paths) that writes files: black images of 2x2, or text for `.txt`; a path
    that ends with a slash is an empty folder."""

    def make(root, paths):
        for path in paths:
            if path.endswith("/"):
                (root / path).mkdir(parents=True, exist_ok=True)
                continue
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_bytes(b"note" if path.endswith(".txt") else _TINY.getvalue())
        return root

    return make


@pytest.fixture
def flat_folder(tmp_path):
    """20 images of "ant" (pixels 0..19), 10 of "bee" (pixels 100..109), of 6x5."""
    root = tmp_path / "insects"
    _write_images(root / "ant", 20)
    _write_images(root / "bee", 10, first_value=100)
    return root


def _prepare(data_dir, splits=None, size=(4, 4), test_label=None):
    """Prepares a TFDS set `tiny_squares`: 4x4 images of pixels n, labels n % 3.

    In the test split pixels are 100 + n, and labels `test_label` if one is given.
    """
    splits = splits or {"train": 30, "test": 9}

    class TinySquares(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        VERSION = tfds.core.Version("1.0.0")

        def _info(self):
            features = {
                "image": tfds.features.Image(shape=(*size, 3)),
                "label": tfds.features.ClassLabel(names=["red", "green", "blue"]),
            }
            return tfds.core.DatasetInfo(
                builder=self,
                features=tfds.features.FeaturesDict(features),
                supervised_keys=("image", "label"),
                disable_shuffling=True,
            )

        def _split_generators(self, dl_manager):
            return {split: self._generate_examples(split) for split in splits}

        def _generate_examples(self, split=None):
            for number in range(splits[split]):
                value = number + (100 if split == "test" else 0)
                label = test_label if test_label and split == "test" else number % 3
                yield number, {"image": np.full((4, 4, 3), value, np.uint8), "label": label}

    builder = TinySquares(data_dir=data_dir)
    builder.download_and_prepare()
    return builder


@pytest.fixture(scope="session")
def prepared(tmp_path_factory):
    """A TFDS data directory that holds `tiny_squares`: 30 train and 9 test images of 4x4."""
    data_dir = tmp_path_factory.mktemp("tfds")
    _prepare(data_dir)
    return data_dir


@pytest.fixture
def write_images():
    """Function (folder, count, size, channels, suffix, first_value) that writes plain images."""
    return _write_images


@pytest.fixture
def prepare():
    """Function (data_dir, splits, size, test_label) that prepares a TFDS set."""
    return _prepare
