"""Losses and metrics given to `compile` by name or function, read as the student's head means them.

Keras takes what such a crossentropy is given for probabilities. Where the student ends in logits,
Keras's losses get `from_logits=True`, and metrics that need probabilities get probabilities.
"""

import warnings

import keras
import tensorflow as tf

from tfkd import _keras, batches, validation
from tfkd.heads import Head

# Keras's losses with an argument `from_logits`, by the names of their functions.
_CROSSENTROPIES = (
    "sparse_categorical_crossentropy",
    "categorical_crossentropy",
    "binary_crossentropy",
    "categorical_focal_crossentropy",
    "binary_focal_crossentropy",
)
_OF_PROBABILITIES = (*_CROSSENTROPIES, "kl_divergence", "binary_accuracy")

# Keras's metrics that compare probabilities with a threshold, or take their logarithm.
_METRICS = (
    keras.metrics.AUC,
    keras.metrics.BinaryAccuracy,
    keras.metrics.BinaryCrossentropy,
    keras.metrics.BinaryIoU,
    keras.metrics.CategoricalCrossentropy,
    keras.metrics.FalseNegatives,
    keras.metrics.FalsePositives,
    keras.metrics.FBetaScore,
    keras.metrics.KLDivergence,
    keras.metrics.Precision,
    keras.metrics.PrecisionAtRecall,
    keras.metrics.Recall,
    keras.metrics.RecallAtPrecision,
    keras.metrics.SensitivityAtSpecificity,
    keras.metrics.SparseCategoricalCrossentropy,
    keras.metrics.SpecificityAtSensitivity,
    keras.metrics.TrueNegatives,
    keras.metrics.TruePositives,
)


class OfProbabilities(keras.metrics.Metric):
    """A metric of probabilities that is given logits.

    Args:
        metric: the metric.
        head: `tfkd.heads.Head` of the logits.
    """

    def __init__(self, metric, head):
        super().__init__(name=metric.name)
        self.metric, self.head = metric, head

    def update_state(self, y_true, y_pred, sample_weight=None):
        return self.metric.update_state(
            y_true, self.head.probabilities(y_pred), sample_weight=sample_weight
        )

    def result(self):
        return self.metric.result()

    def reset_state(self):
        self.metric.reset_state()


def check(losses, metrics, heads):
    """What can be said of `compile`'s arguments at once.

    Warns that a crossentropy by name is read as one of logits, where all outputs hold logits.

    Raises:
        ValueError: a metric that compares student and teacher among those of the labels.
    """
    misplaced = [m for m in keras.tree.flatten(metrics) if hasattr(m, "teacher_layer_name")]
    if misplaced:
        raise ValueError(
            f"{misplaced[0].name} compares student and teacher, not predictions and labels: "
            "give it as compile(teacher_metrics=[...])."
        )
    named = [leaf for leaf in keras.tree.flatten(losses) if _name(leaf) in _CROSSENTROPIES]
    if named and heads and all(head.kind == "logits" for head in heads.values()):
        name = _name(named[0])
        kind = "".join(part.capitalize() for part in name.split("_"))
        warnings.warn(
            f'loss="{name}" expects probabilities, but the student ends in logits: it is read as '
            f"{kind}(from_logits=True). Pass that to silence this.",
            stacklevel=3,
        )


def read(model, heads):
    """Exchanges the losses and metrics of a built `compile` where an output holds logits.

    Args:
        model: a compiled model whose loss and metrics are built.
        heads: {output name: `tfkd.heads.Head`} of what it returns, in the order of its outputs.
    """

    def head_at(place):
        return heads.get(_output_at(place, list(heads)), Head())

    def loss(path, given):
        function, head = getattr(given, "fn", None), head_at(path)
        if head.kind != "logits" or _function_name(function) not in _CROSSENTROPIES:
            return given
        settings = {**_keras.settings_of(given), "from_logits": True}
        return _keras.wrapped_loss(function, given.name, **settings)

    def metric(position, given):
        head = head_at(position)
        function = _keras.wraps_function(given)
        needs = isinstance(given, _METRICS) or _function_name(function) in _OF_PROBABILITIES
        if head.kind != "logits" or head.labels is None or not needs:
            return given
        return OfProbabilities(given, head)

    _keras.replace_losses(model, loss)
    _keras.replace_metrics(model, metric)


def are_metrics(given):
    """Whether what stands in the third place of `compile` is metrics, not loss weights."""
    flat = keras.tree.flatten(given)
    return any(isinstance(item, str | keras.metrics.Metric) or callable(item) for item in flat)


def value(model, y, y_pred, sample_weight):
    """The student's loss on the labels, a float32 scalar; None where there is none to compute.

    Args:
        model: the Distiller.
        y: labels, one for all outputs or one for each, or None.
        y_pred: what the student returned.
        sample_weight: weights of examples or of positions, or None.

    Raises:
        ValueError: the loss counts, but the labels or the loss are missing.
    """
    compiled = _keras.compiled_loss(model)
    if compiled is None or y is None:
        validation.supervised(model.student_loss_weight, has_loss=compiled is not None)
        return None
    y = batches.labels_of_outputs(y, y_pred)
    weights = _weights_of_outputs(model, y, y_pred, sample_weight)
    return tf.cast(compiled(y, y_pred, weights), tf.float32)


def _weights_of_outputs(model, y, y_pred, sample_weight):
    """Sample weights as Keras's losses match them with their values.

    One weight for each example counts for all of its positions, where Keras would match it with
    the last axis of the values.
    """
    dense = [output for output in keras.tree.flatten(y_pred) if len(output.shape) > 2]
    if sample_weight is None or not dense:
        return sample_weight
    found = {}
    for path, loss in _keras.output_losses(model):
        weight = _at(path, sample_weight) if keras.tree.is_nested(sample_weight) else sample_weight
        if weight is not None and len(weight.shape) == 1:
            rank = _keras.rank_of_values(loss, _at(path, y), _at(path, y_pred))
            weight = tf.reshape(weight, (-1, *[1] * (rank - 1)))
        found[path] = weight
    if not keras.tree.is_nested(y_pred):
        return found.get((), sample_weight)
    paths = keras.tree.map_structure(lambda _: None, y_pred)
    if isinstance(paths, dict):
        return {name: found.get((name,)) for name in paths}
    return [found.get((position,)) for position in range(len(paths))]


def _at(path, structure):
    for step in path if keras.tree.is_nested(structure) else ():
        structure = structure[step]
    return structure


def label_checks(model, y, shapes):
    """Operations that fail where class labels lie outside of the classes that a loss can read.

    Only Keras's sparse categorical crossentropy says what its labels are; other losses may mean
    anything by theirs.

    Args:
        model: a compiled model.
        y: its labels, or None.
        shapes: {output name: shape} in the order of the outputs.
    """
    checks = []
    for path, loss in _keras.output_losses(model) if y is not None else ():
        sparse = getattr(loss, "fn", None) is keras.losses.sparse_categorical_crossentropy
        if sparse and _keras.settings_of(loss).get("ignore_class") is None:
            classes = shapes[_output_at(path, list(shapes))][-1]
            checks.append(validation.class_labels(_at(path, y), classes))
    return checks


def _output_at(place, names):
    """The name of the output at a position, or at a path through a structure of outputs."""
    if isinstance(place, tuple):
        place = place[-1] if place else 0
    return names[place] if isinstance(place, int) else place


def _name(given):
    return _keras.to_snake_case(given) if isinstance(given, str) else _function_name(given)


def _function_name(function):
    return getattr(function, "__name__", None)
