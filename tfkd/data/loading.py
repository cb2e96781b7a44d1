"""`load`: one door to embedded, TFDS and folder data."""

import importlib
import os
from pathlib import Path

from tfkd._extras import installed, needs_extra
from tfkd.data.resizing import STRETCH, check_rule, parse_size
from tfkd.data.splits import Splits

EMBEDDED = {"digits": "tfkd.data.digits", "rod_pump_cards": "tfkd.data.rod_pump_cards"}
FOLDER = "folder"


def names():
    """The names that `load` knows without any data directory or network."""
    return list(EMBEDDED)


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
    resize=STRETCH,
    skip_damaged=False,
    download=False,
    cache_dir=None,
    store=None,
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
        image_size: resize every image: a number, or (height, width). Needed where images differ in
            size.
        resize: how: "stretch", bilinear without antialiasing, as `keras.layers.Resizing`;
            "stretch_antialiased"; "crop", the largest middle part of the aspect of `image_size`; or
            "pad", the whole image in the middle of black. The last two keep the aspect and are
            antialiased.
        skip_damaged: of a folder, leave out files that cannot be read, and classes without any
            image, with a warning, instead of stopping.
        download: let TFDS download and prepare what is not there. By default nothing touches the
            network.
        cache_dir: where the listing of a folder (names, sizes, times and headers of its files) is
            kept, so that it is measured once; default: "tfkd/listings" in $XDG_CACHE_HOME, else in
            ~/.cache.
        store: a directory in which the images of a folder are kept decoded and resized, as uint8,
            and read from: built at the first time (some height * width * channels bytes an image),
            the same pixels at a fraction of the cost in every later epoch and run.

    Returns:
        `Splits`: train, validation, test as unbatched `tf.data.Dataset`s of (uint8 (H, W, C), int64
        label), in fixed order, of known cardinality, disjoint; and `DataInfo`.

    Raises:
        ValueError: unknown name (near matches), not image classification, unfit layout, unreadable
            images (named all at once), labels out of range, empty split, setting out of range.
        FileNotFoundError: data that is not there, with what to do.
        ModuleNotFoundError: a TFDS set, or a store, without the extra "data".
    """
    size = parse_size(image_size)
    check_rule(resize)
    division = {"validation_fraction": validation_fraction, "seed": seed, "limit": limit}
    text, found = find(name, data_dir, download)
    if store is not None and found != FOLDER:
        raise ValueError(
            f'A store keeps the decoded images of a folder, but "{text}" is no folder: it is held '
            "in memory, or prepared by TensorFlow Datasets. Leave store (--store) out."
        )
    if found in EMBEDDED:
        return importlib.import_module(EMBEDDED[found]).load(size, resize, **division)
    if found == FOLDER:
        from tfkd.data import folder

        return folder.load(text, size, resize, skip_damaged, cache_dir, store, **division)
    from tfkd.data import tfds_source

    return tfds_source.load(text, found, size, resize, download, **division)


def find(name, data_dir=None, download=False):
    """What a name given to `load` means: (its text, one of `EMBEDDED`, `FOLDER` or a TFDS builder).

    Raises:
        As `load`, for a name that means nothing.
    """
    text = os.fspath(name)
    if text in EMBEDDED:
        return text, text
    path = Path(text).expanduser()
    if isinstance(name, os.PathLike) or text.startswith((".", "~")) or path.is_absolute():
        if not _is_folder(path):
            what = f'"{path}" is a file: unpack it' if path.exists() else f'No folder "{path}"'
            raise FileNotFoundError(f"{what} (from {Path.cwd()}). Give a folder of images.")
        if not _is_prepared(path):
            return text, FOLDER
    data_dir = data_dir or os.environ.get("TFDS_DATA_DIR") or None
    if data_dir is not None:
        data_dir = os.path.abspath(os.path.expanduser(data_dir))
        if not download and not os.path.isdir(data_dir):
            raise FileNotFoundError(
                f'No directory "{data_dir}"; it was given as data_dir or TFDS_DATA_DIR.'
            )
    if text and not installed("data") and _is_folder(path) and not _is_prepared(path):
        return text, FOLDER
    needs_extra("data", f'Reading "{text}", which is no folder of images here,')
    # Imported where needed: TFDS and its dependencies take their time.
    from tfkd.data import tfds_source

    builder = tfds_source.find_builder(text, data_dir)
    if builder is not None:
        return text, builder
    if text and _is_folder(path):
        return text, FOLDER
    near = tfds_source.near_names(text, data_dir)
    hint = f" Did you mean {' or '.join(near)}?" if near else ""
    raise ValueError(
        f'No data set "{text}".{hint} Expected {", ".join(names())} (embedded), a name that '
        f"TensorFlow Datasets knows or has prepared in {data_dir or 'its default directory'}, or a "
        f'folder of images with one folder a class (there is no folder "{path}").'
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
