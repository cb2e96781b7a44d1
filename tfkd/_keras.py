"""Every private name of Keras and TensorFlow that tfkd leans on, each in one place.

`tests/test_keras_internals.py` holds one test of what is relied on for each. Verified with the
versions of Keras that setup.cfg admits.
"""

import keras
import tensorflow as tf
from keras.src.backend import compute_output_spec
from keras.src.backend.common import global_state
from keras.src.losses.loss import reduce_weighted_values, unscale_loss_for_distribution
from keras.src.losses.losses import LossFunctionWrapper
from keras.src.random import seed_generator
from keras.src.utils.naming import to_snake_case
from tensorflow.python.util import _pywrap_util_port

# Used from here as they are.
__all__ = ["reduce_weighted_values", "to_snake_case", "unscale_loss_for_distribution"]


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


def symbolic_of_shapes(shapes):
    """`keras.KerasTensor`s of Keras's default float type in the structure of the shapes."""
    return keras.tree.map_shape_structure(
        lambda shape: keras.KerasTensor((None, *shape[1:])), shapes
    )


def spec_of(tensor):
    """The `tf.TensorSpec` of a `keras.KerasTensor`."""
    return tf.TensorSpec(tensor.shape, tensor.dtype)


def takes_training(layer):
    """Whether the layer's `call` has an argument `training`."""
    return getattr(layer, "_call_has_training_arg", True)


def has_own_moments(layer):
    """Whether a BatchNormalization layer computes its statistics in a way of its own."""
    return type(layer)._moments is not keras.layers.BatchNormalization._moments


def over_workers(strategy):
    """Whether a strategy's replicas are in several processes."""
    several = isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy)
    return several and strategy.extended._in_multi_worker_mode()


def spec_of_replica(spec):
    """What one replica gets of an element of a distributed dataset, structure of `tf.TypeSpec`."""
    return tf.nest.map_structure(lambda own: getattr(own, "_value_specs", [own])[0], spec)


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
    wrappers = (LossFunctionWrapper, keras.metrics.MeanMetricWrapper)
    if type(thing) not in wrappers:
        return None
    return getattr(thing, "fn", None) or getattr(thing, "_fn", None)


def wrapped_loss(function, name, **settings):
    """A `keras.losses.Loss` of a plain function (y_true, y_pred, **settings)."""
    return LossFunctionWrapper(function, name=name, **settings)


def rank_of_values(loss, y_true, y_pred):
    """How many axes the values of a loss have before they are reduced, the batch's included."""
    symbols = [
        keras.KerasTensor(t.shape, keras.backend.standardize_dtype(t.dtype))
        for t in (y_true, y_pred)
    ]
    return len(compute_output_spec(loss.call, *symbols).shape)


def settings_of(loss):
    """The keyword arguments that a Keras loss gives its function."""
    return getattr(loss, "_fn_kwargs", {})


def has_global_seed_generator():
    """Whether a random layer without a seed of its own has been made since the last reset."""
    return global_state.get_global_attribute(seed_generator.GLOBAL_SEED_GENERATOR) is not None


# What `compile` makes of its arguments.


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
    if compiled is None or not compiled.built:
        return
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
    if compiled is None or not compiled.built:
        return
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


def penalties_of(model):
    """A model's additional losses (regularisers), float32, scaled for replicas as Keras does."""
    return [tf.cast(model._aggregate_additional_loss(loss), tf.float32) for loss in model.losses]


def build_parts(model, data):
    """Makes what Keras makes at the first batch: metrics, and the parts of the loss.

    Under a strategy Keras's `fit` draws a batch for it, and data that counts its epochs counts one
    more: with this it draws none.

    Args:
        model: compiled, its layers built.
        data: (x, y) or (x, y, sample weights), structures of anything with shape and dtype.
    """
    with model.distribute_strategy.scope():
        model._symbolic_build(data_batch=data)
    # Past Keras's __setattr__, which would track what is assigned.
    object.__setattr__(model, "_maybe_symbolic_build", lambda iterator=None, data_batch=None: None)


def track(mean, loss, batch):
    """Adds a loss of one batch, scaled for replicas, to a `keras.metrics.Mean` over examples."""
    mean.update_state(unscale_loss_for_distribution(loss), sample_weight=batch)


class PreparedModel(keras.Model):
    """A model that makes its variables before the first step.

    Made within the step they have TensorFlow trace it twice, which takes seconds. A subclass has a
    property `prepared`, whether all is made, and `prepare(x, y, sample_weight, knowledge)`, which
    makes what can only be made with a batch.
    """

    # The names under which keras.distillation's Distiller, and its tests, know the two.

    @property
    def _student_feature_extractor(self):
        return self.taps

    @property
    def _teacher_feature_extractor(self):
        return self.source

    def make_variables(self, x, y, training):
        """Makes what Keras makes at the first batch: metrics, and the optimizer's variables.

        Args:
            x, y: structures of `KerasTensor`, None where they are not known.
            training: whether the optimizer is needed.
        """
        if training and self.optimizer is not None and not self.optimizer.built:
            self.optimizer.build(self.trainable_variables)
        waiting = [part for part in self._compiled_parts() if not part.built]
        if not waiting or x is None or y is None:
            return
        y_pred = self.compute_output_spec(x)
        if keras.tree.is_nested(y_pred) and not keras.tree.is_nested(y):
            y = keras.tree.map_structure(lambda _: y, y_pred)
        for part in waiting:
            part.build(y, y_pred)

    @property
    def has_variables(self):
        """Whether `make_variables` has nothing left to make."""
        parts = [*self._compiled_parts(), *([self.optimizer] if self.optimizer else [])]
        return all(part.built for part in parts)

    def scaled_penalties(self):
        """The additional losses (regularisers), float32, scaled for replicas as Keras does."""
        return penalties_of(self)

    def track_loss(self, loss, batch):
        """Updates the metric "loss"."""
        track(self._loss_tracker, loss, batch)

    def _compiled_parts(self):
        parts = [self._compile_metrics, self._compile_loss]
        return [part for part in parts if part is not None]

    def _maybe_symbolic_build(self, iterator=None, data_batch=None):
        # Under a strategy Keras draws a batch to build from, and data that counts its epochs counts
        # one more: only where there is something left to make.
        if self.prepared:
            return
        if not self.over_workers:
            super()._maybe_symbolic_build(iterator, data_batch)
            return
        # Keras takes the mean of what all workers have drawn, which fails where batches differ.
        if iterator is not None:
            data_batch = next(next(iter(iterator))[-1])
        local = self.distribute_strategy.experimental_local_results
        with self.distribute_strategy.scope():
            self._symbolic_build(
                data_batch=tf.nest.map_structure(lambda part: local(part)[0], data_batch)
            )

    @property
    def over_workers(self):
        """Whether the replicas that train it are in several processes."""
        return over_workers(self.distribute_strategy)

    def _make_function(self, step):
        # Over workers Keras takes each log's mean along its first axis, which scalars do not have:
        # they go through it as one row, in one exchange between the workers.
        if not self.over_workers:
            return super()._make_function(step)
        shapes = {}

        def with_row(data):
            logs = {name: tf.cast(value, tf.float32) for name, value in step(data).items()}
            shapes.update({name: value.shape for name, value in logs.items()})
            return tf.concat([tf.reshape(value, (-1,)) for value in logs.values()], 0)[None]

        function = super()._make_function(with_row)

        def with_logs(iterator):
            row = function(iterator)
            sizes = [shape.num_elements() for shape in shapes.values()]
            parts = tf.split(row, sizes)
            return {
                name: tf.reshape(part, shape)
                for (name, shape), part in zip(shapes.items(), parts, strict=True)
            }

        return with_logs

    def _get_metrics_result_or_logs(self, logs):
        # What the metrics have counted on all replicas, not the last step's mean over replicas:
        # the latter is Keras's way where a step does not report every metric.
        if not logs or self.distribute_strategy.num_replicas_in_sync == 1:
            return super()._get_metrics_result_or_logs(logs)
        found = self.get_metrics_result()
        return {name: found.get(name, value) for name, value in logs.items()}

    def _symbolic_build(self, iterator=None, data_batch=None):
        # Under a strategy Keras builds before the first step, and knows of no stored knowledge.
        if isinstance(data_batch, tuple) and len(data_batch) == 4:
            self.prepare(*data_batch)
            data_batch = data_batch[:3]
        super()._symbolic_build(iterator, data_batch)
