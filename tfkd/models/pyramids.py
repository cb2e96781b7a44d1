"""Feature pyramids: maps of three sizes and of one width, for detectors."""

import keras
from keras import layers

from tfkd.models import applications, blocks, names, tap_points
from tfkd.models.resnet import residual
from tfkd.near_names import meant

LEVELS = (2, 3, 4)
SMALLEST = 16  # pixels of the last level's cell, which an image's sides are multiples of
WIDTHS = (16, 32, 64)


def pyramid(input_shape, channels, width=1.0, depth=1, backbone=None, weights=None):
    """A network whose maps of three sizes a pyramid brings together (FPN).

    Source: Lin et al. 2017, arXiv:1612.03144.

    Args:
        input_shape: (height, width, channels), sides multiples of 16.
        channels: of the pyramid.
        width, depth: of the residual network that is built unless a backbone is given: multiplier
            of its channels 16, 32 and 64, residual blocks a stage.
        backbone: name of a network of `keras.applications`, which takes raw pixels here as in
            `tfkd.models.build`; or a `keras.Model` of one image, such as a backbone of KerasHub,
            which is given the raw pixels.
        weights: of a named backbone, see `tfkd.models.build`.

    Returns:
        (image, [P2, P3, P4]), Keras tensors: raw pixels, and maps whose cells are 4, 8 and 16
        pixels, of layers with these names.

    Raises:
        ValueError: sides that do not fit; a backbone that is not known or has no map of such a
            size; options that say nothing beside the others.
    """
    height, broad = input_shape[:2]
    if height % SMALLEST or broad % SMALLEST:
        raise ValueError(
            f"Images of {height} x {broad} pixels do not fit a detector, whose coarsest cells are "
            f"{SMALLEST} pixels: sides must be multiples of {SMALLEST}. Resize them (image_size)."
        )
    if backbone is None:
        if weights is not None:
            raise ValueError("weights are of a backbone of keras.applications: name one.")
        image, stages = _residual_stages(input_shape, width, depth)
    else:
        if (width, depth) != (1.0, 1):
            raise ValueError("width and depth are of the built-in network: leave the backbone out.")
        image, stages = _given_stages(input_shape, backbone, weights)
    maps, above = [], None
    for level, x in reversed(list(zip(LEVELS, stages, strict=True))):
        x = layers.Conv2D(channels, 1, name=f"lateral_P{level}")(x)
        if above is not None:
            x = layers.Add(name=f"merged_P{level}")(
                [x, layers.UpSampling2D(2, name=f"above_P{level}")(above)]
            )
        above = x
        x = layers.Conv2D(channels, 3, padding="same", name=f"P{level}")(x)
        maps.insert(0, x)
    return image, maps


def _residual_stages(input_shape, width, depth):
    momentum = blocks.BATCH_NORM_MOMENTUM
    image, x = blocks.image_input(input_shape)
    stem = blocks.scaled(WIDTHS[0], width)
    x = blocks.convolution(x, stem, 3, stride=2, momentum=momentum, name="stem")
    stages = []
    for stage, filters in enumerate(WIDTHS, start=1):
        for part in range(1, depth + 1):
            name = f"stage{stage}_block{part}"
            out = f"stage{stage}_out" if part == depth else f"{name}_out"
            stride = 2 if part == 1 else 1
            x = residual(x, blocks.scaled(filters, width), stride, momentum, name, out)
        stages.append(x)
    return image, stages


def _given_stages(input_shape, backbone, weights):
    """(image, the last map of each of the three sizes) of a network."""
    if isinstance(backbone, str):
        known = [own for own in names() if callable(getattr(keras.applications, own, None))]
        if backbone not in known:
            raise ValueError(
                f"Unknown backbone {backbone!r}. {meant(backbone, known)}There are: "
                f"{', '.join(known)}; in Python also any keras.Model."
            )
        image, x, network = applications.prepared(backbone, input_shape, weights=weights)
    else:
        if weights is not None:
            raise ValueError("weights are of a backbone of keras.applications: name one.")
        network = backbone
        image = x = keras.Input(input_shape, name="image", dtype="float32")
    last = {tuple(size): path for path, size, _ in tap_points.maps(network) if "/" not in path}
    sizes = [tuple(side // 2**level for side in input_shape[:2]) for level in LEVELS]
    missing = [size for size in sizes if size not in last]
    if missing:
        raise ValueError(
            f'The backbone "{network.name}" has no map of {_listed(missing)}. A detector of images '
            f"of {_listed([input_shape[:2]])} pixels reads maps of {_listed(sizes)}; this one has "
            f"{_listed(last) or 'none of a known size'}. Take another one, or build it for these "
            "images."
        )
    ends = [network.get_layer(last[size]).output for size in sizes]
    return image, keras.Model(network.input, ends, name="backbone")(x)


def _listed(sizes):
    return ", ".join(f"{height} x {width}" for height, width in sizes)
