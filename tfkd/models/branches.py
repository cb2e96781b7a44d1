"""Shallow, wide branches beside a model's deeper stages.

After Ye et al., "A Unified Asymmetric Knowledge Distillation Framework", Neural Processing Letters
56 (2024): "multi-stage shallow-wide branch bifurcation". The paper's widths and depths are not
public; this is a reconstruction. The branches teach the trunk and each other while training;
`tfkd.models.trunk` strips them. The gate is that of Lan, Zhu and Gong, "Knowledge Distillation by
On-the-Fly Native Ensemble" (ONE, 2018, arXiv:1806.04606).
"""

import keras
from keras import layers

from tfkd.models import blocks, exits, forks

FORKS = 2
ENSEMBLE = "ensemble"


def with_branches(
    model,
    at=None,
    branches=2,
    width=1.5,
    gate=False,
    *,
    batch_norm_momentum=blocks.BATCH_NORM_MOMENTUM,
):
    """Forks branches off a copy of a model.

    A branch has one separable convolution (depthwise 3x3, 1x1, BatchNorm, ReLU) for every stage
    that the trunk still has after the fork, with that stage's resolution and `width` times its
    channels; then global average pooling ("branch_1_2_features") and logits. The branches of a fork
    differ in their initial weights.

    Args:
        model: functional or Sequential classifier of one output. It stays as it is: the result
            starts from a copy of its weights. If it ends in softmax or sigmoid, the copy does not.
        at: names of layers that give maps, or paths into nested models ("backbone/block3_pool");
            default the last two of `tfkd.models.stages(model)` before the end.
        branches: how many at each fork.
        width: a branch's channels, as a multiple of the trunk's.
        gate: whether the model also gives the sum of all outputs, branches and trunk, each weighed
            for each image by a gate that looks at the shallowest fork. With the loss on the labels
            of every output, "ensemble" among them, and `EnsembleDistillation(["ensemble"],
            members, 3.0)` this is ONE; the gate learns from the ensemble's labels only.
        batch_norm_momentum: see `blocks.BATCH_NORM_MOMENTUM`.

    Returns:
        Functional `keras.Model` of stock layers with outputs {"branch_1_1": logits, "branch_1_2":
        ..., "output": the model's own logits}, and "ensemble" with a gate, each float32 (batch,
        classes); the first number is the fork's, from shallow to deep, the second the branch's.

    Raises:
        TypeError, ValueError: no such classifier, no stages, an unknown layer (near matches are
        listed), one whose output is no map of known size, or an impossible number or width.
    """
    if isinstance(branches, bool) or not hasattr(branches, "__index__") or branches < 1:
        raise ValueError(f"branches is {branches!r}. Expected a whole number of 1 or more.")
    blocks.scaled(1, width)  # refuses impossible widths
    paths = forks.checked(model, at, "branches")
    if at is None:
        paths = paths[-FORKS:]
    plans = [_plan(model, path, paths) for path in paths]
    inputs, maps, logits = forks.opened_copy(model, paths)
    outputs = {}
    for fork, (path, plan) in enumerate(zip(paths, plans, strict=True), start=1):
        for number in range(1, branches + 1):
            name = f"branch_{fork}_{number}"
            x = maps[path]
            for block, (*size, channels) in enumerate(plan, start=1):
                stride = max(1, round(exits.side_ratio(x, size)))
                filters = blocks.scaled(channels, width)
                x = exits.separable(x, filters, stride, batch_norm_momentum, f"{name}_block{block}")
            outputs[name] = exits.head(x, logits.shape[-1], name)
    outputs[forks.OUTPUT] = logits
    if gate:
        outputs[ENSEMBLE] = _gated(maps[paths[0]], list(outputs.values()), batch_norm_momentum)
    return keras.Model(inputs, outputs, name=model.name)


def _gated(shared, logits, momentum):
    """Float32 logits, the sum of several weighed by a softmax over them.

    Args:
        shared: map that all of them are made of.
        logits: list of tensors, shape (batch, classes).
        momentum: of the gate's BatchNormalization.
    """
    count, classes = len(logits), logits[0].shape[-1]
    x = layers.GlobalAveragePooling2D(name="gate_features")(shared)
    x = layers.Dense(count, use_bias=False, name="gate")(x)
    x = layers.ReLU(name="gate_relu")(
        layers.BatchNormalization(momentum=momentum, name="gate_bn")(x)
    )
    weights = layers.Softmax(dtype="float32", name="gate_weights")(x)
    together = layers.Concatenate(dtype="float32", name="gate_logits")(logits)
    rows = layers.Reshape((count, classes), dtype="float32", name="gate_rows")(together)
    return layers.Dot(axes=1, dtype="float32", name=ENSEMBLE)([weights, rows])


def _plan(model, path, paths):
    """(height, width, channels) of every stage after the fork; of the last if there is none."""
    order = forks.taps.layer_paths(model).index
    later = [stage for stage in forks.tap_points.stage_ends(model) if order(stage) > order(path)]
    return [forks.map_shape(model, stage) for stage in later] or [exits.last_map(model, paths)]
