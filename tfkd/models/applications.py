"""Any keras.applications network by name, from raw pixels to logits like tfkd's own families.

The network stands in the model as one layer named "backbone": its layers keep their names and are
tapped by path ("backbone/block3_pool"), and `model.get_layer("backbone").trainable = False` freezes
it. Before it come, as layers, what the network expects of its input: enlarging to its smallest
size, grey to three channels, its own preprocessing.
"""

import collections
import contextlib
import inspect
import os
import re
import socket

import keras
from keras import layers

from tfkd.models import blocks

# Smallest sides that the networks accept where it is not Keras's usual 32.
SMALLEST = {"InceptionResNetV2": 75, "InceptionV3": 75, "Xception": 71}

# What each network's `preprocess_input` does. Networks that are not here normalise inside
# (EfficientNet, ConvNeXt, MobileNetV3).
PREPROCESSING = {
    "caffe": ("ResNet50", "ResNet101", "ResNet152", "VGG16", "VGG19"),
    "torch": ("DenseNet121", "DenseNet169", "DenseNet201"),
    "tf": (
        *("ResNet50V2", "ResNet101V2", "ResNet152V2", "MobileNet", "MobileNetV2"),
        *("NASNetLarge", "NASNetMobile", "InceptionResNetV2", "InceptionV3", "Xception"),
    ),
}
IMAGENET_MEAN = (0.485, 0.456, 0.406)  # RGB, of pixels 0..1
IMAGENET_DEVIATION = (0.229, 0.224, 0.225)
CAFFE_MEAN = (103.939, 116.779, 123.68)  # BGR, of pixels 0..255

# Arguments of Keras's functions that tfkd decides itself, or that concern the top that is dropped.
_DECIDED = (
    *("name", "include_top", "include_preprocessing", "input_tensor", "input_shape", "pooling"),
    *("classes", "classifier_activation", "dropout", "dropout_rate"),
)
_DOWNLOAD_TIMEOUT = 10  # seconds without an answer


def option_names(name):
    """Returns the options of `application(name, ...)`: ours, then the network's own, as `alpha`."""
    own = inspect.signature(getattr(keras.applications, name)).parameters
    ours = ["weights", "batch_norm_momentum", "image_size"]
    return ours + [option for option in own if option not in _DECIDED and option not in ours]


def application(
    name,
    input_shape,
    num_classes,
    *,
    weights=None,
    batch_norm_momentum=blocks.BATCH_NORM_MOMENTUM,
    image_size=None,
    **options,
):
    """The network without its top, then global average pooling and logits.

    Args:
        name: a function of `keras.applications`, for example "MobileNetV2".
        input_shape: (height, width, channels); 1 channel is repeated to 3; images smaller than the
            network takes are enlarged.
        num_classes: number of logits.
        weights: None (random), "imagenet" (Keras's download or cache) or the path of a weights file
            of the network without its top.
        batch_norm_momentum: set on every BatchNorm layer (see `blocks.BATCH_NORM_MOMENTUM`; Keras's
            MobileNetV2 has 0.999); None keeps the network's own.
        image_size: pixels a side that the model resizes its images to, as a first layer: a student
            may look at smaller images than its teacher. None leaves them as they are.
        **options: the network's own, for example `alpha` of the MobileNets.

    Returns:
        `keras.Model`, see `tfkd.models.build`.

    Raises:
        ValueError: channels other than 1 or 3; an impossible image_size; a weights file that is
            missing or does not fit.
        ConnectionError: ImageNet weights neither in Keras's cache nor to be downloaded.
    """
    given = {"weights": weights, "batch_norm_momentum": batch_norm_momentum}
    image, x, backbone = prepared(name, input_shape, image_size=image_size, **given, **options)
    x = layers.GlobalAveragePooling2D(name="pool")(backbone(x))
    return keras.Model(image, blocks.logits(x, num_classes), name=name)


def prepared(
    name,
    input_shape,
    *,
    weights=None,
    batch_norm_momentum=blocks.BATCH_NORM_MOMENTUM,
    image_size=None,
    **options,
):
    """The network by itself, and what it is given.

    Args, Raises:
        as of `application`.

    Returns:
        (image, x, network): the input "image", raw pixels; the same as the network expects it, a
        Keras tensor; a `keras.Model` named "backbone" that takes x.
    """
    if input_shape[-1] not in (1, 3):
        raise ValueError(
            f"input_shape {input_shape} has {input_shape[-1]} channels. {name} takes images of "
            "1 channel (repeated to 3) or 3."
        )
    image = keras.Input(input_shape, name="image", dtype="float32")
    x = _enlarged(_resized(image, image_size), SMALLEST.get(name, 32))
    if input_shape[-1] == 1:
        x = layers.Concatenate(dtype="float32", name="grey_to_rgb")([x, x, x])
    x = _preprocessed(x, name)
    backbone = _backbone(name, tuple(x.shape[1:]), weights, options)
    backbone.name = "backbone"  # not as an argument: some networks look their settings up by it
    _number_layers(backbone)
    if batch_norm_momentum is not None:
        _set_momentum(backbone, batch_norm_momentum)
    return image, x, backbone


def _resized(image, size):
    if size is None:
        return image
    if isinstance(size, bool) or not hasattr(size, "__index__") or size < 8:
        raise ValueError(f"image_size is {size!r}. Expected a whole number of pixels, 8 or more.")
    return layers.Resizing(size, size, dtype="float32", name="resize")(image)


def _enlarged(image, smallest):
    """Resizes, keeping the proportions, where a side is shorter than `smallest` pixels."""
    height, width = image.shape[1:3]
    factor = smallest / min(height, width)
    if factor <= 1:
        return image
    height, width = (max(smallest, round(side * factor)) for side in (height, width))
    return layers.Resizing(height, width, dtype="float32", name="enlarge")(image)


def _preprocessed(x, name):
    """The network's `preprocess_input` as stock layers, so that a saved file carries it."""
    mode = next((mode for mode, members in PREPROCESSING.items() if name in members), None)
    if mode is None:
        return x
    if mode == "tf":
        scale, offset = 1 / 127.5, -1.0
    elif mode == "torch":
        scale = [1 / (255 * deviation) for deviation in IMAGENET_DEVIATION]
        offset = [
            -mean / deviation
            for mean, deviation in zip(IMAGENET_MEAN, IMAGENET_DEVIATION, strict=True)
        ]
    else:
        x = keras.ops.flip(x, axis=-1)  # RGB to BGR; a Keras operation, saved like a layer
        scale, offset = 1.0, [-mean for mean in CAFFE_MEAN]
    return layers.Rescaling(scale, offset, dtype="float32", name="normalise")(x)


def _backbone(name, input_shape, weights, options):
    make = getattr(keras.applications, name)
    arguments = dict(include_top=False, input_shape=input_shape, **options)
    if weights == "imagenet":
        return _pretrained(name, make, arguments)
    if weights is not None and not os.path.isfile(weights):
        raise ValueError(
            f"weights is {str(weights)!r}, which is no file. Expected None (random weights), "
            f'"imagenet" or the path of a weights file of {name} without its top.'
        )
    backbone = make(weights=None, **arguments)
    if weights is not None:
        try:
            backbone.load_weights(weights)
        except Exception as error:  # h5py and Keras raise many kinds; the first line says enough
            raise ValueError(
                f"The file {str(weights)!r} does not fit {name} without its top "
                f"({str(error).splitlines()[0]}). Expected weights of keras.applications.{name}"
                "(include_top=False) with the same options, such as Keras's own *_no_top.h5 files."
            ) from error
    return backbone


def _pretrained(name, make, arguments):
    try:
        with _short_timeout():
            return make(weights="imagenet", **arguments)
    except Exception as error:
        # Keras raises a bare Exception when a download fails; anything else (a wrong alpha, say)
        # explains itself.
        if not isinstance(error, OSError) and "URL fetch failure" not in str(error):
            raise
        cache = os.path.join(os.environ.get("KERAS_HOME", "~/.keras"), "models")
        raise ConnectionError(
            f"The ImageNet weights of {name} could not be downloaded: {error}. Fetch that file on "
            f"a machine with a network and put it into {cache}, or pass "
            'weights="/path/to/weights.h5" (without top), or weights=None for random weights.'
        ) from error


@contextlib.contextmanager
def _short_timeout():
    """Bounds each wait for the network.

    Keras downloads without a timeout: a silent firewall would hang it for minutes.
    """
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(_DOWNLOAD_TIMEOUT)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def _number_layers(model):
    """Numbers the layers that Keras named itself ("activation_31") from zero, within this model.

    Keras counts on from one model to the next: without this a tap's name would depend on what the
    process built before.
    """
    counts = collections.Counter()
    for layer in model.layers:
        stem = re.sub(r"_\d+$", "", layer.name)
        if stem.replace("_", "") == type(layer).__name__.lower():  # re_lu, of ReLU
            layer.name = f"{stem}_{counts[stem]}" if counts[stem] else stem
            counts[stem] += 1


def _set_momentum(model, momentum):
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            _set_momentum(layer, momentum)
        elif isinstance(layer, layers.BatchNormalization):
            layer.momentum = blocks.checked_momentum(momentum)
