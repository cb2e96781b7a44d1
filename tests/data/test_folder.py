"""Folders of images: order, pixels, and every way they can be wrong."""

import gc
import io
import weakref

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from tfkd.data import batches, folder, load, reading


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


@pytest.fixture(params=["held", "streamed"])
def either_way(request, monkeypatch):
    """Pixels held in memory, and read from the files as they are asked for."""
    if request.param == "streamed":
        monkeypatch.setattr(folder, "MEMORY_LIMIT", 0)
    return request.param


CUT = ("jpg", "png", "tiff", "bmp", "gif", "webp", "ppm")


@pytest.mark.filterwarnings("ignore:.*mixes formats")
def test_every_bad_file_is_named_at_once(flat_folder, either_way):
    ant, bee = flat_folder / "ant", flat_folder / "bee"
    noise = np.random.default_rng(0).integers(0, 256, (6, 5, 3)).astype(np.uint8)
    for suffix in CUT:
        Image.fromarray(noise).save(bee / f"cut.{suffix}")
        whole = (bee / f"cut.{suffix}").read_bytes()
        (bee / f"cut.{suffix}").write_bytes(whole[: len(whole) * 3 // 4])
    (ant / "empty.png").write_bytes(b"")
    (ant / "text.jpg").write_bytes(b"<html>404</html>")
    (ant / "pointer.png").write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0")
    (ant / "nowhere.png").symlink_to(ant / "gone.png")
    with pytest.raises(ValueError) as failure:
        load(flat_folder)
    message = str(failure.value)
    broken = ["empty.png", "text.jpg", "pointer.png", "nowhere.png"]
    assert all(f"ant/{name}" in message for name in broken)
    assert "the file is empty" in message and "git lfs pull" in message
    assert all(f"bee/cut.{suffix}" in message for suffix in CUT)
    assert f"Cannot read {len(broken) + len(CUT)} images" in message
    assert "--skip-damaged" in message
    with pytest.warns(UserWarning, match=f"{len(broken) + len(CUT)} files that cannot be read are"):
        skipped = load(flat_folder, skip_damaged=True)
    for name in broken:
        (ant / name).unlink()
    for suffix in CUT:
        (bee / f"cut.{suffix}").unlink()
    without = load(flat_folder)
    assert without.info.sizes == skipped.info.sizes
    assert [pairs(part) for part in without[:3]] == [pairs(part) for part in skipped[:3]]
    if either_way == "held":  # the pixels, their labels and where they stand are the same
        assert without.info.fingerprint == skipped.info.fingerprint


def test_many_bad_files_are_counted(tmp_path, write_images):
    write_images(tmp_path / "ant", 40)
    write_images(tmp_path / "bee", 5)
    for path in (tmp_path / "ant").iterdir():
        path.write_bytes(b"junk")
    with pytest.raises(ValueError, match="Cannot read 40 images:") as failure:
        load(tmp_path)
    lines = str(failure.value).splitlines()
    assert (
        len(lines) == 23
        and lines[21] == "  and 20 more (tfkd data names them all)"
        and "ant/019.png" in lines[20]
    )


def _damaged_inside(path):
    """Bytes amid a PNG's pixels are others: nothing at its ends tells."""
    noise = np.random.default_rng(0).integers(0, 256, (6, 5, 3)).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(noise).save(file, "PNG")
    data = bytearray(file.getvalue())
    middle = len(data) // 2
    data[middle : middle + 8] = b"\xff" * 8
    path.write_bytes(data)


def test_damage_inside_a_file_is_named_when_it_is_met(flat_folder, monkeypatch):
    for name in ("003", "007", "011"):
        _damaged_inside(flat_folder / "ant" / f"{name}.png")
    with pytest.raises(ValueError, match="Cannot read 3 images:\n.*003.png.*\n.*007.*\n.*011"):
        load(flat_folder)
    monkeypatch.setattr(folder, "MEMORY_LIMIT", 0)
    splits = load(flat_folder)
    with pytest.raises(tf.errors.OpError) as failure:
        for part in splits[:3]:
            for _ in batches(part, 64):
                pass
    assert "Cannot read" in str(failure.value) and "ant/0" in str(failure.value)
    for count in (1, 2):  # a batch of bad ones alone, and a single one
        images = reading.Images(
            _listing_of(flat_folder, ["ant/003.png", "ant/007.png"]), (6, 5, 3), None, False
        )
        with pytest.raises(ValueError, match="003.png"):  # eagerly, as it is
            images.gather(tf.range(count, dtype=tf.int64))


def _listing_of(root, names):
    return folder.measured(root, names, np.array([(1, 1)] * len(names)), root.parent / "kept")[0]


def test_a_file_that_goes_while_training_is_named(flat_folder, monkeypatch):
    monkeypatch.setattr(folder, "MEMORY_LIMIT", 0)
    splits = load(flat_folder)
    for path in (flat_folder / "ant").iterdir():
        path.unlink()
    with pytest.raises(tf.errors.OpError, match="ant/.*No such file"):
        next(iter(batches(splits.train, 4)))


def test_a_bomb_is_named_before_it_is_decoded(flat_folder, either_way, monkeypatch):
    bomb = io.BytesIO()
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    Image.new("1", (13_400, 13_400)).save(bomb, "PNG")
    for name in ("a.png", "b.png"):
        (flat_folder / "bee" / name).write_bytes(bomb.getvalue())
    Image.new("1", (13_400, 13_400)).save(flat_folder / "bee" / "c.tiff", compression="group4")
    monkeypatch.undo()
    with pytest.warns(UserWarning, match="mixes"), pytest.raises(ValueError) as failure:
        load(flat_folder, image_size=8)
    assert "Cannot read 3 images" in str(failure.value)
    assert all(f"bee/{name}" in str(failure.value) for name in ("a.png", "b.png", "c.tiff"))


def test_photographs_that_lie_on_their_side(tmp_path, either_way):
    upright = np.kron(np.arange(30, dtype=np.uint8).reshape(6, 5) * 8, np.ones((8, 8), np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held upright: turn clockwise
    for name in ("ant", "bee"):
        (tmp_path / name).mkdir()
        for number in range(10):
            Image.fromarray(np.rot90(upright)).save(tmp_path / name / f"{number}.png", exif=exif)
    splits = load(tmp_path)
    assert splits.info.image_shape == (48, 40, 1)
    for images, _ in batches(splits.train, 4):
        for image in images:
            np.testing.assert_array_equal(image[..., 0], upright)


def test_animations_and_pages_are_named(flat_folder, either_way):
    frames = [Image.new("RGB", (5, 6), colour) for colour in ("red", "blue")]
    frames[0].save(flat_folder / "ant" / "a.gif", save_all=True, append_images=frames[1:])
    frames[0].save(flat_folder / "bee" / "b.tif", save_all=True, append_images=frames[1:])
    with pytest.warns(UserWarning) as said:
        splits = load(flat_folder)
    text = " ".join(str(warning.message) for warning in said)
    assert "2 files are animations or hold several pages" in text
    assert '"ant/a.gif", "bee/b.tif"' in text
    red = [image for part in splits[:3] for image, _ in part if image[0, 0, 0] == 255]
    assert len(red) == 2


def test_numpy_numbers_are_sizes(flat_folder):
    plain = load(flat_folder, image_size=(4, 3)).info
    assert load(flat_folder, image_size=(np.int32(4), np.int64(3))).info == plain
    assert load(flat_folder, image_size=np.array([4, 3])).info == plain


def test_a_file_in_place_of_a_folder(flat_folder):
    with pytest.raises(FileNotFoundError, match="is a file: unpack it"):
        load(flat_folder / "ant" / "000.png")


def test_pixels_stay_as_long_as_a_dataset_of_them_and_no_longer(flat_folder):
    def alive():
        gc.collect()
        return [
            weakref.ref(thing)
            for thing in gc.get_objects()
            if type(thing) is reading.Images and thing.listing.root == flat_folder
        ]

    splits = load(flat_folder)
    expected = [label for _, label in pairs(splits.train)]
    derived = [splits.train.map(lambda image, label: label).batch(7), batches(splits.train, 7)]
    del splits
    assert len(alive()) == 1
    assert [int(label) for labels in derived[0] for label in labels] == expected
    assert [int(label) for _, labels in derived[1] for label in labels] == expected
    del derived
    assert alive() == []
