"""Folders of images: layouts, order, and every way they can be wrong."""

import numpy as np
import pytest

from tfkd.data import batches, folder, load


def pairs(dataset):
    return [(int(image[0, 0, 0]), int(label)) for image, label in dataset.as_numpy_iterator()]


def test_class_folders(flat_folder):
    splits = load(flat_folder)
    info = splits.info
    assert info.label_names == ("ant", "bee")
    assert info.image_shape == (6, 5, 3)
    # A fifth of 30 is test, a tenth of the other 24 validation.
    assert info.sizes == {"train": 22, "validation": 2, "test": 6}
    found = [pairs(dataset) for dataset in splits[:3]]
    assert sorted(sum(found, [])) == [(n, 0) for n in range(20)] + [(n, 1) for n in range(100, 110)]
    assert all(part == sorted(part) for part in found)
    assert [label for _, label in found[2]] == [0] * 4 + [1] * 2


def test_split_folders(tmp_path, write_images):
    for split, first_value in (("train", 0), ("val", 100), ("test", 200)):
        for number, name in enumerate(["ant", "bee"]):
            write_images(tmp_path / split / name, 4, first_value=first_value + 10 * number)
    splits = load(str(tmp_path))
    assert pairs(splits.train) == [
        (0, 0),
        (1, 0),
        (2, 0),
        (3, 0),
        (10, 1),
        (11, 1),
        (12, 1),
        (13, 1),
    ]
    assert pairs(splits.validation)[0] == (100, 0) and pairs(splits.test)[-1] == (213, 1)
    assert splits.info.sizes == {"train": 8, "validation": 8, "test": 8}


def test_grey_jpeg_files_keep_one_channel_unless_one_is_colour(tmp_path, write_images):
    write_images(tmp_path / "a", 10, channels=1, suffix=".jpg")
    write_images(tmp_path / "b", 10, channels=1, suffix=".JPEG")
    assert load(tmp_path).info.image_shape == (6, 5, 1)
    write_images(tmp_path / "c", 10, channels=3)
    assert load(tmp_path).info.image_shape == (6, 5, 3)


def test_images_of_several_sizes_need_image_size(flat_folder, write_images):
    write_images(flat_folder / "bee" / "large", 2, size=(9, 9))
    with pytest.raises(ValueError, match=r"000.png is 6x5 .*000.png is 9x9\. Give image_size="):
        load(flat_folder)
    splits = load(flat_folder, image_size=4)
    assert splits.info.image_shape == (4, 4, 3)
    assert sum(splits.info.sizes.values()) == 32


@pytest.mark.parametrize("content", [b"no image", b""])
def test_a_file_that_is_no_image_is_named(flat_folder, content):
    (flat_folder / "ant" / "003.png").write_bytes(content)
    with pytest.raises(
        ValueError, match='Cannot read the image ".*ant/003.png".* Replace or remove'
    ):
        load(flat_folder)


def test_a_truncated_image_is_named(flat_folder):
    path = flat_folder / "bee" / "004.png"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ValueError, match='Cannot read the image ".*bee/004.png"'):
        load(flat_folder)


def test_an_empty_class_folder(flat_folder):
    (flat_folder / "cat").mkdir()
    (flat_folder / "cat" / "notes.txt").write_text("none yet")
    with pytest.raises(ValueError, match='class folder ".*cat" holds no images'):
        load(flat_folder)


def test_one_class(tmp_path, write_images):
    write_images(tmp_path / "ant", 3)
    with pytest.raises(ValueError, match=r"two or more classes .*; found \['ant'\]"):
        load(tmp_path)


def test_no_class_folders(tmp_path):
    with pytest.raises(ValueError, match="two or more classes .*; found none"):
        load(tmp_path)


def test_splits_of_different_classes(tmp_path, write_images):
    for path in ("train/ant", "train/bee", "test/ant", "test/cat"):
        write_images(tmp_path / path, 3)
    with pytest.raises(ValueError, match="test.* and .*train.* differ in: bee, cat"):
        load(tmp_path)


def test_split_folders_among_others(tmp_path, write_images):
    for path in ("train/ant", "train/bee", "spare/ant"):
        write_images(tmp_path / path, 3)
    with pytest.raises(ValueError, match="split folders and others: spare"):
        load(tmp_path)


def test_missing_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match="No folder"):
        load(tmp_path / "nowhere")


def test_streamed_gives_the_same_examples(flat_folder, monkeypatch):
    held = load(flat_folder)
    monkeypatch.setattr(folder, "MEMORY_LIMIT", 0)
    streamed = load(flat_folder)
    assert streamed.info.sizes == held.info.sizes
    assert streamed.info.fingerprint != held.info.fingerprint
    assert load(flat_folder).info.fingerprint == streamed.info.fingerprint
    for one, other in zip(held[:3], streamed[:3], strict=True):
        assert pairs(one) == pairs(other)
        assert one.element_spec == other.element_spec and one.cardinality() == other.cardinality()
    orders = [batches(splits.train, 4, shuffle=True, seed=1) for splits in (held, streamed)]
    for (one, labels), (other, other_labels) in zip(*orders, strict=True):
        np.testing.assert_array_equal(one, other)
        np.testing.assert_array_equal(labels, other_labels)
