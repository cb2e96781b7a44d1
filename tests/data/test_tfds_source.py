"""TFDS: prepared data, splits, and what is said when something is missing."""

import time

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds

from tfkd.data import batches, load, tfds_source


def values(dataset):
    return [(int(image[0, 0, 0]), int(label)) for image, label in dataset.as_numpy_iterator()]


def test_prepared_data_by_name_version_and_directory(prepared):
    splits = load("tiny_squares", prepared)
    assert splits.info.name == "tiny_squares"
    assert splits.info.label_names == ("red", "green", "blue")
    assert splits.info.image_shape == (4, 4, 3)
    assert splits.info.sizes == {"train": 27, "validation": 3, "test": 9}
    assert values(splits.test) == [(100 + n, n % 3) for n in range(9)]
    cut = values(splits.train) + values(splits.validation)
    assert sorted(cut) == [(n, n % 3) for n in range(30)]
    assert sorted(label for _, label in values(splits.validation)) == [0, 1, 2]
    first = next(iter(splits.test))[0].numpy()
    np.testing.assert_array_equal(first, np.full((4, 4, 3), 100))
    for name, data_dir in (
        ("tiny_squares:1.0.0", prepared),
        (prepared / "tiny_squares" / "1.0.0", None),
    ):
        assert load(name, data_dir).info.fingerprint == splits.info.fingerprint


def test_the_environment_names_the_directory(prepared, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(prepared))
    assert load("tiny_squares").info.sizes["test"] == 9


def test_without_published_test_split_both_are_cut(tmp_path, prepare):
    prepare(tmp_path, {"train": 60})
    splits = load("tiny_squares", tmp_path, validation_fraction=0.25)
    assert splits.info.sizes == {"train": 36, "validation": 12, "test": 12}
    everything = sum((values(dataset) for dataset in splits[:3]), [])
    assert sorted(everything) == [(n, n % 3) for n in range(60)]


def test_a_published_validation_split_is_kept(tmp_path, prepare):
    prepare(tmp_path, {"train": 12, "validation": 6, "test": 3})
    splits = load("tiny_squares", tmp_path)
    assert splits.info.sizes == {"train": 12, "validation": 6, "test": 3}


def test_images_of_several_sizes_need_image_size(tmp_path, prepare):
    prepare(tmp_path, size=(None, None))
    with pytest.raises(
        ValueError, match=r"differ in size: its shape is \(None, None, 3\)\. Give image_size"
    ):
        load("tiny_squares", tmp_path)
    assert load("tiny_squares", tmp_path, image_size=(3, 2)).info.image_shape == (3, 2, 3)


def test_streamed_gives_the_same_examples(prepared, monkeypatch):
    held = load("tiny_squares", prepared)
    monkeypatch.setattr(tfds_source, "MEMORY_LIMIT", 0)
    streamed = load("tiny_squares", prepared)
    assert streamed.info.sizes == held.info.sizes
    assert values(streamed.test) == values(held.test)
    assert sorted(values(streamed.train) + values(streamed.validation)) == [
        (n, n % 3) for n in range(30)
    ]
    assert [int(dataset.cardinality()) for dataset in streamed[:3]] == [27, 3, 9]
    assert streamed.train.element_spec == held.train.element_spec
    assert load("tiny_squares", prepared).info.fingerprint == streamed.info.fingerprint
    assert load("tiny_squares", prepared, seed=1).info.fingerprint != streamed.info.fingerprint
    labels = np.concatenate([labels for _, labels in batches(streamed.train, 8, shuffle=True)])
    assert sorted(labels) == sorted(label for _, label in values(streamed.train))


def test_the_real_tfds_path_with_mocked_data(tmp_path):
    # mock_data serves random pixels for the splits that the metadata names.
    builder = tfds.builder("fashion_mnist", data_dir=tmp_path)
    builder.info.set_splits(
        tfds.core.SplitDict(
            [
                tfds.core.SplitInfo(
                    name=split,
                    shard_lengths=[20],
                    num_bytes=1,
                    filename_template=tfds.core.ShardedFileTemplate(
                        data_dir=builder.data_path,
                        dataset_name="fashion_mnist",
                        split=split,
                        filetype_suffix="tfrecord",
                    ),
                )
                for split in ("train", "test")
            ]
        )
    )
    builder.data_path.mkdir(parents=True)
    builder.info.write_to_directory(builder.data_path)
    with tfds.testing.mock_data(num_examples=20, data_dir=str(tmp_path)):
        splits = load("fashion_mnist", str(tmp_path))
    assert splits.info.sizes == {"train": 18, "validation": 2, "test": 20}
    assert splits.info.image_shape == (28, 28, 1)
    assert splits.info.label_names[0] == "T-shirt/top"
    images, labels = next(iter(batches(splits.test, 20)))
    assert images.shape == (20, 28, 28, 1) and images.numpy().std() > 20
    assert set(labels.numpy()) <= set(range(10))


def test_data_that_is_not_prepared_fails_at_once_with_the_command(tmp_path):
    start = time.monotonic()
    with pytest.raises(FileNotFoundError) as failure:
        load("mnist", tmp_path)
    assert time.monotonic() - start < 5
    message = str(failure.value)
    assert f"nothing in {tmp_path}/mnist/3.0.1" in message
    assert f"tfds.builder('mnist', data_dir='{tmp_path}').download_and_prepare()" in message
    assert "TFDS_DATA_DIR" in message
    assert not any(tmp_path.iterdir())


def test_missing_directory(tmp_path):
    with pytest.raises(FileNotFoundError, match="No directory .*gone"):
        load("mnist", tmp_path / "gone")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("fashon_mnist", 'No data set "fashon_mnist". Did you mean fashion_mnist'),
        ("tiny_square", "Did you mean tiny_squares"),
        ("mnist:9.9.9", 'TFDS knows "mnist", but not "mnist:9.9.9": .* only: 3.0.1'),
        ("mnist/large", 'TFDS knows "mnist", but not "mnist/large"'),
        ("imdb_reviews", "no image classification set: .* it has text: Text, label: ClassLabel"),
        ("huggingface:mnist", "No data set"),
        ("", 'No data set ""'),
    ],
)
def test_wrong_names(name, message, prepared):
    with pytest.raises(ValueError, match=message):
        load(name, prepared)


def test_images_that_cannot_be_decoded_are_numbered(prepared, monkeypatch):
    builder = tfds_source.find_builder("tiny_squares", str(prepared))
    as_dataset = builder.as_dataset

    def damaged(**arguments):
        def cut(number, example):
            bad = (number == 4) | (number == 7)
            short = tf.strings.substr(example["image"], 0, 50)
            return {**example, "image": tf.where(bad, short, example["image"])}

        return as_dataset(**arguments).enumerate().map(cut)

    monkeypatch.setattr(builder, "as_dataset", damaged)
    message = 'Cannot decode 2 images of the train split of "tiny_squares": examples 4, 7 .from 0'
    with pytest.raises(ValueError, match=message):
        tfds_source.load("tiny_squares", builder)


def test_incomplete_files(prepared, monkeypatch):
    builder = tfds_source.find_builder("tiny_squares", str(prepared))
    as_dataset = builder.as_dataset
    monkeypatch.setattr(builder, "as_dataset", lambda **arguments: as_dataset(**arguments).take(5))
    message = 'Expected 30 examples in the train split of "tiny_squares".* found 5'
    with pytest.raises(ValueError, match=message):
        tfds_source.load("tiny_squares", builder)


def test_two_image_features_and_no_supervised_keys():
    features = tfds.features.FeaturesDict(
        {
            "photo": tfds.features.Image(shape=(4, 4, 3)),
            "mask": tfds.features.Image(shape=(4, 4, 1)),
            "label": tfds.features.ClassLabel(num_classes=2),
        }
    )

    class Info:
        supervised_keys = None

    info = Info()
    info.features = features
    with pytest.raises(ValueError, match="it has photo: Image, mask: Image, label: ClassLabel"):
        tfds_source._supervised_keys("x", info)
    info.supervised_keys = ("photo", "label")
    assert tfds_source._supervised_keys("x", info) == ("photo", "label")


def test_a_split_published_without_labels(tmp_path, prepare, monkeypatch):
    prepare(tmp_path, test_label=-1)
    message = 'Example 0 of the test split of "tiny_squares" has label -1; expected 0 to 2'
    with pytest.raises(ValueError, match=message):
        load("tiny_squares", tmp_path)
    monkeypatch.setattr(tfds_source, "MEMORY_LIMIT", 0)
    streamed = load("tiny_squares", tmp_path)
    with pytest.raises(
        tf.errors.InvalidArgumentError, match="Label out of 0 to 2 in the test split"
    ):
        next(iter(streamed.test))
