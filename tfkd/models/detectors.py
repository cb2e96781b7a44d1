"""Small detectors: RetinaNet, Faster R-CNN, and one whose boxes are distributions.

    >>> teacher = tfkd.models.detectors.two_stage((96, 128, 3), 3)
    >>> student = tfkd.models.detectors.retinanet((96, 128, 3), 3, width=0.5)
    >>> student.compile("adam", tfkd.losses.DetectionLoss(3))
    >>> answers = tfkd.models.with_detections(student)  # boxes, scores, classes

All take raw pixels 0..255 of an input named "image" and give candidates (`tfkd.boxes`). A small
residual network, or one of `keras.applications`, shrinks the image to 1/16; a pyramid of its stages
(`tfkd.models.pyramids`) ends in layers "P2", "P3", "P4", whose cells are 4, 8 and 16 pixels.
Anchors and widths are of a size that two processors train in minutes, not those of the papers.

    >>> student = tfkd.models.detectors.retinanet((96, 128, 3), 3, backbone="MobileNetV2")
"""

import inspect

import keras
from keras import layers

from tfkd import boxes
from tfkd.models.candidates import Candidates, Proposals, Regions, Rows
from tfkd.models.pyramids import LEVELS, pyramid

PIECES = 7  # a side of what is looked at inside of a proposal
PRIOR = -2.0  # first logit of every class: most candidates are ground
BINS, ANGLE_BINS = 8, 18


def build(name, input_shape, num_classes, **options):
    """A detector by its name, with the options of its function; see `tfkd.models.build`.

    Raises:
        ValueError: another name. TypeError: an option that it does not have.
    """
    builders = {own.__name__: own for own in (retinanet, two_stage, distribution_detector)}
    if name not in builders:
        raise ValueError(f"No detector {name!r}. There are: {', '.join(builders)}.")
    known = inspect.signature(builders[name]).parameters.values()
    known = [own.name for own in known if own.kind is own.KEYWORD_ONLY]
    unknown = sorted(set(options) - set(known))
    if unknown:
        raise TypeError(
            f"Detector {name!r} has no option {unknown[0]!r}. Its options: {', '.join(known)}."
        )
    return builders[name](input_shape, num_classes, **options)


def retinanet(
    input_shape,
    num_classes,
    *,
    width=1.0,
    depth=1,
    channels=32,
    scales=2,
    tower=1,
    backbone=None,
    weights=None,
):
    """RetinaNet (Lin et al. 2017, arXiv:1708.02002): anchors on every level, one dense head.

    The last features of the class tower are the layers "tower_P2", "tower_P3", "tower_P4".

    Args:
        input_shape: (height, width, channels), sides multiples of 16.
        num_classes: number of classes.
        width: multiplies the residual network's channels, 16, 32 and 64.
        depth: its residual blocks a stage.
        channels: of the pyramid and the head.
        scales: anchors a position, all square.
        tower: convolutions of each of the two towers.
        backbone, weights: another network, see `tfkd.models.pyramids.pyramid`.

    Returns:
        `keras.Model` named "retinanet": images (batch, height, width, channels) -> candidates.
    """
    image, maps = pyramid(input_shape, channels, width, depth, backbone, weights)
    logits, regression = _dense_head(maps, channels, tower, scales * num_classes, scales * 4)
    found = Candidates(
        input_shape, num_classes, LEVELS, boxes.DETECTION, scales, name="candidates"
    )(_listed(logits, num_classes), _listed(regression, 4))
    return keras.Model(image, found, name="retinanet")


def distribution_detector(
    input_shape,
    num_classes,
    *,
    width=1.0,
    depth=1,
    channels=32,
    tower=1,
    bins=BINS,
    angle_bins=0,
    backbone=None,
    weights=None,
):
    """A dense detector whose boxes are distributions, of turned boxes if `angle_bins` is not 0.

    Args:
        input_shape, num_classes, width, depth, channels, tower, backbone, weights: as for
            `retinanet`.
        bins: of each distance from a cell to a box's side, in cells, from 0.
        angle_bins: of half a turn.

    Returns:
        `keras.Model` named "distribution_detector", as `retinanet` returns it.
    """
    image, maps = pyramid(input_shape, channels, width, depth, backbone, weights)
    numbers = 4 * bins + angle_bins
    logits, regression = _dense_head(maps, channels, tower, num_classes, numbers)
    found = Candidates(
        input_shape,
        num_classes,
        LEVELS,
        boxes.DETECTION,
        scales=0,
        angle_bins=angle_bins,
        name="candidates",
    )(_listed(logits, num_classes), _listed(regression, numbers))
    return keras.Model(image, found, name="distribution_detector")


def two_stage(
    input_shape,
    num_classes,
    *,
    width=1.0,
    depth=1,
    channels=32,
    scales=2,
    proposals=128,
    hidden=128,
    backbone=None,
    weights=None,
):
    """Faster R-CNN (Ren et al. 2015, arXiv:1506.01497) on a pyramid: proposals, then a second look.

    The second stage is a model inside, the layer "roi_head": see `roi_head`. Its classes are
    independent of each other, as everywhere here; the paper's are a softmax with a class for the
    ground.

    Args:
        input_shape, num_classes, width, depth, channels, scales, backbone, weights: as for
            `retinanet`.
        proposals: how many the second stage looks at.
        hidden: width of its two layers.

    Returns:
        `keras.Model` named "two_stage": images -> candidates, proposals first.
    """
    image, maps = pyramid(input_shape, channels, width, depth, backbone, weights)
    shared = _convolution(channels, "rpn")
    seen = [shared(features) for features in maps]
    objects = [_prediction(scales, "rpn_objects", PRIOR), _prediction(scales * 4, "rpn_boxes")]
    logits, regression = (
        _listed([part(x) for x in seen], numbers)
        for part, numbers in zip(objects, (1, 4), strict=True)
    )
    first = Candidates(input_shape, num_classes, LEVELS, boxes.PROPOSAL, scales, name="proposed")(
        logits, regression
    )
    chosen, valid = Proposals(num_classes, proposals, name="proposals")(first)
    looked = Regions(LEVELS, PIECES, name="regions")([chosen, *maps])
    second = roi_head(channels, num_classes, hidden=hidden)(looked)
    second = Rows(name="detected")(chosen, valid, second["logits"], second["regression"])
    found = layers.Concatenate(axis=1, name="candidates")([first, second])
    return keras.Model(image, found, name="two_stage")


def roi_head(channels, num_classes, *, hidden=128, pieces=PIECES):
    """What looks at regions of a feature map: two layers, then classes and the box.

    Args:
        channels: of the feature map.
        num_classes: number of classes.
        hidden: width of the two layers.
        pieces: that a region has a side.

    Returns:
        `keras.Model` named "roi_head": (batch, regions, pieces, pieces, channels) ->
        {"fc1", "fc2": (batch, regions, hidden), "logits", "regression"}.
    """
    region = keras.Input((None, pieces, pieces, channels), name="region")
    flat = layers.Reshape((-1, pieces * pieces * channels))(region)
    first = layers.Dense(hidden, "relu", name="fc1")(flat)
    second = layers.Dense(hidden, "relu", name="fc2")(first)
    bias = keras.initializers.Constant(PRIOR)
    outputs = {
        "fc1": first,
        "fc2": second,
        "logits": layers.Dense(num_classes, bias_initializer=bias, name="classes")(second),
        "regression": layers.Dense(4, name="boxes")(second),
    }
    return keras.Model(region, outputs, name="roi_head")


def _dense_head(maps, channels, tower, class_numbers, box_numbers):
    """Predictions on every map by two towers that all maps share: (logits, regression), lists."""
    found = []
    for name, numbers, bias in (("class", class_numbers, PRIOR), ("box", box_numbers, 0.0)):
        shared = [_convolution(channels, f"{name}_tower{n}") for n in range(1, tower + 1)]
        last, own = _prediction(numbers, f"{name}_prediction", bias), []
        for level, x in zip(LEVELS, maps, strict=True):
            for layer in shared:
                x = layer(x)
            if name == "class":
                # A layer that is called once: the tower's own are called on every level.
                x = layers.Identity(name=f"tower_P{level}")(x)
            own.append(last(x))
        found.append(own)
    return found


def _convolution(channels, name):
    return layers.Conv2D(
        channels, 3, padding="same", activation="relu", kernel_initializer="he_normal", name=name
    )


def _prediction(numbers, name, bias=0.0):
    return layers.Conv2D(
        numbers,
        3,
        padding="same",
        kernel_initializer=keras.initializers.RandomNormal(stddev=0.01),
        bias_initializer=keras.initializers.Constant(bias),
        name=name,
    )


def _listed(maps, numbers):
    """Maps (batch, height, width, anchors x numbers) as one list (batch, rows, numbers)."""
    flat = [layers.Reshape((-1, numbers))(x) for x in maps]
    return layers.Concatenate(axis=1)(flat)
