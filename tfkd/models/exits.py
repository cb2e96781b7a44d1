"""Classifiers after inner stages, and what to make of a model of several outputs.

`with_exits` follows the student of Xu et al., "Teacher-student collaborative knowledge distillation
for image classification", Applied Intelligence 53 (2022), which rests on Zhang et al., "Be Your Own
Teacher" (2019; the exits are those of its journal version, without the attention masks). Xu's exact
widths are not public: those here are a reconstruction.

The other functions take any model whose outputs are a dict, exits or branches: `exit_names`,
`trunk`, `single_exit`, `vote`.
"""

import math
import re

import keras
from keras import layers, ops

from tfkd.models import blocks, forks
from tfkd.near_names import meant

MOST_FEATURES = 128

# A map counts as halved from this ratio of sides on; below it, a convolution only lost its rim.
HALVED = 1.5

VOTES = ("soft", "hard")

# What the mean probability weighs beside a whole vote: it decides ties and, being below 1, nothing
# else.
TIE = 0.01

# Keras's own floor under the logarithm of a probability.
SMALLEST_PROBABILITY = 1e-7


def with_exits(model, at=None, *, features=None, batch_norm_momentum=blocks.BATCH_NORM_MOMENTUM):
    """Gives a copy of a model an early exit after each of some layers.

    An exit brings its map to the size of the model's last stage by separable convolutions of stride
    2 (depthwise 3x3 stride 2, 1x1, depthwise 3x3, 1x1, with BatchNorm and ReLU), widening from the
    map's channels to `features`; then global average pooling ("exit_1_features", (batch, features))
    and logits.

    Args:
        model: functional or Sequential classifier of one output. It stays as it is: the result
            starts from a copy of its weights. If it ends in softmax or sigmoid, the copy does not.
        at: names of layers that give maps, or paths into nested models ("backbone/block3_pool");
            default `tfkd.models.stages(model)` except the last.
        features: width of the exits' feature vectors; default the channels of the last stage, at
            most 128.
        batch_norm_momentum: see `blocks.BATCH_NORM_MOMENTUM`.

    Returns:
        Functional `keras.Model` of stock layers with outputs {"exit_1": logits, ..., "output": the
        model's own logits}, each float32 (batch, classes), numbered from shallow to deep.

    Raises:
        TypeError, ValueError: no such classifier, no stages, an unknown layer (near matches are
        listed), or one whose output is no map of known size.
    """
    paths = forks.checked(model, at, "exits")
    *size, channels = last_map(model, paths)
    if features is None:
        features = min(channels, MOST_FEATURES)
    elif isinstance(features, bool) or not hasattr(features, "__index__") or features < 1:
        raise ValueError(f"features is {features!r}. Expected a whole number of channels, or None.")
    inputs, maps, logits = forks.opened_copy(model, paths)
    outputs = {}
    for number, path in enumerate(paths, start=1):
        name = f"exit_{number}"
        x = _bottleneck(maps[path], size, features, batch_norm_momentum, name)
        outputs[name] = head(x, logits.shape[-1], name)
    return keras.Model(inputs, {**outputs, forks.OUTPUT: logits}, name=model.name)


def last_map(model, paths):
    """(height, width, channels) of a model's last stage, else of the deepest of `paths`."""
    stages = forks.tap_points.stage_ends(model)
    return forks.map_shape(model, (stages or paths)[-1])


def separable(x, filters, stride, momentum, name):
    """Depthwise 3x3, 1x1, BatchNorm, ReLU."""
    x = layers.DepthwiseConv2D(
        3, stride, "same", use_bias=False, depthwise_initializer="he_normal", name=f"{name}_dw"
    )(x)
    return blocks.convolution(x, filters, 1, momentum=momentum, name=f"{name}_pw")


def head(x, num_classes, name):
    """Global average pooling, then float32 logits; layers "<name>_features" and "<name>"."""
    x = layers.GlobalAveragePooling2D(name=f"{name}_features")(x)
    return layers.Dense(num_classes, dtype="float32", name=name)(x)


def side_ratio(x, size):
    """How many times longer the sides of the map `x` are than those of `size` (geometric mean)."""
    return math.sqrt(math.prod(x.shape[1:3]) / math.prod(size))


def _bottleneck(x, size, features, momentum, name):
    count = max(1, round(math.log2(max(1.0, side_ratio(x, size)))))
    start = x.shape[-1]
    for number in range(1, count + 1):
        stride = 2 if side_ratio(x, size) >= HALVED else 1
        filters = round(start * (features / start) ** (number / count))
        narrower = min(x.shape[-1], filters)
        x = separable(x, narrower, stride, momentum, f"{name}_block{number}_1")
        x = separable(x, filters, 1, momentum, f"{name}_block{number}_2")
    return x


def exit_names(model):
    """Names of a model's outputs from shallow to deep, "output" last.

    Raises:
        ValueError: the model's outputs are no dict.
    """
    outputs = getattr(model, "output", None)
    if not isinstance(outputs, dict):
        raise ValueError(
            f'Model "{getattr(model, "name", model)}" has no dict of outputs. Give it exits or '
            "branches with tfkd.models.with_exits or tfkd.models.with_branches."
        )

    def depth(name):  # numbers count as numbers: exit_2 before exit_10
        parts = re.split(r"(\d+)", name)
        return name == forks.OUTPUT, [int(p) if i % 2 else p for i, p in enumerate(parts)]

    return tuple(sorted(outputs, key=depth))


def trunk(model):
    """The model without its exits or branches.

    Args:
        model: `keras.Model` with a dict of outputs, "output" among them.

    Returns:
        Functional `keras.Model` of one output, sharing the layers of `model`: what `model` gives
        as "output", bit for bit, and no variable that this does not need.

    Raises:
        ValueError: the model has no dict of outputs, or none called "output".
    """
    _check_name(model, forks.OUTPUT)
    return forks.narrowed(model, forks.OUTPUT, model.name)


def single_exit(model, name):
    """The model that ends in one exit.

    Args:
        model: `keras.Model` with a dict of outputs.
        name: one of `exit_names(model)`.

    Returns:
        Functional `keras.Model` of one output, sharing the layers that this exit needs.

    Raises:
        ValueError: no such exit; near matches are listed.
    """
    _check_name(model, name)
    return forks.narrowed(model, name, f"{model.name}_{name}")


def joined(model, of=None):
    """The model that gives the logits of several exits side by side, (batch, exits x classes).

    Args:
        model: `keras.Model` with a dict of outputs.
        of: names of exits; default all, from shallow to deep.
    """
    part = forks.narrowed(model, list(of or exit_names(model)), model.name)
    tensors = [part.output[name] for name in of or exit_names(model)]
    together = layers.Concatenate(name="joined")(tensors) if len(tensors) > 1 else tensors[0]
    return keras.Model(part.input, together, name=model.name)


def vote(model, kind="soft", of=None):
    """The model in which several exits vote.

    "soft" gives the mean of the exits' probabilities. "hard" gives each class's share of the votes
    (an exit votes for its likeliest class), mixed with 1 % of the mean probability of an exit: that
    breaks ties and decides nothing else. Both add up to 1. The model ends in softmax (of one logit:
    in sigmoid) of the logarithm of these, so that losses, exports and checks that look for logits
    find them; probabilities below 1e-7 count as that.

    Args:
        model: `keras.Model` with a dict of outputs, each (batch, classes) logits.
        kind: "soft" or "hard".
        of: names of the exits that vote; default all.

    Returns:
        Functional `keras.Model` of stock layers, sharing those of `model`; float32 (batch, classes)
        probabilities or shares; (batch, 1), those of the second class, where the exits have one
        logit.

    Raises:
        ValueError: unknown kind or exit, or fewer than two exits.
    """
    if kind not in VOTES:
        raise ValueError(
            f'kind is {kind!r}. Expected "soft" (mean of probabilities) or "hard" (majority).'
        )
    names = list(exit_names(model) if of is None else [of] if isinstance(of, str) else of)
    for name in names:
        _check_name(model, name)
    if len(set(names)) < len(names):
        raise ValueError(f"of names an exit more than once: {names}. Every exit has one vote.")
    if len(names) < 2:
        raise ValueError(
            f"A vote needs two exits or more; given {names}. For one exit alone use "
            "tfkd.models.single_exit(model, name)."
        )
    voters = forks.narrowed(model, names, model.name)
    classes = voters.output[names[0]].shape[-1]
    probabilities = [_probabilities(voters.output[name], name) for name in names]
    shares = layers.Average(dtype="float32", name="mean_probabilities")(probabilities)
    if kind == "hard":
        votes = layers.Add(dtype="float32", name="votes")(list(map(_ballot, probabilities)))
        shares = (votes + TIE * shares) / (len(names) + TIE)
    evidence = ops.log(ops.maximum(shares, SMALLEST_PROBABILITY))
    if classes == 1:
        evidence = ops.diff(evidence, axis=-1)
    ending = "sigmoid" if classes == 1 else "softmax"
    result = layers.Activation(ending, dtype="float32", name=f"{kind}_vote")(evidence)
    return keras.Model(voters.input, result, name=f"{model.name}_{kind}_vote")


def _probabilities(logits, name):
    """(batch, classes), two of them for one logit."""
    name = f"{name}_probabilities"
    if logits.shape[-1] > 1:
        return layers.Softmax(dtype="float32", name=name)(logits)
    positive = layers.Activation("sigmoid", dtype="float32", name=f"{name}_positive")(logits)
    return layers.Concatenate(dtype="float32", name=name)([1.0 - positive, positive])


def _ballot(probabilities):
    """One vote in all: for the likeliest class, in parts where several are equally likely.

    By comparison: Keras's argmax needs operations that TFLite lacks.
    """
    largest = ops.max(probabilities, axis=-1, keepdims=True)
    marks = ops.cast(ops.equal(probabilities, largest), "float32")
    return marks / ops.sum(marks, axis=-1, keepdims=True)


def _check_name(model, name):
    known = exit_names(model)
    if name not in known:
        hint = meant(name, known)
        raise ValueError(
            f'Model "{model.name}" has no output {name!r}. {hint}It has: {", ".join(known)}.'
        )
