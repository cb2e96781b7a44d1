"""What a student takes: names, shapes and dtypes of its inputs, its call, and made-up inputs."""

import keyword
import re

import keras
import numpy as np
import tensorflow as tf

from tfkd import _keras, taps

IMAGE = "image"

_AUTOMATIC_NAME = re.compile(r"(keras_tensor|input|input_layer|inputs)(_\d+)?")
_STRINGS = ("a", "b", "unknown")  # for students without a vocabulary
# Dtypes that clients and loaders do not all have are served as wider ones, and cast inside.
_WIDER = {
    tf.float16: tf.float32,
    tf.bfloat16: tf.float32,
    tf.int16: tf.int32,
    tf.uint16: tf.int32,
    tf.uint32: tf.int64,
    tf.uint64: tf.int64,
}
_LARGEST_SCALED = 5.0  # what is scaled from here to 1 was divided by 255 before it is given
_EXAMPLE_SIZE = 64
_WORDS = 50  # of a vocabulary: the most frequent ones
# Layers that may stand before those that scale the pixels.
_BEFORE_WEIGHTS = (
    "InputLayer", "Resizing", "CenterCrop", "Cropping2D", "ZeroPadding2D", "Identity", "Dropout",
    "Functional", "Sequential", "Reshape", "Permute", "Pipeline", "RandomFlip", "RandomCrop",
    "RandomRotation", "RandomTranslation", "RandomZoom", "RandomContrast", "RandomBrightness",
)  # fmt: skip


def specs(student, image_dtype):
    """{name: `tf.TensorSpec` with a free batch dimension} in the order of the model's inputs.

    A single input of rank 4 is called "image" and has the dtype `image_dtype`.

    Raises:
        ValueError: inputs that are not known, have no name of their own, or no fixed size.
    """
    found = _found(student)
    unnamed = [name for name, _, _ in found if _AUTOMATIC_NAME.fullmatch(name)]
    if len(found) > 1 and unnamed:
        raise ValueError(
            f'Student "{student.name}" has {len(found)} inputs, and {unnamed} have no name of '
            "their own; clients would not know which is which. Name each: "
            'keras.Input(shape, name="image").'
        )
    if len(found) == 1:
        name, shape, dtype = found[0]
        if len(shape) == 4 and tf.as_dtype(dtype) != tf.string:
            found = [(IMAGE, shape, image_dtype)]
        elif unnamed:
            found = [("inputs", shape, dtype)]
    for name, shape, _ in found:
        if not name.isidentifier() or keyword.iskeyword(name):
            raise ValueError(
                f'Input "{name}" of student "{student.name}" cannot be a key of a signature. Give '
                "it a name of letters, digits and underscores."
            )
        if None in shape[1:]:
            raise ValueError(
                f'Input "{name}" of student "{student.name}" has the shape {tuple(shape)}. An '
                "export needs fixed sizes behind the batch dimension. Wrap the student: inputs = "
                f'keras.Input({_fixed(shape[1:])}, dtype="{tf.as_dtype(dtype).name}", '
                f'name="{name}"); keras.Model(inputs, student(inputs)).'
            )
    names = [name for name, _, _ in found]
    if len(set(names)) < len(names):
        raise ValueError(
            f'Several inputs of student "{student.name}" have the same name: {names}. Name each '
            'its own: keras.Input(shape, name="image").'
        )
    return {
        name: tf.TensorSpec((None, *shape[1:]), _WIDER.get(tf.as_dtype(dtype), dtype), name)
        for name, shape, dtype in found
    }


def structured(model, feeds):
    """The structure that the model's call takes.

    Args:
        model: the student.
        feeds: {input name: tensor}, or of anything else, in the order of `specs`.
    """
    structure = _structure(model)
    if structure is None:
        return next(iter(feeds.values()))
    by_symbol = dict(zip(map(id, model.inputs), feeds.values(), strict=True))
    return keras.tree.map_structure(lambda symbol: by_symbol[id(symbol)], structure)


def own_dtypes(model, inputs):
    """{input name: dtype that the model itself takes}, of an image perhaps not the served one."""
    if _structure(model) is None:
        return {name: tf.as_dtype(model.compute_dtype) for name in inputs}
    return {name: tf.as_dtype(t.dtype) for name, t in zip(inputs, model.inputs, strict=True)}


def arranged(model, inputs, feeds):
    """What the model's call takes, in the dtypes that it takes."""
    dtypes = own_dtypes(model, inputs)
    tensors = {name: tf.convert_to_tensor(feeds[name]) for name in inputs}
    return structured(
        model, {n: t if t.dtype == dtypes[n] else tf.cast(t, dtypes[n]) for n, t in tensors.items()}
    )


def call(model, inputs, feeds):
    """What the model returns in inference for {input name: array or tensor}."""
    arguments = {"training": False} if _keras.takes_training(model) else {}
    return model(arranged(model, inputs, feeds), **arguments)


def picked(returned, model, output):
    """The output of that name among what a model returned."""
    if isinstance(returned, dict):
        return returned[output] if output in returned else next(iter(returned.values()))
    if isinstance(returned, list | tuple):
        names = taps.output_names(model) or [f"output_{i}" for i in range(len(returned))]
        return returned[names.index(output)] if len(returned) > 1 else returned[0]
    return returned


def lookup_tables(model):
    """The vocabularies of a model's layers as TensorFlow's resources, which a SavedModel needs."""
    resources = tf.train.TrackableView(model).descendants()
    return [r for r in resources if isinstance(r, tf.saved_model.experimental.TrackableResource)]


def scaled_range(model):
    """The largest input that the layers before a model's weights map to about 1, or None.

    255 for a model that begins with `Rescaling(1 / 255)` or `Rescaling(1 / 127.5, -1)`; mean plus
    deviation for one that begins with an adapted `Normalization`. None where no layer scales.
    """
    scale, offset = 1.0, 0.0
    for path in taps.layer_paths(model):
        layer = taps.find_layer(model, path)
        if isinstance(layer, keras.layers.Rescaling):
            factor, shift = np.mean(layer.scale), np.mean(layer.offset)
        elif isinstance(layer, keras.layers.Normalization):
            if getattr(layer, "mean", None) is None or layer.invert:
                return None
            deviation = np.sqrt(np.mean(np.asarray(layer.variance)))
            factor, shift = 1 / deviation, -np.mean(np.asarray(layer.mean)) / deviation
        elif type(layer).__name__ in _BEFORE_WEIGHTS:
            continue
        else:
            break
        scale, offset = scale * factor, offset * factor + shift
    if (scale, offset) == (1.0, 0.0) or not scale:
        return None
    return float(max(abs((1 - offset) / scale), abs((-1 - offset) / scale)))


def takes_pixels(model):
    """Whether a model of images takes raw pixels, 0..255; also where nothing says otherwise."""
    largest = scaled_range(model)
    return largest is None or largest > _LARGEST_SCALED


def made_up(model, inputs, batch_size, seed=0):
    """Reproducible inputs that every layer of the model can take.

    Whole pixel values 0..255 for one image; tokens that the vocabularies know, padded with zeros;
    words of the vocabularies; standard normal numbers, padded where the model masks.

    Returns:
        {name: array}
    """
    random = np.random.default_rng(seed)
    only_image = list(inputs) == [IMAGE]
    words, tokens, padding = _vocabulary(model, inputs)
    feeds = {}
    for name, spec in inputs.items():
        shape = (batch_size, *spec.shape[1:])
        if spec.dtype == tf.string:
            array = random.choice(np.array([word.encode() for word in words], object), shape)
        elif spec.dtype == tf.bool:
            array = random.integers(0, 2, shape).astype(bool)
        elif only_image:
            array = random.integers(0, 256, shape)
            array = array if takes_pixels(model) else array / 255
        elif spec.dtype.is_integer:
            known = [t for t in tokens if t != 0] if len(shape) > 1 and shape[1] > 1 else tokens
            array = _padded(random.choice(np.array(known or tokens), shape), 0, random)
        else:
            array = random.standard_normal(shape)
            array = array if padding is None else _padded(array, padding, random)
        feeds[name] = array.astype(spec.dtype.as_numpy_dtype)
    return feeds


def _structure(model):
    """The model's symbolic inputs as its call takes them; None for a subclassed model."""
    if not getattr(model, "inputs", None):
        return None
    # The `input` of a Sequential model is that of its first call by another model.
    return model.inputs[0] if isinstance(model, keras.Sequential) else model.input


def _fixed(shape):
    """An example of a shape without free sizes."""
    return tuple(_EXAMPLE_SIZE if size is None else size for size in shape)


def _found(student):
    """[(name, shape, dtype)] of every input."""
    structure = _structure(student)
    if structure is None:
        spec = taps.input_signature(student)
        if not isinstance(spec, tf.TensorSpec):
            raise ValueError(
                f'The inputs of student "{student.name}" are not known. Wrap it: inputs = '
                'keras.Input(shape, name="image"); keras.Model(inputs, student(inputs)).'
            )
        return [("input", spec.shape, spec.dtype)]
    keys = structure if isinstance(structure, dict) else {}
    keys = {id(tensor): key for key, tensor in keys.items()}
    return [(keys.get(id(t), t.name), t.shape, t.dtype) for t in student.inputs]


def _vocabulary(model, inputs):
    """What the layers take: (words, tokens, value that masks or None)."""
    words, sizes, numbers, padding = list(_STRINGS), [], [], None
    for layer in _keras.layers_of(model):
        if isinstance(layer, keras.layers.Embedding):
            sizes.append(layer.input_dim)
        elif isinstance(layer, keras.layers.CategoryEncoding):
            sizes.append(layer.num_tokens or 2)
        elif isinstance(layer, keras.layers.Masking):
            padding = layer.mask_value
        elif isinstance(layer, keras.layers.IntegerLookup):
            numbers += [int(number) for number in layer.get_vocabulary()[:_WORDS]]
        elif isinstance(layer, keras.layers.StringLookup | keras.layers.TextVectorization):
            words += [str(word) for word in layer.get_vocabulary()[:_WORDS]]
    # A number that a lookup knows may be too large for another input's embedding.
    alone = sum(spec.dtype.is_integer for spec in inputs.values()) == 1
    tokens = numbers if numbers and alone else range(min(sizes, default=2))
    return words, tokens, padding


def _padded(array, value, random):
    """Sequences of different lengths: what stands behind the end becomes `value`."""
    if array.ndim < 2 or array.shape[1] < 2:
        return array
    lengths = random.integers(1, array.shape[1] + 1, len(array))
    behind = np.arange(array.shape[1]) >= lengths[:, None]
    array[behind] = value
    return array
