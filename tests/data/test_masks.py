"""Images with masks: drawn shapes, a folder, a TFDS set; bad input."""

import keras
import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from tfkd.data import labelled_pictures, masks

RANDOM = np.random.default_rng(0)
IMAGES = RANDOM.integers(0, 256, (6, 8, 12, 3)).astype("uint8")
VALUES = RANDOM.choice([0, 7, 255], (6, 8, 12)).astype("uint8")
NUMBERS = np.searchsorted([0, 7, 255], VALUES)


def write(root, numbers, palette=False):
    for folder in ("images", "masks"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    for number in numbers:
        keras.utils.save_img(root / "images" / f"{number}.png", IMAGES[number], scale=False)
        mask = Image.fromarray(VALUES[number])
        if palette:
            mask.putpalette(bytes(range(256)) * 3)
        mask.save(root / "masks" / f"{number}.png")


def arrays(dataset):
    return tuple(np.stack(own) for own in zip(*dataset.as_numpy_iterator(), strict=True))


def test_shapes_have_the_class_of_each_pixel():
    splits = masks.load("shapes", limit=40)
    assert splits.info.sizes == {"train": 40, "validation": 100, "test": 200}
    images, numbers = arrays(splits.test)
    assert images.shape == (200, 32, 32, 3) and numbers.shape == (200, 32, 32)
    assert splits.info.label_names == labelled_pictures.SHAPE_NAMES
    share = np.bincount(numbers.ravel(), minlength=4) / numbers.size
    assert share.min() > 0.03 and 0.6 < share[0] < 0.9
    # A shape alone and whole fills pi/4 of the square around it, all of it, or about half.
    filled = {1: [], 2: [], 3: []}
    for own in numbers:
        rows, columns = np.nonzero(own)
        inside = 0 < min(rows.min(), columns.min()) and max(rows.max(), columns.max()) < 31
        if len(set(own[rows, columns])) == 1 and inside:
            area = (np.ptp(rows) + 1) * (np.ptp(columns) + 1)
            filled[own.max()].append(len(rows) / area)
    for kind, share in ((1, np.pi / 4), (2, 1.0), (3, 0.5)):
        assert len(filled[kind]) >= 5
        assert abs(np.median(filled[kind]) - share) < 0.05
    again = masks.load("shapes", limit=40)
    assert splits.info.fingerprint == again.info.fingerprint


@pytest.mark.parametrize("palette", [False, True])
def test_a_folder_of_images_and_masks(tmp_path, palette):
    write(tmp_path / "train", range(4), palette)
    write(tmp_path / "test", [4, 5], palette)
    splits = masks.load(str(tmp_path), validation_fraction=0.25)
    assert splits.info.label_names == ("0", "7", "255")
    found = {}
    for part in (splits.train, splits.validation):
        found |= {image.tobytes(): own for image, own in zip(*arrays(part), strict=True)}
    for image, own in zip(IMAGES[:4], NUMBERS[:4], strict=True):
        np.testing.assert_array_equal(found[image.tobytes()], own)
    np.testing.assert_array_equal(arrays(splits.test)[1], NUMBERS[4:])
    # Each pixel of the stretched mask is that of the nearest one.
    _, stretched = arrays(
        masks.load(str(tmp_path), image_size=(16, 24), validation_fraction=0.25).test
    )
    np.testing.assert_array_equal(stretched, NUMBERS[4:].repeat(2, axis=1).repeat(2, axis=2))


def test_folders_that_cannot_be_right(tmp_path):
    with pytest.raises(ValueError, match='holds no folder "images"'):
        masks.load(str(tmp_path))
    write(tmp_path, range(6))
    (tmp_path / "masks" / "3.png").rename(tmp_path / "masks" / "x.png")
    with pytest.raises(ValueError, match="files without the other: 3, x"):
        masks.load(str(tmp_path))
    (tmp_path / "masks" / "x.png").rename(tmp_path / "masks" / "3.png")
    Image.fromarray(VALUES[3][:4]).save(tmp_path / "masks" / "3.png")
    with pytest.raises(ValueError, match="is 4x12 .* its image 8x12"):
        masks.load(str(tmp_path))
    Image.fromarray(IMAGES[3]).save(tmp_path / "masks" / "3.png")
    with pytest.raises(ValueError, match="of the mode RGB; expected one channel"):
        masks.load(str(tmp_path))
    Image.fromarray(np.arange(96, dtype="uint8").reshape(8, 12)).save(tmp_path / "masks/3.png")
    with pytest.raises(ValueError, match="have 97 different values; expected 2 to 64"):
        masks.load(str(tmp_path))
    (tmp_path / "images" / "3.png").write_bytes(b"no image")
    with pytest.raises(ValueError, match="3.png.* cannot be read as an image"):
        masks.load(str(tmp_path))
    with pytest.raises(ValueError, match='"digits" has no masks'):
        masks.load("digits")
    with pytest.raises(ValueError, match='resize is "crop"'):
        masks.load(str(tmp_path), resize="crop")


class Masked(tfds.core.GeneratorBasedBuilder):
    """Images and masks, written as TFDS writes them."""

    VERSION = tfds.core.Version("1.0.0")
    pkg_dir_path = "."

    def _info(self):
        kinds = {"image": 3, "segmentation_mask": 1}
        features = {
            name: tfds.features.Image(shape=(8, 12, channels), encoding_format="png")
            for name, channels in kinds.items()
        }
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples()}

    def _generate_examples(self):
        for number, (image, mask) in enumerate(zip(IMAGES, VALUES, strict=True)):
            yield number, {"image": image, "segmentation_mask": mask[..., None]}


def test_a_tfds_set(tmp_path):
    builder = Masked(data_dir=tmp_path)
    builder.download_and_prepare()
    splits = masks.load(str(builder.data_path), validation_fraction=0.3)
    found = {}
    for part in splits[:3]:
        found |= {image.tobytes(): own for image, own in zip(*arrays(part), strict=True)}
    for image, own in zip(IMAGES, NUMBERS, strict=True):
        np.testing.assert_array_equal(found[image.tobytes()], own)


def test_pixels_of_no_class(tmp_path):
    write(tmp_path / "train", range(4))
    write(tmp_path / "test", [4, 5])
    (finding,) = masks.load(str(tmp_path), validation_fraction=0.25).info.findings
    assert "The value 255" in finding and "--ignore-class 255" in finding
    splits = masks.load(str(tmp_path), validation_fraction=0.25, ignore_class=7)
    info, (_, found) = splits.info, arrays(splits.test)
    assert (info.label_names, info.num_classes, info.ignore_class) == (("0", "255"), 2, masks.VOID)
    np.testing.assert_array_equal(found, np.choose(NUMBERS[4:], [0, masks.VOID, 1]))
    share = 100 * (VALUES == 7).mean()
    assert info.findings == (f"{share:.3g} % of the pixels of all masks are 7: no class.",)
    assert info.fingerprint != masks.load(str(tmp_path), validation_fraction=0.25).info.fingerprint
    names = masks.load("shapes", ignore_class=0).info.label_names
    assert names == labelled_pictures.SHAPE_NAMES[1:]
    Image.fromarray(0 * VALUES[0] + 7).save(tmp_path / "test/masks/4.png")
    Image.fromarray(0 * VALUES[0] + 7).save(tmp_path / "test/masks/5.png")
    with pytest.raises(ValueError, match="Every pixel of the test split .* is 7"):
        masks.load(str(tmp_path), validation_fraction=0.25, ignore_class=7)
