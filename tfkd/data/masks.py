"""Images with a class for each pixel: built in, a folder of images and masks, or a TFDS set."""

import functools
import io
from pathlib import Path

import numpy as np
from PIL import Image

from tfkd.data import labelled_pictures, loading, tree
from tfkd.data.assembly import divided
from tfkd.data.files import common_shape, read_images, require_room
from tfkd.data.resizing import STRETCH, parse_size
from tfkd.data.splits import SPLIT_NAMES

SHAPES, IMAGES, MASKS = "shapes", "images", "masks"
MOST_CLASSES = 64  # different values beyond which an image is no mask


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


def load(name, data_dir=None, *, image_size=None, resize=STRETCH, **division):
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
        **division: validation_fraction, seed, limit, as `tfkd.data.load` takes them.

    Returns:
        `tfkd.data.Splits`: unbatched datasets of (uint8 (H, W, C), uint8 (H, W)), whose values are
        class numbers.

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
        return divided(name, arrays, None, names, **division)
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
    arrays, names = _numbered(arrays, name)
    return divided(name, arrays, None, names, **division)


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


def _numbered(arrays, name):
    """(arrays with class numbers for values, the values as names)."""
    there = np.zeros(256, bool)
    for _, masks in arrays.values():
        there[np.unique(masks)] = True
    values = np.flatnonzero(there)
    if not 2 <= len(values) <= MOST_CLASSES:
        raise ValueError(
            f'The masks of "{name}" have {len(values)} different values; expected 2 to '
            f"{MOST_CLASSES}, one a class. Masks must not be smoothed or compressed as JPEG."
        )
    table = np.zeros(256, np.uint8)
    table[values] = np.arange(len(values))
    numbered = {role: (images, table[masks]) for role, (images, masks) in arrays.items()}
    return numbered, tuple(map(str, values.tolist()))
