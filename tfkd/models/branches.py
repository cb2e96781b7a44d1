"""Shallow, wide branches beside a model's deeper stages.

After Ye et al., "A Unified Asymmetric Knowledge Distillation Framework", Neural Processing Letters
56 (2024): "multi-stage shallow-wide branch bifurcation". The paper's widths and depths are not
public; this is a reconstruction. The branches teach the trunk and each other while training;
`tfkd.models.trunk` strips them.
"""

import keras

from tfkd.models import blocks, exits, forks

FORKS = 2


def with_branches(
    model,
    at=None,
    branches=2,
    width=1.5,
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
        batch_norm_momentum: see `blocks.BATCH_NORM_MOMENTUM`.

    Returns:
        Functional `keras.Model` of stock layers with outputs {"branch_1_1": logits, "branch_1_2":
        ..., "output": the model's own logits}, each float32 (batch, classes); the first number is
        the fork's, from shallow to deep, the second the branch's.

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
    return keras.Model(inputs, {**outputs, forks.OUTPUT: logits}, name=model.name)


def _plan(model, path, paths):
    """(height, width, channels) of every stage after the fork; of the last if there is none."""
    order = forks.taps.layer_paths(model).index
    later = [stage for stage in forks.tap_points.stage_ends(model) if order(stage) > order(path)]
    return [forks.map_shape(model, stage) for stage in later] or [exits.last_map(model, paths)]
