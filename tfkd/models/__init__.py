"""Student and teacher architectures by name.

    >>> student = tfkd.models.build("modified_alexnet", (32, 32, 3), 10, width=0.5)
    >>> tfkd.models.stages(student)
    ['stage1_out', 'stage2_out', 'stage3_out', 'stage4_out']
    >>> student = tfkd.models.with_exits(student)  # outputs: a dict of logits
    >>> tfkd.models.exit_names(student)
    ('exit_1', 'exit_2', 'exit_3', 'output')

Every model is a functional `keras.Model` made of stock Keras layers, so its `.keras` file loads
without tfkd; a tree alone ends in a layer of tfkd's own. It takes raw pixels 0..255 (an input named
"image"), normalises them inside and returns logits (a float32 Dense named "logits").

This module imports no TensorFlow until a model is built, so that a command line can list and check
names at once.
"""

import importlib
import inspect
from typing import TYPE_CHECKING

from tfkd import _extras, _lazy
from tfkd.near_names import meant

if TYPE_CHECKING:
    from tfkd.models import detectors
    from tfkd.models.branches import with_branches
    from tfkd.models.code_heads import with_code
    from tfkd.models.cohorts import cohort, members
    from tfkd.models.detections import best_candidates, detector_layout, with_detections
    from tfkd.models.detectors import roi_head
    from tfkd.models.encoder_decoders import encoder_decoder
    from tfkd.models.ensembles import averaged_over_views, ensemble, ensemble_members
    from tfkd.models.exits import exit_names, single_exit, trunk, vote, with_exits
    from tfkd.models.hard_tree import HardTree
    from tfkd.models.linear_heads import (
        features_layer,
        pooled_layer,
        with_class_maps,
        with_teacher_head,
    )
    from tfkd.models.low_rank import LowRankDense, with_low_rank
    from tfkd.models.stage_heads import with_stage_heads
    from tfkd.models.text import language_model, one_pass, translator, two_passes
    from tfkd.models.tree import ObliqueTree, hard_tree_model, harden, soft_tree_model
    from tfkd.preprocessors import with_preprocessor

_HOMES = {
    "HardTree": "tfkd.models.hard_tree",
    "LowRankDense": "tfkd.models.low_rank",
    "ObliqueTree": "tfkd.models.tree",
    "averaged_over_views": "tfkd.models.ensembles",
    "best_candidates": "tfkd.models.detections",
    "cohort": "tfkd.models.cohorts",
    "encoder_decoder": "tfkd.models.encoder_decoders",
    "detector_layout": "tfkd.models.detections",
    "detectors": "tfkd.models.detectors",
    "ensemble": "tfkd.models.ensembles",
    "ensemble_members": "tfkd.models.ensembles",
    "exit_names": "tfkd.models.exits",
    "features_layer": "tfkd.models.linear_heads",
    "hard_tree_model": "tfkd.models.tree",
    "harden": "tfkd.models.tree",
    "language_model": "tfkd.models.text",
    "members": "tfkd.models.cohorts",
    "roi_head": "tfkd.models.detectors",
    "one_pass": "tfkd.models.text",
    "pooled_layer": "tfkd.models.linear_heads",
    "single_exit": "tfkd.models.exits",
    "soft_tree_model": "tfkd.models.tree",
    "trunk": "tfkd.models.exits",
    "translator": "tfkd.models.text",
    "two_passes": "tfkd.models.text",
    "vote": "tfkd.models.exits",
    "with_branches": "tfkd.models.branches",
    "with_class_maps": "tfkd.models.linear_heads",
    "with_code": "tfkd.models.code_heads",
    "with_detections": "tfkd.models.detections",
    "with_exits": "tfkd.models.exits",
    "with_low_rank": "tfkd.models.low_rank",
    "with_preprocessor": "tfkd.preprocessors",
    "with_stage_heads": "tfkd.models.stage_heads",
    "with_teacher_head": "tfkd.models.linear_heads",
}

__all__ = [
    "HardTree",
    "LowRankDense",
    "ObliqueTree",
    "averaged_over_views",
    "best_candidates",
    "build",
    "check_name",
    "cohort",
    "encoder_decoder",
    "detector_layout",
    "detectors",
    "ensemble",
    "ensemble_members",
    "exit_names",
    "features_layer",
    "hard_tree_model",
    "harden",
    "language_model",
    "members",
    "names",
    "one_pass",
    "pooled_layer",
    "roi_head",
    "single_exit",
    "soft_tree_model",
    "stages",
    "translator",
    "trunk",
    "two_passes",
    "vote",
    "with_branches",
    "with_class_maps",
    "with_code",
    "with_detections",
    "with_exits",
    "with_low_rank",
    "with_preprocessor",
    "with_stage_heads",
    "with_teacher_head",
]

MIN_SIZE = 8  # pixels a side
HUB = "hub:"  # before the name of a KerasHub preset, or the path of its folder

_FAMILIES = {
    "modified_alexnet": "tfkd.models.alexnet",
    "alexnet": "tfkd.models.alexnet",
    "resnet": "tfkd.models.resnet",
    "streamlined_teacher": "tfkd.models.streamlined",
    "streamlined_student": "tfkd.models.streamlined",
    "vit": "tfkd.models.vit",
    "oblique_tree": "tfkd.models.tree",
}

# Written out because asking keras.applications costs seconds; a test compares this with the
# installed Keras.
_APPLICATIONS = (
    *("ConvNeXtBase", "ConvNeXtLarge", "ConvNeXtSmall", "ConvNeXtTiny", "ConvNeXtXLarge"),
    *("DenseNet121", "DenseNet169", "DenseNet201"),
    *(f"EfficientNetB{size}" for size in range(8)),
    *(f"EfficientNetV2{size}" for size in ("B0", "B1", "B2", "B3", "L", "M", "S")),
    *("InceptionResNetV2", "InceptionV3"),
    *("MobileNet", "MobileNetV2", "MobileNetV3Large", "MobileNetV3Small"),
    *("NASNetLarge", "NASNetMobile"),
    *("ResNet101", "ResNet101V2", "ResNet152", "ResNet152V2", "ResNet50", "ResNet50V2"),
    *("VGG16", "VGG19", "Xception"),
)

__getattr__, __dir__ = _lazy.attributes(__name__, _HOMES)


def names():
    """Returns the list of the names that `build` knows: tfkd's own, then keras.applications."""
    return [*_FAMILIES, *_APPLICATIONS]


def check_name(name):
    """Raises ValueError (near matches, the whole list) unless `build` knows `name`.

    Imports no TensorFlow; the names behind "hub:" are known to KerasHub alone, and `build` asks it.
    """
    if name in names():
        return
    if str(name).startswith(HUB):
        _extras.needs_extra("hub", f'The model "{name}"')
        return
    hint = meant(name, names(), most=3)
    raise ValueError(
        f"Unknown model {name!r}. {hint}Known models: {', '.join(names())}; and of KerasHub "
        f"{HUB}PRESET."
    )


def build(name, input_shape, num_classes, **options):
    """Builds an untrained network (or one with the weights of keras.applications or KerasHub).

    Initial weights come from Keras's global seed: call `keras.utils.set_random_seed` before.

    Args:
        name: one of `names()`; or "hub:" with the name of a KerasHub image classifier's preset or
            the path of a preset's folder, see `tfkd.models.hub`.
        input_shape: (height, width, channels), at least 8 x 8 pixels, without the batch dimension.
        num_classes: number of logits; 1 is a binary one-logit head.
        **options: all models but vit and oblique_tree take `batch_norm_momentum`; alexnet and
            modified_alexnet `width`, `head`, `dropout`; oblique_tree `depth`, `first_scale`,
            `last_scale`; resnet `depth`, `width`; streamlined_teacher `width`,
            streamlined_student `width`, `dropout`; vit `width`, `depth`, `heads`, `patch`,
            `dropout`; keras.applications `weights` and the network's own, such as `alpha`; "hub:"
            `weights`.

    Returns:
        A functional `keras.Model` named `name` (without "hub:" and folders): images (batch,
        *input_shape), raw pixels 0..255 -> float32 logits (batch, num_classes).

    Raises:
        ValueError: unknown name, impossible shape, class count or option value.
        TypeError: an option that this model does not have (the message lists those that it has).
        ConnectionError: weights, or a preset, that can neither be found nor downloaded.
        ModuleNotFoundError: "hub:" without the extra `hub`.
    """
    check_name(name)
    input_shape, num_classes = _checked_shape(input_shape), _checked_classes(num_classes)
    if name in _FAMILIES:
        builder = getattr(importlib.import_module(_FAMILIES[name]), name)
        parameters = inspect.signature(builder).parameters.values()
        known = [
            parameter.name for parameter in parameters if parameter.kind is parameter.KEYWORD_ONLY
        ]
        _check_options(name, options, known)
        return builder(input_shape, num_classes, **options)
    if name.startswith(HUB):
        _check_options(name, options, ["weights"])
        hub = importlib.import_module("tfkd.models.hub")
        return hub.classifier(name.removeprefix(HUB), input_shape, num_classes, **options)
    applications = importlib.import_module("tfkd.models.applications")
    _check_options(name, options, applications.option_names(name))
    return applications.application(name, input_shape, num_classes, **options)


def stages(model):
    """Returns the names of a model's stage ends, shallow to deep: natural taps for feature losses.

    Works for any model: layers named `stage<N>_out` if there are any, else the last layer at each
    spatial resolution of a functional or Sequential model, nested models by path
    ("backbone/block3_conv3").

    Args:
        model: any `keras.Model`.

    Returns:
        List of str; empty if nothing can be said (a subclassed model, unknown image size).
    """
    return importlib.import_module("tfkd.models.tap_points").stage_ends(model)


def _checked_shape(input_shape):
    expected = (
        f"Expected (height, width, channels), each side {MIN_SIZE} pixels or more, "
        "such as (32, 32, 3)."
    )
    try:
        shape = tuple(input_shape)
    except TypeError:
        raise ValueError(f"input_shape is {input_shape!r}. {expected}") from None
    if len(shape) != 3:
        raise ValueError(
            f"input_shape {shape} has {len(shape)} dimensions. {expected} "
            "Leave the batch dimension out."
        )
    if not all(hasattr(size, "__index__") for size in shape):
        raise ValueError(
            f"input_shape {shape} holds something other than whole numbers. {expected}"
        )
    height, width, channels = map(int, shape)
    if min(height, width) < MIN_SIZE:
        raise ValueError(f"input_shape {shape} is too small. {expected} Resize the images first.")
    if channels < 1:
        raise ValueError(f"input_shape {shape} has {channels} channels. {expected}")
    return height, width, channels


def _checked_classes(num_classes):
    if isinstance(num_classes, bool) or not hasattr(num_classes, "__index__") or num_classes < 1:
        raise ValueError(
            f"num_classes is {num_classes!r}. Expected a whole number: 2 or more, or 1 for a "
            "binary one-logit head."
        )
    return int(num_classes)


def _check_options(name, options, known):
    for option in options:
        if option not in known:
            hint = meant(option, known, most=1)
            raise TypeError(
                f"Model {name!r} has no option {option!r}. {hint}Its options: {', '.join(known)}."
            )
