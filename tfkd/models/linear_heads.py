"""Models that end in global average pooling and a Dense layer, seen from that end.

`with_class_maps` lays open where each class is seen (for CAT-KD); `with_teacher_head` gives a
student the teacher's classifier (SimKD).
"""

from typing import NamedTuple

import keras
import numpy as np
from keras import layers

from tfkd.models import blocks, forks


class LinearHead(NamedTuple):
    """What a model makes its logits of.

    Attributes:
        layer: name of the layer that gives the last map.
        map: its symbolic tensor, (batch, height, width, channels).
        dropout: rate of the dropout between pooling and classifier, 0 for none.
        kernel, bias: weights of the classifier, (channels, classes) and (classes,).
    """

    layer: str
    map: keras.KerasTensor
    dropout: float
    kernel: np.ndarray
    bias: np.ndarray


def pooled_layer(model):
    """The name of the layer whose map a classifier pools, as a loss's layer name.

    Args:
        model: functional or Sequential classifier of one output that ends in
            GlobalAveragePooling2D and a Dense layer.

    Raises:
        TypeError, ValueError: another model.
    """
    return _opened(model, "reading the last map")[1].layer


def features_layer(model):
    """The name of the layer that gives what a classifier's last Dense layer reads, before dropout.

    Args:
        model: functional or Sequential classifier of one output that ends in a Dense layer.

    Raises:
        TypeError, ValueError: another model, or one whose Dense layer reads no vector.
    """
    forks.check_backbone(model, "pooled features")
    operation = forks.made_by(model.outputs[0])
    while isinstance(operation, layers.Activation | layers.Softmax):
        operation = forks.made_by(operation.input)
    if isinstance(operation, layers.Dense):
        below = forks.made_by(operation.input)
        while isinstance(below, layers.Dropout):
            below = forks.made_by(below.input)
        if len(operation.input.shape) == 2 and not isinstance(below, layers.InputLayer):
            return below.name
    raise ValueError(
        f'Model "{model.name}" ends in "{operation.name}" ({type(operation).__name__}), not in a '
        "Dense layer over features. Name the layer of the features in a program."
    )


def with_class_maps(model):
    """A copy of a classifier that tells where it sees each class: its logits are means of maps.

    Global average pooling and a Dense layer are the same as a 1x1 convolution with the Dense
    layer's weights, the layer "class_maps", and then global average pooling: the logits are equal
    to rounding. For teacher and student of `tfkd.losses.ClassAttentionTransfer`.

    Args:
        model: functional or Sequential classifier of one output that ends in
            GlobalAveragePooling2D and a Dense layer, with dropout between them or without. It
            stays as it is. If it ends in softmax or sigmoid, the copy does not.

    Returns:
        Functional `keras.Model`: (batch, classes) float32 logits.

    Raises:
        TypeError, ValueError: another model.
    """
    inputs, head = _opened(model, "class maps")
    x = head.map
    if head.dropout:  # the same channels of an example are left out as between the two layers
        x = layers.SpatialDropout2D(head.dropout, name="class_dropout")(x)
    convolution = layers.Conv2D(head.kernel.shape[-1], 1, dtype="float32", name="class_maps")
    x = convolution(x)
    convolution.set_weights([head.kernel[None, None], head.bias])
    x = layers.GlobalAveragePooling2D(dtype="float32", name="logits")(x)
    return keras.Model(inputs, x, name=model.name)


def with_teacher_head(
    student, teacher, *, factor=2, batch_norm_momentum=blocks.BATCH_NORM_MOMENTUM
):
    """A copy of a student that ends in a projector and the teacher's own, frozen classifier.

    SimKD (Chen et al. 2022, "Knowledge Distillation with the Reused Teacher Classifier",
    arXiv:2203.14001): 1x1, 3x3 and 1x1 convolutions, each with BatchNorm and ReLU, bring the
    student's last map to the teacher's channels, the layer "teacher_map"; it is all that is
    trained for, without labels:

    ```python
    student = tfkd.models.with_teacher_head(student, teacher)
    last = tfkd.models.pooled_layer(teacher)
    loss = tfkd.losses.FeatureDistillation("mse", last, "teacher_map")
    distiller = tfkd.Distiller(teacher, student, loss, student_loss_weight=0.0)
    ```

    A student's map that is larger than the teacher's is pooled to its size. One that is smaller
    stays, and the loss's adapter enlarges it, where the paper pools the teacher's.

    Args:
        student: functional or Sequential classifier of one output that ends in
            GlobalAveragePooling2D and a Dense layer; its own head is left out of the copy.
        teacher: another one, of whose head the student gets a copy.
        factor: how many times narrower than the teacher's map the projector is inside; 2, 4 or 8 in
            the paper.
        batch_norm_momentum: see `blocks.BATCH_NORM_MOMENTUM`.

    Returns:
        Functional `keras.Model`: (batch, the teacher's classes) float32 logits.

    Raises:
        TypeError, ValueError: other models, or a factor that leaves no channels.
    """
    reused = _opened(teacher, "a reused head")[1]
    inputs, own = _opened(student, "a reused head")
    *size, channels = reused.map.shape[1:]
    if isinstance(factor, bool) or not hasattr(factor, "__index__") or not 1 <= factor <= channels:
        raise ValueError(
            f"factor is {factor!r}. Expected a whole number from 1 to {channels}, the channels of "
            "the teacher's last map."
        )
    x = _shrunk(own.map, size)
    for number, (filters, kernel) in enumerate(
        [(channels // factor, 1), (channels // factor, 3), (channels, 1)], start=1
    ):
        x = layers.Conv2D(
            filters,
            kernel,
            padding="same",
            use_bias=False,
            kernel_initializer="he_normal",
            name=f"projector{number}_conv",
        )(x)
        x = layers.BatchNormalization(
            momentum=blocks.checked_momentum(batch_norm_momentum),
            epsilon=1e-5,
            name=f"projector{number}_bn",
        )(x)
        x = layers.ReLU(name="teacher_map" if number == 3 else f"projector{number}_relu")(x)
    x = layers.GlobalAveragePooling2D(name="teacher_features")(x)
    classifier = layers.Dense(
        reused.kernel.shape[-1], dtype="float32", trainable=False, name="teacher_logits"
    )
    x = classifier(x)
    classifier.set_weights([reused.kernel, reused.bias])
    return keras.Model(inputs, x, name=student.name)


def _shrunk(x, size):
    given = tuple(x.shape[1:3])
    size = tuple(map(min, given, size))
    if given == size:
        return x
    if any(n % k for n, k in zip(given, size, strict=True)):
        return layers.AdaptiveAveragePooling2D(size, name="pool_to_teacher")(x)
    factors = tuple(n // k for n, k in zip(given, size, strict=True))
    return layers.AveragePooling2D(factors, name="pool_to_teacher")(x)


def _opened(model, growth):
    """(inputs, `LinearHead`) of a copy of a model; ValueError where it ends otherwise."""
    forks.check_backbone(model, growth)
    inputs, _, tensor = forks.opened_copy(model, [])
    classifier, dropout = None, 0.0
    while True:
        operation = forks.made_by(tensor)
        if isinstance(operation, layers.InputLayer):
            raise _other_end(model, growth, operation)
        given = operation.input
        if isinstance(operation, layers.Dense) and classifier is None:
            classifier = operation
        elif isinstance(operation, layers.GlobalAveragePooling2D) and classifier is not None:
            break
        elif isinstance(operation, layers.Dropout):
            dropout = operation.rate
        elif not isinstance(operation, layers.Identity):
            raise _other_end(model, growth, operation)
        tensor = given
    if getattr(classifier.activation, "__name__", None) != "linear" or None in given.shape[1:]:
        raise _other_end(model, growth, classifier)
    bias = classifier.bias if classifier.use_bias else np.zeros(classifier.units, "float32")
    weights = (keras.ops.convert_to_numpy(part) for part in (classifier.kernel, bias))
    return inputs, LinearHead(forks.made_by(given).name, given, dropout, *weights)


def _other_end(model, growth, operation):
    return ValueError(
        f'Model "{model.name}" does not end in GlobalAveragePooling2D over a map of known size and '
        f'a Dense layer without an activation, but its end has "{operation.name}" '
        f"({type(operation).__name__}); {growth} need a linear classifier of pooled features. Build"
        " one with tfkd.models.build, or put these two layers at the model's end."
    )
