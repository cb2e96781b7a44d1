"""Any prepared TensorFlow Datasets (TFDS) set of labelled images."""

import difflib
import os
from pathlib import Path

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds
from tensorflow_datasets.core import naming, read_only_builder

from tfkd.data.assembly import splits_in_memory
from tfkd.data.images import decode
from tfkd.data.pipeline import MEMORY_LIMIT
from tfkd.data.resizing import STRETCH
from tfkd.data.splits import DataInfo, Splits, described, divide, fingerprint, roles

_NUMBERS_SHOWN = 20
NotFound = tfds.core.DatasetNotFoundError


def find_builder(name, data_dir=None):
    """The TFDS builder for a name, prepared data before code; None if TFDS does not know it.

    Args:
        name: as TFDS writes it: "cifar10", "cifar10:3.0.2", "name/config"; or a prepared directory
            (it holds dataset_info.json).
        data_dir: where prepared data lies; None for TFDS's own default.

    Raises:
        ValueError: for a known name with an unknown version or config.
    """
    if (Path(name).expanduser() / "dataset_info.json").is_file():
        return tfds.builder_from_directory(Path(name).expanduser())
    try:
        base, arguments = naming.parse_builder_name_kwargs(name)
    except (ValueError, NotFound):  # not written as a TFDS name, a path for example
        return None
    if base.namespace:  # community sets are looked up over the network
        return None
    if data_dir is not None:
        arguments["data_dir"] = data_dir
    by_code, refusal = None, None
    try:
        by_code = tfds.builder(name, data_dir=data_dir)
    except NotFound:
        pass  # prepared by code that is not registered here
    except (AssertionError, ValueError) as error:
        refusal = error  # the code's own versions and configs; another may lie prepared
    if by_code is not None and by_code.info.splits:
        return by_code
    try:
        return read_only_builder.builder_from_files(str(base), **arguments)
    except (NotFound, FileNotFoundError):
        if refusal is None:
            return by_code
    reason = str(refusal).split('": ')[-1].strip()
    raise ValueError(f'TFDS knows "{base}", but not "{name}": {reason}') from refusal


def near_names(name, data_dir=None):
    """Names like this one, registered with TFDS or prepared in `data_dir`."""
    names = set(tfds.list_builders(with_community_datasets=False))
    if data_dir is not None and Path(data_dir).is_dir():
        names |= {entry.name for entry in Path(data_dir).iterdir() if entry.is_dir()}
    return difflib.get_close_matches(name, sorted(names), n=3)


def load(name, builder, size=None, rule=STRETCH, download=False, **division):
    """Reads a data set through its builder.

    Args:
        name: as given to `tfkd.data.load`.
        builder: from `find_builder`.
        size: (height, width) to resize to; needed if the images differ in size.
        rule: of resizing, see `tfkd.data.resizing`.
        download: whether to download and prepare what is not there.
        **division: validation_fraction, seed, limit, as `tfkd.data.load` takes them.

    Returns:
        `Splits`; streamed if all pixels together exceed 1 GiB.

    Raises:
        FileNotFoundError: if the data is not prepared and `download` is false.
        ValueError: if it is not image classification, or a setting does not fit.
    """
    image_key, label_key = _supervised_keys(name, builder.info)
    if not builder.info.splits:
        if not download:
            raise FileNotFoundError(how_to_prepare(name, builder))
        builder.download_and_prepare()
    shape = image_shape(name, builder.info.features[image_key], size)
    label_names = tuple(builder.info.features[label_key].names)
    published = roles(list(builder.info.splits), name)
    counts = {role: builder.info.splits[split].num_examples for role, split in published.items()}

    def examples(split):
        """Examples in the files' order, their images not decoded yet."""
        return builder.as_dataset(
            split=split,
            decoders={image_key: tfds.decode.SkipDecoding()},
            read_config=tfds.ReadConfig(try_autocache=False, interleave_cycle_length=1),
            shuffle_files=False,
        )

    def decoded(example):
        image = decode(example[image_key], shape, None if size is None else rule)
        return image, tf.cast(example[label_key], tf.int64)

    if sum(counts.values()) * np.prod(shape) <= MEMORY_LIMIT:
        arrays = {}
        for role, split in published.items():
            what = f'the {split} split of "{name}"'
            arrays[role] = _read(examples(split), decoded, counts[role], shape, what)
        return splits_in_memory(name, arrays, label_names, rule, **division)

    # Labels are not known before the files are read: cuts are seeded, but not by class.
    parts = divide(
        {role: np.zeros(count, np.int64) for role, count in counts.items()}, name, **division
    )
    datasets, pieces = {}, [builder.info.full_name, described(shape, size, rule)]
    for role in ("train", "validation", "test"):
        split, indices = parts[role]
        chosen = np.zeros(counts[split], bool)
        chosen[indices] = True
        what = f'{published[split]} split of "{name}"'
        checked = _label_check(decoded, label_key, len(label_names), what)
        kept = examples(published[split]).enumerate().filter(_member(chosen))
        dataset = kept.map(checked, tf.data.AUTOTUNE, deterministic=True)
        datasets[role] = dataset.apply(tf.data.experimental.assert_cardinality(len(indices)))
        paths = builder.info.splits[published[split]].filepaths
        pieces += [role, *(f"{path.name} {os.path.getsize(path)}" for path in paths), indices]
    sizes = {role: len(part.indices) for role, part in parts.items()}
    sizes = {role: sizes[role] for role in ("train", "validation", "test")}
    mark = fingerprint(*pieces)
    info = DataInfo(name, shape, len(label_names), label_names, sizes, mark, rule)
    return Splits(datasets["train"], datasets["validation"], datasets["test"], info)


def _supervised_keys(name, info):
    """The names of the image and its class among the features."""
    features = info.features
    pair = info.supervised_keys
    if pair is not None and len(pair) == 2 and all(isinstance(key, str) for key in pair):
        if _is_image(features[pair[0]]) and isinstance(features[pair[1]], tfds.features.ClassLabel):
            return pair
    keys = list(features) if isinstance(features, tfds.features.FeaturesDict) else []
    images = [key for key in keys if _is_image(features[key])]
    labels = [key for key in keys if isinstance(features[key], tfds.features.ClassLabel)]
    if len(images) == len(labels) == 1:
        return images[0], labels[0]
    kinds = ", ".join(f"{key}: {type(features[key]).__name__}" for key in keys) or repr(features)
    raise ValueError(
        f'"{name}" is no image classification set: expected one uint8 Image and one ClassLabel '
        f"feature; it has {kinds}."
    )


def _is_image(feature):
    return isinstance(feature, tfds.features.Image) and feature.np_dtype == np.uint8


def image_shape(name, feature, size):
    height, width, channels = feature.shape
    if size is None and None in (height, width):
        raise ValueError(
            f'The images of "{name}" differ in size: its shape is {feature.shape}. '
            "Give image_size=(height, width) to resize them all."
        )
    return (*(size or (height, width)), channels or 3)


def how_to_prepare(name, builder):
    data_dir = str(builder.data_path)
    parts = len(Path(builder.info.full_name).parts)
    root = str(Path(data_dir).parents[parts - 1])
    return (
        f'"{name}" is not prepared: nothing in {data_dir}. Download it once with\n'
        '    python -c "import tensorflow_datasets as tfds; '
        f"tfds.builder('{name}', data_dir='{root}').download_and_prepare()\"\n"
        "or pass download=True; or, if it lies elsewhere, give that directory as data_dir or in "
        "TFDS_DATA_DIR."
    )


def _read(encoded, decoded, count, shape, what):
    """All examples: (images uint8 (n, H, W, C), labels int64 (n,)).

    Args:
        encoded: dataset of examples whose images are not decoded.
        decoded: function of an example to (image, label).
        count: how many there should be.
        shape: (height, width, channels).
        what: the split's name, for messages.
    """
    images, labels, filled = np.empty((count, *shape), np.uint8), np.empty(count, np.int64), 0
    dataset = encoded.map(decoded, tf.data.AUTOTUNE, deterministic=True)
    try:
        for some_images, some_labels in dataset.batch(1024).as_numpy_iterator():
            end = filled + len(some_labels)
            if end <= count:
                images[filled:end], labels[filled:end] = some_images, some_labels
            filled = end
    except tf.errors.OpError as error:
        raise ValueError(_what_failed(encoded, decoded, what, error)) from error
    if filled != count:
        raise ValueError(
            f"Expected {count} examples in {what}, as its dataset_info.json says; found {filled}. "
            "Prepare it again."
        )
    return images, labels


def _what_failed(encoded, decoded, what, error):
    """The message for examples of which some cannot be read: which, if it is their images."""
    why = str(error).split("[Op:")[0].strip().split("}} ")[-1].splitlines()[0]
    numbered = encoded.enumerate().map(lambda number, example: (number, *decoded(example)))
    try:
        numbers = [int(number) for number, *_ in numbered.ignore_errors().as_numpy_iterator()]
        count = sum(1 for _ in encoded)
    except tf.errors.OpError:
        numbers, count = [], 0
    bad = sorted(set(range(count)) - set(numbers))
    if not bad:
        return f"Cannot read {what}: {why}. Its files are damaged: prepare it again."
    shown = ", ".join(map(str, bad[:_NUMBERS_SHOWN])) + ", ..." * (len(bad) > _NUMBERS_SHOWN)
    return (
        f"Cannot decode {len(bad)} images of {what}: examples {shown} (from 0; the first: {why}). "
        "Prepare it again without them."
    )


def _member(chosen):
    chosen = tf.constant(chosen)
    return lambda index, example: tf.gather(chosen, index)


def _label_check(decoded, label_key, num_classes, what):
    message = f"Label out of 0 to {num_classes - 1} in the {what}: (example, label) ="

    def checked(index, example):
        label = tf.cast(example[label_key], tf.int64)
        inside = (label >= 0) & (label < num_classes)
        with tf.control_dependencies([tf.debugging.Assert(inside, [message, index, label])]):
            return decoded({**example, label_key: tf.identity(label)})

    return checked
