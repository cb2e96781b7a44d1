"""A classifier after every stage, for distillation between unlike architectures (OFA-KD).

Hao et al. 2023, "One-for-All: Bridge the Gap Between Heterogeneous Architectures in Knowledge
Distillation", arXiv:2310.19444, after the released code; heads of sequences are a reconstruction.
"""

import keras
from keras import layers

from tfkd import taps
from tfkd.models import blocks, exits, forks


def with_stage_heads(
    model, at=None, *, features=None, batch_norm_momentum=blocks.BATCH_NORM_MOMENTUM
):
    """Gives a copy of a model a head after each stage; all of them learn the teacher's logits.

    The head of a map that is followed by n further stages has n separable convolutions of stride 2,
    each doubling the channels, the last to `features`; that of the last stage a 1x1 convolution;
    then global average pooling ("stage_1_features") and logits. The head of a sequence (of a
    transformer) has layer normalisation, a Dense layer to `features` with GELU, the mean over the
    positions and logits.

    ```python
    student = tfkd.models.with_stage_heads(student, features=teacher_width)
    losses = [
        tfkd.losses.EnhancedTargetDistillation(student_layer_name=name, name=f"ofa_{name}")
        for name in tfkd.models.exit_names(student)
    ]
    ```

    `tfkd.models.trunk` takes the heads off after training.

    Args:
        model: functional or Sequential classifier of one output. It stays as it is: the result
            starts from a copy of its weights. If it ends in softmax or sigmoid, the copy does not.
        at: names or paths of layers that give maps or sequences; default `tfkd.models.stages`.
        features: width of the heads' feature vectors; the larger of the two models' last widths in
            the paper; default that of the student's last stage.
        batch_norm_momentum: see `blocks.BATCH_NORM_MOMENTUM`.

    Returns:
        Functional `keras.Model` of stock layers with outputs {"stage_1": logits, ..., "output": the
        model's own logits}, each float32 (batch, classes), numbered from shallow to deep.

    Raises:
        TypeError, ValueError: no such classifier, no stages, an unknown layer (near matches are
        listed), or one whose output is neither a map nor a sequence of known size.
    """
    forks.check_backbone(model, "stage heads")
    paths = (
        forks.tap_points.stage_ends(model) if at is None else [at] if isinstance(at, str) else at
    )
    if not paths:
        raise ValueError(
            f'Model "{model.name}" has no stages that show by their resolution. Name the layers '
            'that get heads: at=["block1", "block2"]. Its layers: '
            f"{', '.join(taps.layer_paths(model)[:12])}."
        )
    shapes = [_shape(model, path) for path in paths]
    features = shapes[-1][-1] if features is None else features
    if isinstance(features, bool) or not hasattr(features, "__index__") or features < 1:
        raise ValueError(f"features is {features!r}. Expected a whole number of channels, or None.")
    inputs, tensors, logits = forks.opened_copy(model, paths)
    outputs = {}
    for number, path in enumerate(paths, start=1):
        name = f"stage_{number}"
        if len(tensors[path].shape) == 3:
            x = _sequence_features(tensors[path], features, name)
            outputs[name] = layers.Dense(logits.shape[-1], dtype="float32", name=name)(x)
        else:
            x = _map_features(
                tensors[path], len(paths) - number, features, batch_norm_momentum, name
            )
            outputs[name] = exits.head(x, logits.shape[-1], name)
    return keras.Model(inputs, {**outputs, forks.OUTPUT: logits}, name=model.name)


def _shape(model, path):
    layer = taps.find_layer(model, path)
    shape = getattr(getattr(layer, "output", None), "shape", None)
    if shape is not None and len(shape) == 3 and None not in shape[1:]:
        return tuple(shape[1:])
    return forks.map_shape(model, path)


def _map_features(x, later, features, momentum, name):
    for block in range(1, later + 1):
        filters = features if block == later else 2 * x.shape[-1]
        stride = 2 if min(x.shape[1:3]) > 1 else 1
        x = exits.separable(x, filters, stride, momentum, f"{name}_block{block}")
    if not later:
        x = blocks.convolution(x, features, 1, momentum=momentum, name=f"{name}_pw")
    return x


def _sequence_features(x, features, name):
    x = layers.LayerNormalization(name=f"{name}_norm")(x)
    x = layers.Dense(features, activation="gelu", name=f"{name}_dense")(x)
    return layers.GlobalAveragePooling1D(name=f"{name}_features")(x)
