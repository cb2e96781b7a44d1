"""Images with a class for each pixel: built in, a folder of images and masks, or a TFDS set."""

import dataclasses
import functools
import io
from pathlib import Path

import numpy as np
from PIL import Image

from tfkd.data import labelled_pictures, loading, tree
from tfkd.data.assembly import divided
from tfkd.data.files import common_shape, read_images, require_room
from tfkd.data.resizing import STRETCH, parse_size
from tfkd.data.splits import SPLIT_NAMES, DataInfo

SHAPES, IMAGES, MASKS = "shapes", "images", "masks"
MOST_CLASSES = 64  # different values beyond which an image is no mask
VOID = 255  # in place of a class number, where a pixel has none


@dataclasses.dataclass(frozen=True)
class MasksInfo(DataInfo):
    """What a data set of images with masks is.

    Attributes:
        ignore_class: the value of pixels that count nowhere; None where all pixels count.
    """

    ignore_class: int | None = None


def moving(augment):
    """An augmentation of images, with what becomes of their masks as `labels`: they move along.

    Args:
        augment: as `tfkd.data.augmentation` gives it, of those that only move pixels; or None.
    """
    if augment is None:
        return None
    moved = functools.partial(augment)
    moved.labels = lambda masks, seeds: augment(masks[..., None], seeds)[..., 0]
    return moved


def load(name, data_dir=None, *, image_size=None, resize=STRETCH, ignore_class=None, **division):
    """Loads images with masks as train, validation and test.

    A folder holds "images" and "masks", files of the same names but for the suffix, perhaps below
    a folder for each split (train, validation, test). A mask has one channel (grey or a palette).
    Every value that the masks of the data have is a class; their order is that of the values. A
    TFDS set has one image of three channels and one of a single channel, which is the mask.

    Args:
        name: "shapes" (built in), a folder, or a TFDS name.
        data_dir: where TFDS data lies.
        image_size: stretch every image, and masks to the nearest pixel; needed where they differ.
        resize: "stretch" alone.
        ignore_class: value of the masks' pixels that are of no class (often 255), None for none.
        **division: validation_fraction, seed, limit, as `tfkd.data.load` takes them.

    Returns:
        `tfkd.data.Splits`: unbatched datasets of (uint8 (H, W, C), uint8 (H, W)), whose values are
        class numbers, or `VOID`; and `MasksInfo`.

    Raises:
        ValueError, FileNotFoundError: what cannot be read, and how to fix it.
    """
    size = parse_size(image_size)
    if resize != STRETCH:
        raise ValueError(
            f'resize is "{resize}", but masks are stretched as their images are. Leave it '
            f'"{STRETCH}".'
        )
    if name == SHAPES:
        arrays, names = labelled_pictures.shapes(), labelled_pictures.SHAPE_NAMES
        if size is not None:
            raise ValueError(f'"{SHAPES}" are drawn at 32 pixels a side; leave image_size out.')
        return _divided(name, arrays, names, ignore_class, division)
    text, found = loading.find(name, data_dir)
    if found in loading.EMBEDDED:
        raise ValueError(
            f'"{name}" has no masks. Give data that has: "{SHAPES}" (built in), a folder with '
            f'"{IMAGES}" and "{MASKS}", or a TFDS set with a segmentation mask.'
        )
    if found == loading.FOLDER:
        arrays = _folder(Path(text).expanduser(), size)
    else:
        from tfkd.data import tfds_labels

        arrays = tfds_labels.masks(text, found, size)
    return _divided(name, arrays, None, ignore_class, division)


def _divided(name, arrays, names, ignore_class, division):
    """The `Splits` of values as they are in the masks; `names` has one a value, or is None."""
    arrays, values, void = _numbered(arrays, name, ignore_class)
    names = tuple(str(own) if names is None else names[own] for own in values)
    splits = divided(name, arrays, None, names, **division)
    if ignore_class is None:
        findings = _hint(values, name)
    else:
        _require_pixels(splits, name, ignore_class)
        findings = (f"{100 * void:.3g} % of the pixels of all masks are {ignore_class}: no class.",)
    known = {own.name: getattr(splits.info, own.name) for own in dataclasses.fields(DataInfo)}
    known["findings"] = (*splits.info.findings, *findings)
    ignored = None if ignore_class is None else VOID
    return splits._replace(info=MasksInfo(**known, ignore_class=ignored))


def _hint(values, name):
    """A sentence where the largest value looks like that of pixels of no class."""
    if len(values) < 3 or values[-1] != VOID or values[-2] == VOID - 1:
        return ()
    return (
        f'The value {VOID} of the masks of "{name}" is taken for a class. If it stands for pixels '
        f"of no class, give --ignore-class {VOID}: these count nowhere.",
    )


def _require_pixels(splits, name, ignore_class):
    """Refuses a split without any pixel of a class: there is nothing to learn, or to judge by."""
    for role, dataset in zip(("train", "validation", "test"), splits[:3], strict=True):
        batches = dataset.batch(64).as_numpy_iterator()
        if not any((masks != VOID).any() for _, masks in batches):
            raise ValueError(
                f'Every pixel of the {role} split of "{name}" is {ignore_class}, which '
                "ignore_class says is no class. Give other masks, or another ignore_class."
            )


def _folder(root, size):
    """{role: (images, masks)} of a folder; values as they are in the files."""
    places = {"train": root}
    if not (root / IMAGES).is_dir():
        places = {
            role: root / alias
            for role, aliases in SPLIT_NAMES.items()
            for alias in aliases
            if (root / alias / IMAGES).is_dir()
        }
    if "train" not in places or not (places["train"] / IMAGES).is_dir():
        raise ValueError(
            f'"{root}" holds no folder "{IMAGES}" and no "train/{IMAGES}". Expected "{IMAGES}" and '
            f'"{MASKS}", files of the same names, perhaps below train, validation and test.'
        )
    pairs = {role: _pairs(place) for role, place in places.items()}
    every = [path for own in pairs.values() for path, _ in own]
    shape = common_shape(every, size)
    require_room(str(root), len(every), shape)
    arrays = {}
    for role, own in pairs.items():
        images = read_images([path for path, _ in own], shape, None if size is None else STRETCH)
        masks = [read_mask(mask.read_bytes(), size, shape, mask) for _, mask in own]
        arrays[role] = images, np.stack(masks)
    return arrays


def _pairs(place):
    """[(image, mask)] of a folder, by name.

    Raises:
        ValueError: an image without a mask, a mask without an image, or none at all.
    """
    found = []
    for folder in (IMAGES, MASKS):
        files = place / folder
        names = sorted(files.iterdir()) if files.is_dir() else []
        names = [own for own in names if own.suffix.lower() in tree.SUFFIXES]
        found.append({own.stem: own for own in names})
    images, masks = found
    alone = sorted(set(images) ^ set(masks))
    if alone or not images:
        what = f"files without the other: {', '.join(alone[:5])}" if alone else "no image"
        raise ValueError(
            f'"{place}" has {what}. Every file in "{IMAGES}" needs a mask of the same name in '
            f'"{MASKS}", and the other way round.'
        )
    return [(images[stem], masks[stem]) for stem in sorted(images)]


def read_mask(encoded, size, shape, what):
    """A mask file's values, uint8 (height, width).

    Args:
        encoded: the file's bytes.
        size: (height, width) to stretch to, to the nearest pixel; None for the image's own.
        shape: of the image, which the mask must have unless both are resized.
        what: it is, for messages.

    Raises:
        ValueError: not one channel of bytes, or another size.
    """
    try:
        with Image.open(io.BytesIO(encoded)) as file:
            if file.mode not in ("L", "P", "1"):
                raise ValueError(
                    f'The mask "{what}" is of the mode {file.mode}; expected one channel of bytes '
                    "(grey or a palette), each value a class."
                )
            file = file.convert("L") if file.mode == "1" else file
            if size is not None:
                file = file.resize(size[::-1], Image.Resampling.NEAREST)
            values = np.asarray(file, np.uint8)
    except OSError as error:
        raise ValueError(f'The mask "{what}" cannot be read: {error}.') from error
    if values.shape != tuple(shape[:2]):
        raise ValueError(
            f'The mask "{what}" is {values.shape[0]}x{values.shape[1]} (height x width), its image '
            f"{shape[0]}x{shape[1]}. Give masks of the images' size, or image_size to resize both."
        )
    return values


def _numbered(arrays, name, ignore_class):
    """(arrays with class numbers, or `VOID`, for values; the values, list of int; share of void).

    Raises:
        ValueError: too few values of classes, or too many.
    """
    counts = np.zeros(256, np.int64)
    for _, masks in arrays.values():
        counts += np.bincount(masks.ravel(), minlength=256)
    void = 0.0
    if ignore_class is not None:
        void = counts[ignore_class] / counts.sum()
        counts[ignore_class] = 0
    values = np.flatnonzero(counts)
    if not 2 <= len(values) <= MOST_CLASSES:
        but = "" if ignore_class is None else f" beside {ignore_class}"
        raise ValueError(
            f'The masks of "{name}" have {len(values)} different values{but}; expected 2 to '
            f"{MOST_CLASSES}, one a class. Masks must not be smoothed or compressed as JPEG."
        )
    table = np.full(256, VOID, np.uint8)
    table[values] = np.arange(len(values))
    numbered = {role: (images, table[masks]) for role, (images, masks) in arrays.items()}
    return numbered, values.tolist(), float(void)
