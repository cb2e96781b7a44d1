"""Stores of decoded images: the same bytes as without one, and every way one can be wrong."""

import os
import warnings

import numpy as np
import pytest
from PIL import Image

from tfkd.data import batches, folder, load, reading, store

SIZE, COUNT = (12, 16), 40


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """40 JPEG photos of noise, of several sizes, in two classes, some years old."""
    root, random = tmp_path_factory.mktemp("data") / "photos", np.random.default_rng(0)
    for number in range(COUNT):
        path = root / ("ant", "bee")[number % 2] / f"{number:02d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = random.integers(0, 256, (20 + number % 5, 24 + number % 3, 3), np.uint8)
        Image.fromarray(pixels).save(path, quality=95)
        os.utime(path, (10**9, 10**9))
    return root


@pytest.fixture
def two_files(monkeypatch):
    """Stores of 40 images have files of 25 and 15."""
    monkeypatch.setattr(store, "_FEWEST", 25)


def epochs(splits, count=2):
    """Shuffled batches of some epochs, bytes and labels."""
    shuffled = batches(splits.train, 8, shuffle=True, seed=3)
    return [
        (images.tobytes(), labels.tolist())
        for _ in range(count)
        for images, labels in shuffled.as_numpy_iterator()
    ]


def files_of(directory):
    (own,) = directory.iterdir()
    return sorted(own.glob("images-*"))


@pytest.mark.parametrize("limit", [2**30, 0], ids=["held", "streamed"])
def test_what_comes_from_a_store_is_what_comes_without_it(
    photos, tmp_path, two_files, monkeypatch, limit
):
    monkeypatch.setattr(folder, "MEMORY_LIMIT", limit)
    plain = load(photos, image_size=SIZE, resize="crop")
    expected = epochs(plain)
    kept = load(photos, image_size=SIZE, resize="crop", store=tmp_path)
    assert kept.info == plain.info
    assert epochs(kept) == expected
    written = {file.name: file.stat().st_mtime_ns for file in files_of(tmp_path)}
    assert list(written) == [f"images-0000{n}-of-00002.array_record" for n in range(2)]
    # The next run decodes nothing, whatever its cut of the same files.
    monkeypatch.setattr(reading, "decode", None)
    again = load(photos, image_size=SIZE, resize="crop", store=tmp_path, limit=9)
    assert again.info.sizes["train"] == 9
    assert set(examples(again.train)) < set(examples(kept.train))
    assert {file.name: file.stat().st_mtime_ns for file in files_of(tmp_path)} == written


def examples(dataset):
    return [(image.tobytes(), int(label)) for image, label in dataset.as_numpy_iterator()]


def test_another_size_rule_or_file_is_another_store(photos, tmp_path, monkeypatch):
    monkeypatch.setattr(folder, "MEMORY_LIMIT", 0)
    copy = tmp_path / "photos"
    for path in photos.rglob("*.jpg"):
        target = copy / path.relative_to(photos)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
        os.utime(target, (10**9, 10**9))
    stores = tmp_path / "stores"
    load(photos, image_size=SIZE, store=stores)
    load(copy, image_size=SIZE, store=stores)  # the same files elsewhere: the same store
    assert len(list(stores.iterdir())) == 1
    load(copy, image_size=8, store=stores)
    load(copy, image_size=SIZE, resize="pad", store=stores)
    assert len(list(stores.iterdir())) == 3
    changed = copy / "ant" / "00.jpg"
    os.utime(changed, (10**9 + 1, 10**9 + 1))
    with pytest.warns(UserWarning, match="holds a store of the same folder with other files"):
        load(copy, image_size=SIZE, store=stores)
    assert len(list(stores.iterdir())) == 4


def test_a_build_that_was_killed_goes_on(photos, tmp_path, two_files, monkeypatch):
    load(photos, image_size=SIZE, store=tmp_path)
    first, second = files_of(tmp_path)
    whole = second.read_bytes()
    stamp = first.stat().st_mtime_ns
    for left in (None, whole[: len(whole) // 2], b""):
        second.unlink()
        if left is not None:
            second.write_bytes(left)
        (second.parent / f".partial-{second.name}").write_bytes(whole[:100])
        load(photos, image_size=SIZE, store=tmp_path)
        assert second.read_bytes() == whole and first.stat().st_mtime_ns == stamp
        assert not list(second.parent.glob(".partial-*"))


def test_a_changed_byte_is_named(photos, tmp_path, two_files, monkeypatch):
    monkeypatch.setattr(folder, "MEMORY_LIMIT", 0)
    load(photos, image_size=SIZE, store=tmp_path)
    first, _ = files_of(tmp_path)
    content = bytearray(first.read_bytes())
    content[2000] ^= 1
    first.write_bytes(content)
    with pytest.raises(Exception, match=f"store of images is damaged.*{first.name}.*Delete this"):
        epochs(load(photos, image_size=SIZE, store=tmp_path))


def test_what_is_refused(photos, tmp_path, monkeypatch, flat_folder):
    with pytest.raises(ValueError, match='"digits" is no folder.*--store'):
        load("digits", store=tmp_path)
    broken = flat_folder / "ant" / "003.png"
    content = bytearray(broken.read_bytes())
    content[45] ^= 255
    broken.write_bytes(content)
    for path in flat_folder.rglob("*.png"):
        os.utime(path, (10**9, 10**9))
    monkeypatch.setattr(folder, "MEMORY_LIMIT", 0)
    with pytest.raises(ValueError, match="003.png.*--skip-damaged"):
        load(flat_folder, store=tmp_path / "b")
    assert files_of(tmp_path / "b") == []  # nothing half is left
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "In .*left out")
        splits = load(flat_folder, store=tmp_path / "b", skip_damaged=True)
        assert sum(splits.info.sizes.values()) == 29
    monkeypatch.setattr(store, "free_bytes", lambda path: 10**3)
    with pytest.raises(OSError, match="needs 0.0 GB more.*Make room"):
        load(photos, image_size=SIZE, store=tmp_path / "full")


def test_a_file_that_changes_meanwhile_is_refused(photos, tmp_path, monkeypatch):
    decoded = folder.Images.decoded

    def changing(self, indices):
        yield from decoded(self, indices)
        os.utime(photos / "bee" / "01.jpg", (10**9 + 5, 10**9 + 5))

    monkeypatch.setattr(folder.Images, "decoded", changing)
    with pytest.raises(ValueError, match="01.jpg.*changed while it was read"):
        load(photos, image_size=SIZE, store=tmp_path)
    assert files_of(tmp_path) == []
    os.utime(photos / "bee" / "01.jpg", (10**9, 10**9))
