"""A folder with the usual dirt: one look names everything, and then it can be read."""

import numpy as np
import pytest
from PIL import Image

from tfkd.data import contact_sheet, inspect, load
from tfkd.data.findings import digest, of_repeats, of_sizes, repeats


def noise(seed, *shape):
    return np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)


@pytest.fixture(scope="module")
def dirty(tmp_path_factory):
    """Three classes of 12, 12 and 3 sound images, most of 16x12, and everything that goes wrong."""
    root = tmp_path_factory.mktemp("data") / "my photos"
    for number, name in enumerate(["Äpfel rot", "limes", "rare"]):
        (root / name).mkdir(parents=True)
        for image in range(3 if name == "rare" else 9):
            own = Image.fromarray(noise(100 * number + image, 16, 12, 3))
            own.save(root / name / f"é {image}.png")
    apples, limes = root / "Äpfel rot", root / "limes"
    (root / "nothing yet").mkdir()
    (root / "loose.png").write_bytes((limes / "é 0.png").read_bytes())
    (apples / "cut.png").write_bytes((limes / "é 0.png").read_bytes()[:300])
    (apples / "page.jpg").write_bytes(b"<html>404</html>")
    for name in (".DS_Store", "Thumbs.db", "IMG 1.HEIC", "IMG 2.heic", "notes.txt"):
        (limes / name).write_bytes(b"no image")
    Image.fromarray(noise(1, 16, 12, 4)).save(limes / "alpha.png")
    Image.fromarray(noise(2, 16, 12).astype(np.uint16) * 257).save(limes / "deep.png")
    Image.fromarray(noise(3, 16, 12, 3)).save(limes / "picture.webp")
    Image.fromarray(noise(4, 40, 12, 3)).quantize(8).save(apples / "long.gif")
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(noise(5, 12, 16, 3)).save(apples / "turned.jpg", exif=exif)
    again = Image.fromarray(np.asarray(Image.open(apples / "é 0.png")))
    again.save(apples / "é 0 saved anew.bmp")
    return root


@pytest.fixture(scope="module")
def found(dirty, tmp_path_factory):
    """What is seen without and with skip_damaged."""
    kept = tmp_path_factory.mktemp("kept")
    how = {"image_size": 8, "resize": "pad", "cache_dir": kept}
    return inspect(dirty, **how), inspect(dirty, **how, skip_damaged=True, samples=2)


def test_one_look_names_everything(found, dirty):
    for own in found:
        assert list(own.damaged) == ["Äpfel rot/cut.png", "Äpfel rot/page.jpg"]
        assert own.empty == ("nothing yet",)
        assert own.class_names == ("limes", "rare", "Äpfel rot")
        assert sum(own.counts.values()).tolist() == [12, 3, 12]
        assert own.sizes == ((16, 12), (16, 12), (40, 12))
        assert own.suffixes == {".png": 24, ".jpg": 2, ".gif": 1, ".webp": 1, ".bmp": 1}
        assert own.left_out == {
            "hidden": (2, own.left_out["hidden"][1]),
            ".heic": (2, own.left_out[".heic"][1]),
            ".txt": (1, "limes/notes.txt"),
            "images outside of class folders": (1, "."),
        }
        assert own.converted == {
            "16 bits a channel: the upper 8 count": (1, "limes/deep.png"),
            "transparent: laid on white": (1, "limes/alpha.png"),
            "palette: its colours": (1, "Äpfel rot/long.gif"),
            "turned by its EXIF orientation": (1, "Äpfel rot/turned.jpg"),
        }
        assert [set(group) for group in own.repeats] == [
            {"Äpfel rot/é 0.png", "Äpfel rot/é 0 saved anew.bmp"}
        ]
        assert "A picture is there again: once" in " ".join(own.findings)
        assert 'No validation image of 1 class: "rare" (3 in all).' in own.findings
    plain, skipped = found
    assert not plain.usable and skipped.usable
    assert len(plain.refused) == 2 and "--skip-damaged" in plain.refused[0]


@pytest.mark.filterwarnings("ignore:.*(left out|not read|mixes formats)")
def test_training_refuses_or_leaves_out_what_the_look_named(found, dirty, tmp_path):
    how = {"image_size": 8, "resize": "pad", "cache_dir": tmp_path}
    with pytest.raises(ValueError, match="nothing yet.* holds no images.*--skip-damaged"):
        load(dirty, **how)
    splits = load(dirty, **how, skip_damaged=True)
    again = load(dirty, **how, skip_damaged=True)  # from the listing that was kept
    assert again.info == splits.info
    _, skipped = found
    assert splits.info.label_names == skipped.class_names
    assert splits.info.sizes == {role: own.sum() for role, own in skipped.counts.items()}
    assert splits.info.findings == tuple(
        text for text in skipped.findings if "aspect" not in text and "size" not in text
    )
    # The contact sheet shows what training sees.
    training = {digest(image) for image in next(iter(splits.train.batch(99)))[0].numpy()}
    shown = [image for some in skipped.samples.values() for image in some]
    assert len(shown) == 6 and {digest(image) for image in shown} <= training


def test_files_that_cannot_be_read_must_leave_images_of_two_classes(tmp_path, write_images):
    write_images(tmp_path / "ant", 10)
    write_images(tmp_path / "bee", 2)
    for path in (tmp_path / "bee").iterdir():
        path.write_bytes(b"junk")
    with pytest.raises(ValueError, match="Without the 2 damaged files .* fewer than 2 classes"):
        load(tmp_path, skip_damaged=True)
    seen = inspect(tmp_path, skip_damaged=True)
    assert not seen.usable and "fewer than 2 classes" in seen.refused[0]


def test_the_embedded_digits_are_looked_at_too():
    seen = inspect("digits", samples=1)
    assert {role: own.sum() for role, own in seen.counts.items()} == {
        "train": 1294,
        "validation": 144,
        "test": 359,
    }
    assert seen.usable and seen.sizes == ((8, 8),) * 3
    assert tuple(seen.samples) == seen.class_names


def test_repeats_are_told_by_split_and_class():
    contents = [digest(noise(seed, 2, 2, 3)) for seed in (0, 1, 0, 2, 1, 0)]
    groups = repeats(contents)
    assert groups == [[0, 2, 5], [1, 4]]
    roles = ["train", "train", "test", "test", "validation", "test"]
    said = of_repeats(groups, roles, [0, 1, 0, 2, 2, 0], lambda position: f"{position}.png")
    assert [text.split(",")[0] for text in said] == [
        "The test split shows pictures that are trained on: 2 of its 3 images",
        "The validation split shows pictures that are trained on: 1 of its 1 images",
        "The same picture stands in more than one class: once",
        "A picture is there again: 3 times",
    ]
    assert '"1.png" and "4.png"' in said[2]
    assert of_repeats([], roles, [0] * 6, str) == []
    # The same bytes in another shape are another picture.
    assert digest(np.zeros((2, 3, 1), np.uint8)) != digest(np.zeros((3, 2, 1), np.uint8))


def test_classes_too_small_for_a_split_are_named():
    counts = {"train": np.array([5, 1, 0]), "test": np.array([2, 0, 0])}
    assert of_sizes(counts, ["a", "b", "c"]) == ['No test image of 1 class: "b" (1 in all).']


def test_a_contact_sheet_shows_the_pixels(tmp_path):
    images = [noise(seed, 16, 8, 1) for seed in (0, 1)]
    contact_sheet({"ant": images, "bee": [], "Zebra ünd": images[:1]}, tmp_path / "a" / "sheet.png")
    sheet = np.asarray(Image.open(tmp_path / "a" / "sheet.png"))
    # 8 times as large: 128x64, with gaps of 6.
    assert sheet.shape[0] == 6 + 2 * (128 + 6)
    left = sheet.shape[1] - 2 * (64 + 6)
    for row, place, image in ((0, 0, images[0]), (0, 1, images[1]), (1, 0, images[0])):
        top, start = 6 + row * 134, left + place * 70
        np.testing.assert_array_equal(
            sheet[top : top + 128 : 8, start : start + 64 : 8], np.repeat(image, 3, axis=-1)
        )
    with pytest.raises(ValueError, match="no image"):
        contact_sheet({"ant": []}, tmp_path / "none.png")
