"""`load`: one door to embedded, TFDS and folder data."""

import importlib
import os
from pathlib import Path

from tfkd._extras import installed, needs_extra
from tfkd.data.images import parse_size
from tfkd.data.splits import Splits

_EMBEDDED = {"digits": "tfkd.data.digits", "rod_pump_cards": "tfkd.data.rod_pump_cards"}


def names():
    """The names that `load` knows without any data directory or network."""
    return list(_EMBEDDED)


def is_tfds_name(name, data_dir=None):
    """Whether TensorFlow Datasets knows a name; it knows none where the extra "data" is missing."""
    if not installed("data"):
        return False
    from tfkd.data import tfds_source

    return tfds_source.find_builder(name, data_dir) is not None


def load(
    name,
    data_dir=None,
    *,
    validation_fraction=0.1,
    seed=0,
    limit=None,
    image_size=None,
    download=False,
    cache_dir=None,
) -> Splits:
    """Loads labelled images as train, validation and test.

    A published split keeps its role ("validation", "val" and "valid" mean the same). What is
    missing is cut from train, each class in proportion: a test split of a fifth, the same whatever
    `seed`, then a validation split of `validation_fraction` of the rest. Up to 1 GiB of pixels is
    held in memory; more is streamed (TFDS sets are then cut without regard to class, and their
    labels checked as they are read).

    Args:
        name: "digits" (scikit-learn's, no network) or "rod_pump_cards" (simulated); a TFDS name
            ("cifar10", "name/config", "name:1.0.0"); a directory of prepared TFDS data; or a folder
            of images, one folder a class, with or without split folders above (train, Training,
            seg_train, ...), its images as a viewer shows them (`tfkd.data.images`). A TFDS name
            wins over a folder of the same name; write "./name" for the folder.
        data_dir: where TFDS data lies; default: the environment's TFDS_DATA_DIR, else TFDS's own
            default.
        validation_fraction: part of train that becomes validation where none is published.
        seed: of the validation cut and of `limit`.
        limit: at most so many training examples, each class in proportion.
        image_size: resize every image: a number, or (height, width), bilinear as
            `keras.layers.Resizing`. Needed where images differ in size.
        download: let TFDS download and prepare what is not there. By default nothing touches the
            network.
        cache_dir: where the listing of a folder (names, sizes, times and headers of its files) is
            kept, so that it is measured once; default: "tfkd/listings" in $XDG_CACHE_HOME, else in
            ~/.cache.

    Returns:
        `Splits`: train, validation, test as unbatched `tf.data.Dataset`s of (uint8 (H, W, C), int64
        label), in fixed order, of known cardinality, disjoint; and `DataInfo`.

    Raises:
        ValueError: unknown name (near matches), not image classification, unfit layout, unreadable
            images (named all at once), labels out of range, empty split, setting out of range.
        FileNotFoundError: data that is not there, with what to do.
        ModuleNotFoundError: a TFDS set without the extra "data".
    """
    size = parse_size(image_size)
    division = {"validation_fraction": validation_fraction, "seed": seed, "limit": limit}
    text = os.fspath(name)
    if text in _EMBEDDED:
        return importlib.import_module(_EMBEDDED[text]).load(size, **division)

    from tfkd.data import folder

    path = Path(text).expanduser()
    if isinstance(name, os.PathLike) or text.startswith((".", "~")) or path.is_absolute():
        if not _is_folder(path):
            what = f'"{path}" is a file: unpack it' if path.exists() else f'No folder "{path}"'
            raise FileNotFoundError(f"{what} (from {Path.cwd()}). Give a folder of images.")
        if not _is_prepared(path):
            return folder.load(text, size, cache_dir, **division)
    data_dir = data_dir or os.environ.get("TFDS_DATA_DIR") or None
    if data_dir is not None:
        data_dir = os.path.abspath(os.path.expanduser(data_dir))
        if not download and not os.path.isdir(data_dir):
            raise FileNotFoundError(
                f'No directory "{data_dir}"; it was given as data_dir or TFDS_DATA_DIR.'
            )
    if text and not installed("data") and _is_folder(path) and not _is_prepared(path):
        return folder.load(text, size, cache_dir, **division)
    needs_extra("data", f'Reading "{text}", which is no folder of images here,')
    # Imported where needed: TFDS and its dependencies take their time.
    from tfkd.data import tfds_source

    builder = tfds_source.find_builder(text, data_dir)
    if builder is not None:
        return tfds_source.load(text, builder, size, download, **division)
    if text and _is_folder(path):
        return folder.load(text, size, cache_dir, **division)
    near = tfds_source.near_names(text, data_dir)
    hint = f" Did you mean {' or '.join(near)}?" if near else ""
    raise ValueError(
        f'No data set "{text}".{hint} Expected {", ".join(names())} (embedded), a name that '
        f"TensorFlow Datasets knows "
        f"or has prepared in {data_dir or 'its default directory'}, or a folder of images with one "
        f"folder a class "
        f'(there is no folder "{path}").'
    )


def _is_prepared(path):
    return (path / "dataset_info.json").is_file()


def _is_folder(path):
    try:
        return path.is_dir()
    except OSError as error:  # a folder above it is closed to this user; a name too long
        raise ValueError(
            f'Cannot look at "{path}": {error.strerror or error}. Make the folders above it '
            "readable for this user (chmod u+rx), or give another folder."
        ) from error
