"""A folder of images, one folder a class: `root/<class>/*.png`, or `root/<split>/<class>/*.png`."""

import os
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tensorflow as tf
from PIL import Image, UnidentifiedImageError

from tfkd.data.assembly import splits_in_memory
from tfkd.data.images import decode
from tfkd.data.pipeline import MEMORY_LIMIT, Source, from_source
from tfkd.data.splits import SPLIT_NAMES, DataInfo, Splits, divide, fingerprint, roles

SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png")
_GREY_MODES = {"1", "L", "I;16"}


class Listing(NamedTuple):
    """One published split: paths (sorted by class, then path) and labels int64 (n,)."""

    paths: list
    labels: np.ndarray


def load(name, size=None, **division):
    """Reads a folder of images.

    Args:
        name: the folder.
        size: (height, width) to resize to; needed if the images differ in size.
        **division: validation_fraction, seed, limit, as `tfkd.data.load` takes them.

    Returns:
        `Splits`; streamed from the files if all pixels together exceed 1 GiB.

    Raises:
        ValueError: for a layout, an image file or a setting that does not fit; the message names
            it.
    """
    root = Path(name).expanduser()
    listings, class_names = _listings(root)
    shape = _common_shape([path for listing in listings.values() for path in listing.paths], size)
    total = sum(len(listing.paths) for listing in listings.values())
    if total * np.prod(shape) <= MEMORY_LIMIT:
        arrays = {
            role: (_pixels(listing.paths, shape, size is not None), listing.labels)
            for role, listing in listings.items()
        }
        return splits_in_memory(str(name), arrays, class_names, **division)
    return _streamed(str(name), root, listings, class_names, shape, size is not None, division)


def _listings(root):
    """Published splits as {role: Listing}, and the class names."""
    folders = _folders(root)
    known = {alias for aliases in SPLIT_NAMES.values() for alias in aliases}
    if not set(folders) & known or not any(
        _folders(root / folder) for folder in set(folders) & known
    ):
        split_folders = {"train": root}
    else:
        strangers = sorted(set(folders) - known)
        if strangers:
            raise ValueError(
                f'"{root}" holds split folders and others: {", ".join(strangers)}. Expected either '
                f"split folders "
                "(train, validation or val, test) or class folders."
            )
        split_folders = {role: root / split for role, split in roles(folders, str(root)).items()}
    class_names = _folders(split_folders["train"])
    if len(class_names) < 2:
        raise ValueError(
            f'Expected a folder for each of two or more classes in "{split_folders["train"]}"; '
            f"found {class_names or 'none'}."
        )
    listings = {}
    for role, folder in split_folders.items():
        if _folders(folder) != class_names:
            different = sorted(set(_folders(folder)) ^ set(class_names))
            raise ValueError(
                f'The class folders of "{folder}" and "{split_folders["train"]}" differ in: '
                f"{', '.join(different)}. "
                "Every split needs the same classes."
            )
        paths, labels = [], []
        for label, class_name in enumerate(class_names):
            files = _images(folder / class_name)
            paths += files
            labels += [label] * len(files)
        listings[role] = Listing(paths, np.array(labels, np.int64))
    return listings, tuple(class_names)


def _folders(root):
    return sorted(
        entry.name for entry in root.iterdir() if entry.is_dir() and not entry.name.startswith(".")
    )


def _images(folder):
    found = sorted(
        str(path)
        for path in folder.rglob("*")
        if path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and path.is_file()
    )
    if not found:
        raise ValueError(
            f'The class folder "{folder}" holds no images ({", ".join(SUFFIXES)}). Add some, or '
            f"remove the folder."
        )
    return found


def _common_shape(paths, size):
    """(height, width, channels) of all images, by the files' headers; grey only if all are."""
    sizes, grey = {}, True
    for path in paths:
        try:
            with Image.open(path) as image:
                sizes.setdefault((image.height, image.width), path)
                grey = grey and image.mode in _GREY_MODES
        except (UnidentifiedImageError, OSError) as error:
            raise _corrupt(path, error) from error
    if size is None and len(sizes) > 1:
        (first, first_path), (second, second_path) = list(sizes.items())[:2]
        raise ValueError(
            f"The images differ in size: {first_path} is {first[0]}x{first[1]} (height x width), "
            f"{second_path} is "
            f"{second[0]}x{second[1]}. Give image_size=(height, width) to resize them all."
        )
    return (*(size or next(iter(sizes))), 1 if grey else 3)


def _corrupt(path, error):
    reason = str(error).split("[Op:")[0].strip()
    return ValueError(f'Cannot read the image "{path}": {reason}. Replace or remove the file.')


def _pixels(paths, shape, resized):
    """All images of a list of files: uint8 (n, height, width, channels)."""
    images = np.empty((len(paths), *shape), np.uint8)
    dataset = tf.data.Dataset.from_tensor_slices(paths).map(
        lambda path: decode(tf.io.read_file(path), shape, resized),
        tf.data.AUTOTUNE,
        deterministic=True,
    )
    try:
        for index, image in enumerate(dataset.as_numpy_iterator()):
            images[index] = image
    except tf.errors.OpError:
        _raise_for_corrupt(paths, shape, resized)
        raise
    return images


def _raise_for_corrupt(paths, shape, resized):
    """The pipeline's error does not name the file: find the first that fails by itself."""
    for path in paths:
        try:
            decode(tf.io.read_file(path), shape, resized)
        except (tf.errors.OpError, ValueError) as error:
            raise _corrupt(path, error) from error


def _streamed(name, root, listings, class_names, shape, resized, division):
    parts = divide({role: listing.labels for role, listing in listings.items()}, name, **division)
    datasets, sizes, pieces = {}, {}, [str(shape), *class_names]
    for role in ("train", "validation", "test"):
        listing, indices = listings[parts[role].split], parts[role].indices
        paths = [listing.paths[index] for index in indices]
        datasets[role] = from_source(_source(paths, listing.labels[indices], shape, resized))
        sizes[role] = len(paths)
        files = [f"{os.path.relpath(path, root)} {os.path.getsize(path)}" for path in paths]
        pieces += [role, *files, listing.labels[indices]]
    info = DataInfo(name, shape, len(class_names), class_names, sizes, fingerprint(*pieces))
    return Splits(datasets["train"], datasets["validation"], datasets["test"], info)


def _source(paths, labels, shape, resized):
    paths, labels = tf.constant(paths), tf.constant(labels)

    def gather(indices):
        images = tf.map_fn(
            lambda path: decode(tf.io.read_file(path), shape, resized),
            tf.gather(paths, indices),
            fn_output_signature=tf.TensorSpec(shape, tf.uint8),
        )
        return images, tf.gather(labels, indices)

    return Source(len(labels), gather)
