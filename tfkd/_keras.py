"""Every private name of Keras and TensorFlow that tfkd leans on, each in one place.

`tests/test_keras_internals.py` holds one test of what is relied on for each. Verified with the
versions of Keras that setup.cfg admits.
"""

import keras
import tensorflow as tf
from keras.src.losses.loss import squeeze_or_expand_to_same_rank, unscale_loss_for_distribution
from keras.src.utils.naming import to_snake_case
from tensorflow.python.util import _pywrap_util_port

__all__ = [
    "PreparedModel",
    "has_onednn",
    "layers_of",
    "logits_of",
    "mask_of",
    "output_losses",
    "prepared_parts",
    "replace_losses",
    "replace_metrics",
    "squeeze_or_expand_to_same_rank",
    "takes_training",
    "to_snake_case",
    "unscale_loss_for_distribution",
    "wraps_function",
    "with_mask",
]


# Tensors.


def mask_of(tensor):
    """The mask that Keras's layers left on a tensor, or None."""
    return getattr(tensor, "_keras_mask", None)


def with_mask(tensor, source):
    """`tensor` with the mask of `source`, if that has one."""
    mask = mask_of(source)
    if mask is None or mask_of(tensor) is mask:
        return tensor
    tensor = tf.identity(tensor)
    tensor._keras_mask = mask
    return tensor


def logits_of(tensor):
    """The logits that Keras's softmax and sigmoid leave on what they return, or None."""
    return getattr(tensor, "_keras_logits", None)


# Layers and models.


def layers_of(layer, recursive=True):
    """The layers inside of a layer, without itself; nested ones too unless told otherwise."""
    return list(layer._flatten_layers(include_self=False, recursive=recursive))


def takes_training(layer):
    """Whether the layer's `call` has an argument `training`."""
    return getattr(layer, "_call_has_training_arg", True)


def has_own_moments(layer):
    """Whether a BatchNormalization layer computes its statistics in a way of its own."""
    return type(layer)._moments is not keras.layers.BatchNormalization._moments


def function_graph(operation):
    """The graph of the function that an operation calls, or None."""
    function = operation.graph._get_function(operation.get_attr("f").name)
    return getattr(function, "graph", None)


def has_onednn():
    """Whether this TensorFlow computes with oneDNN."""
    return bool(_pywrap_util_port.IsMklEnabled())


def wraps_function(thing):
    """The plain function that Keras wrapped to make a loss or metric of it, or None.

    Keras makes such wrappers of names and functions; its own classes (`BinaryCrossentropy`) are
    subclasses of theirs.
    """
    wrappers = (keras.src.losses.losses.LossFunctionWrapper, keras.metrics.MeanMetricWrapper)
    if type(thing) not in wrappers:
        return None
    return getattr(thing, "fn", None) or getattr(thing, "_fn", None)


def settings_of(loss):
    """The keyword arguments that a Keras loss gives its function."""
    return getattr(loss, "_fn_kwargs", {})


# What `compile` makes of its arguments.


def prepared_parts(model):
    """The compiled model's metrics and loss, those of the two that there are."""
    parts = [model._compile_metrics, model._compile_loss]
    return [part for part in parts if part is not None]


def compiled_loss(model):
    """What `compile` made of `loss=`: called with (y, y_pred, sample_weight); or None."""
    return getattr(model, "_compile_loss", None)


def output_losses(model):
    """[(path to the output, loss)] of a compiled and built loss."""
    compiled = compiled_loss(model)
    if compiled is None or not compiled.built:
        return []
    return [(part.path, part.loss) for part in compiled._flat_losses]


def replace_losses(model, replacement):
    """Exchanges the losses of a built `compile`.

    Args:
        model: a compiled model whose loss is built.
        replacement: function of (path to the output, loss) that returns a loss. Only called for
            losses that Keras made itself, of a name or a function.
    """
    compiled = compiled_loss(model)
    given = [id(leaf) for leaf in keras.tree.flatten(compiled._user_loss)]
    compiled._flat_losses = [
        part if id(part.loss) in given else part._replace(loss=replacement(part.path, part.loss))
        for part in compiled._flat_losses
    ]


def replace_metrics(model, replacement):
    """Exchanges the metrics of a built `compile`.

    Args:
        model: a compiled model whose metrics are built.
        replacement: function of (position of the output, metric) that returns a metric. Only called
            for metrics that Keras made itself, of a name or a function.
    """
    compiled = model._compile_metrics
    given = [
        id(leaf)
        for metrics in (compiled._user_metrics, compiled._user_weighted_metrics)
        for leaf in keras.tree.flatten(metrics)
    ]
    for flat in (compiled._flat_metrics, compiled._flat_weighted_metrics):
        for position, metrics in enumerate(flat):
            if metrics is not None:
                metrics.metrics = [
                    metric if id(metric) in given else replacement(position, metric)
                    for metric in metrics.metrics
                ]


class PreparedModel(keras.Model):
    """A model that knows its variables before the first step.

    Subclasses define `prepared` (whether everything is made) and `prepare(x, knowledge)`, which
    makes what can only be made with a batch.
    """

    def _maybe_symbolic_build(self, iterator=None, data_batch=None):
        # Under a strategy Keras draws a batch to build from, and data that counts its epochs counts
        # one more: only where there is something left to make.
        if not self.prepared:
            super()._maybe_symbolic_build(iterator, data_batch)

    def _symbolic_build(self, iterator=None, data_batch=None):
        # Under a strategy Keras builds before the first step, and knows of no stored knowledge.
        if isinstance(data_batch, tuple) and len(data_batch) == 4:
            *data_batch, knowledge = data_batch
            self.prepare(data_batch[0], knowledge)
            data_batch = tuple(data_batch)
        super()._symbolic_build(iterator, data_batch)

    def aggregated_penalties(self):
        """The model's additional losses (regularisers), scaled for replicas as Keras does."""
        return [self._aggregate_additional_loss(penalty) for penalty in self.losses]

    def track_total_loss(self, loss, batch):
        """Updates the metric "loss"."""
        self._loss_tracker.update_state(unscale_loss_for_distribution(loss), sample_weight=batch)
