"""Images with several labels: the built-in groups, a folder with a table, a TFDS set; bad input."""

import csv

import keras
import numpy as np
import pytest
import tensorflow_datasets as tfds

from tfkd.data import labelled_pictures, multi_label

RANDOM = np.random.default_rng(0)
IMAGES = RANDOM.integers(0, 256, (6, 8, 10, 3)).astype("uint8")
LABELS = np.array([[1, 0], [0, 0], [1, 1], [0, 1], [1, 0], [0, 1]])
NAMES = [f"some/{number}.png" for number in range(6)]


def write(folder, rows, heading=("file", "wet", "warm")):
    (folder / "some").mkdir(exist_ok=True)
    for name, pixels in zip(NAMES, IMAGES, strict=True):
        keras.utils.save_img(folder / name, pixels, scale=False)
    with open(folder / "labels.csv", "w", newline="") as file:
        csv.writer(file).writerows([heading, *rows])


def rows_of(labels=LABELS):
    return [[name, *own] for name, own in zip(NAMES, labels.tolist(), strict=True)]


def arrays(dataset):
    return tuple(np.stack(own) for own in zip(*dataset.as_numpy_iterator(), strict=True))


def test_groups_show_the_digits_that_they_are_labelled_with():
    splits = multi_label.load("digit_groups", limit=50)
    assert splits.info.sizes == {"train": 50, "validation": 200, "test": 400}
    images, labels = arrays(splits.test)
    assert images.shape == (400, 16, 16, 1) and labels.shape == (400, 10)
    # As many places with ink as labels, or more where a digit is there twice.
    cells = images.reshape(400, 2, 8, 2, 8).max(axis=(2, 4)).reshape(400, 4) > 0
    assert (cells.sum(axis=1) >= labels.sum(axis=1)).all() and (labels.sum(axis=1) >= 1).all()
    assert 0.3 < cells.mean() < 0.7 and 0.1 < labels.mean() < 0.3
    digits = labelled_pictures.load_digits()  # every digit of a picture is one of its labels
    known = {np.rint(own * (255 / 16)).astype("uint8").tobytes(): target for own, target in
             zip(digits.images, digits.target, strict=True)}  # fmt: skip
    for image, own in zip(images[:40], labels[:40], strict=True):
        places = [image[y : y + 8, x : x + 8, 0] for y in (0, 8) for x in (0, 8)]
        seen = {known[place.tobytes()] for place in places if place.any()}
        assert seen == set(np.flatnonzero(own))
    assert splits.info.fingerprint == multi_label.load("digit_groups", limit=50).info.fingerprint


def test_a_folder_with_a_table(tmp_path):
    roles = ["train", "train", "train", "val", "test", "train"]
    rows = [[*row, role] for row, role in zip(rows_of(), roles, strict=True)]
    write(tmp_path, rows, ("file", "wet", "warm", "split"))
    splits = multi_label.load(str(tmp_path))
    assert splits.info.label_names == ("wet", "warm") and splits.info.image_shape == (8, 10, 3)
    images, labels = arrays(splits.train)
    np.testing.assert_array_equal(images, IMAGES[[0, 1, 2, 5]])
    np.testing.assert_array_equal(labels, LABELS[[0, 1, 2, 5]])
    np.testing.assert_array_equal(arrays(splits.test)[0], IMAGES[4:5])
    assert multi_label.load(str(tmp_path), image_size=12).info.image_shape == (12, 12, 3)


@pytest.mark.parametrize(
    ("rows", "heading", "message"),
    [
        ([], None, "lists no image"),
        ([["some/0.png", "1", "2"]], None, r"Line 2 of .* is some/0.png,1,2; expected 3 columns"),
        ([["some/0.png", "1"]], None, "expected 3 columns"),
        ([["some/9.png", "1", "0"]], None, "some/9.png but they are not there"),
        ([*rows_of(), ["some/0.png", "1", "0"]], None, "some/0.png twice"),
        (rows_of(LABELS * [1, 0]), None, "No training image of .* has the label 'warm'"),
        (rows_of(), ("name", "wet", "warm"), "begins with"),
        ([[*rows_of()[0], "later"]], ("file", "wet", "warm", "split"), 'has the split "later"'),
    ],
    ids=["empty", "two", "short", "missing", "twice", "idle", "heading", "split"],
)
def test_tables_that_cannot_be_right(tmp_path, rows, heading, message):
    write(tmp_path, rows, heading or ("file", "wet", "warm"))
    with pytest.raises(ValueError, match=message):
        multi_label.load(str(tmp_path))


def test_other_data_is_refused(tmp_path):
    with pytest.raises(ValueError, match='An image of "digits" has one label'):
        multi_label.load("digits")
    with pytest.raises(FileNotFoundError, match="No table"):
        multi_label.load(str(tmp_path))


class Several(tfds.core.GeneratorBasedBuilder):
    """Two kinds of labels, written as TFDS writes them."""

    VERSION = tfds.core.Version("1.0.0")
    BUILDER_CONFIGS = [tfds.core.BuilderConfig(name=own) for own in ("names", "vector", "class")]
    pkg_dir_path = "."

    def _info(self):
        label = {
            "names": tfds.features.Sequence(tfds.features.ClassLabel(names=["wet", "warm"])),
            "vector": tfds.features.Tensor(shape=(2,), dtype=np.int64),
            "class": tfds.features.ClassLabel(names=["wet", "warm"]),
        }[self.builder_config.name]
        image = tfds.features.Image(shape=(8, 10, 3), encoding_format="png")
        features = tfds.features.FeaturesDict({"image": image, "label": label})
        return tfds.core.DatasetInfo(builder=self, features=features)

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples()}

    def _generate_examples(self):
        for number, (image, own) in enumerate(zip(IMAGES, LABELS, strict=True)):
            kinds = {"names": np.flatnonzero(own).tolist(), "vector": own, "class": 0}
            yield number, {"image": image, "label": kinds[self.builder_config.name]}


@pytest.mark.parametrize("kind", ["names", "vector"])
def test_a_tfds_set(tmp_path, kind):
    builder = Several(config=kind, data_dir=tmp_path)
    builder.download_and_prepare()
    splits = multi_label.load(str(builder.data_path), validation_fraction=0.3)
    found = {}
    for part in splits[:3]:
        found |= {image.tobytes(): labels for image, labels in zip(*arrays(part), strict=True)}
    for image, labels in zip(IMAGES, LABELS, strict=True):
        np.testing.assert_array_equal(found[image.tobytes()], labels)
    assert splits.info.label_names == (("wet", "warm") if kind == "names" else ("0", "1"))


def test_a_tfds_set_of_classes_is_refused(tmp_path):
    builder = Several(config="class", data_dir=tmp_path)
    builder.download_and_prepare()
    with pytest.raises(ValueError, match="no images with several labels.*label: ClassLabel"):
        multi_label.load(str(builder.data_path))
