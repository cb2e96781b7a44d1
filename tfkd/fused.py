"""BatchNormalization on TensorFlow's fused kernel, with the numbers of the Keras layer.

Keras 3 composes BatchNormalization from a dozen elementwise operations; on a CPU their gradients
are the largest part of a small student's train step. `install` gives every eligible layer of a
model a `call` of its own that uses the fused kernel, but only inside `with active():` and only on
the thread that entered it; elsewhere (export, `model(x)`) the layer runs as Keras wrote it.

    fused.install(student)
    with fused.active():
        logits = student(images, training=True)

Wrappers of `layer.call` in this package form a chain: each keeps what it wraps in its attribute
`inner` and looks it up when it is called. The fused call always takes the innermost place, so that
a wrapper that reads the layer's output (taps) sees the fused one, whichever was installed first.
"""

import contextlib
import threading

import keras
import tensorflow as tf

from tfkd import _keras

_pass = threading.local()


@contextlib.contextmanager
def active():
    """While open, installed layers called from this thread use the fused kernel. May be nested."""
    before = getattr(_pass, "active", False)
    _pass.active = True
    try:
        yield
    finally:
        _pass.active = before


def faster():
    """Whether the fused kernel pays on this machine: it does on a CPU with oneDNN, and costs on one
    without. Beside a GPU it is not used: it was not measured there, where XLA fuses Keras's."""
    return _keras.has_onednn() and on_cpu()


def on_cpu():
    """Whether TensorFlow sees CPUs alone: what pays there may cost beside a GPU."""
    return all(device.device_type == "CPU" for device in tf.config.get_visible_devices())


def install(model):
    """Make the eligible BatchNormalization layers inside `model` able to run fused.

    Eligible: channels last (4-D input), no renorm, not synchronized, `call` not overridden by a
    subclass or by a foreign wrapper. A call with a mask, another rank or float64 input still runs
    as Keras wrote it. Nothing is tracked, saved or serialised; installing twice changes nothing. A
    layer that the model creates later needs another `install`.

    Args:
        model: any `keras.Model` or `keras.Layer`; nested and subclassed models are searched too.

    Returns:
        int, the number of layers that can run fused.
    """
    return sum(_install_layer(layer) for layer in [model, *_keras.layers_of(model)])


def _install_layer(layer):
    if not _eligible(layer):
        return False
    outer, inner = None, layer.__dict__.get("call", layer.call)
    while hasattr(inner, "inner"):
        if getattr(inner, "runs_fused", False):
            return True
        outer, inner = inner, inner.inner
    if getattr(inner, "__func__", None) is not keras.layers.BatchNormalization.call:
        return False
    fused_call = _fused_call(layer, inner)
    if outer is None:
        # Past Keras's __setattr__, which would track or refuse what is assigned.
        object.__setattr__(layer, "call", fused_call)
    else:
        outer.inner = fused_call
    return True


def _eligible(layer):
    kind = keras.layers.BatchNormalization
    if not isinstance(layer, kind) or _keras.has_own_moments(layer):
        return False
    if layer.built and layer.input_spec.ndim != 4:
        return False
    return layer.axis in (-1, 3) and not getattr(layer, "renorm", False) and not layer.synchronized


def _fused_call(layer, keras_call):
    def call(inputs, training=None, mask=None):
        # Keras computes in float32 whatever the policy, and the kernel knows no float64.
        fits = len(inputs.shape) == 4 and inputs.dtype != tf.float64 and mask is None
        fits = fits and not layer.synchronized  # which several devices or workers set later
        if fits and getattr(_pass, "active", False):
            return batch_normalization(layer, inputs, training)
        return call.inner(inputs, training=training, mask=mask)

    call.inner = keras_call
    call.runs_fused = True
    return call


def batch_normalization(layer, inputs, training):
    """`keras.layers.BatchNormalization.call` by the fused kernel.

    Args:
        layer: a built `keras.layers.BatchNormalization` over the last axis.
        inputs: float tensor, shape (batch, height, width, channels).
        training: whether to normalise by the batch's statistics and move the moving ones; a layer
            that is not `trainable` never does.

    Returns:
        Tensor of the shape of `inputs`, in the layer's compute dtype. Moving statistics are updated
        in place.
    """
    inputs = tf.cast(inputs, tf.float32)
    moving_mean = tf.cast(layer.moving_mean, tf.float32)
    moving_variance = tf.cast(layer.moving_variance, tf.float32)
    scale = tf.cast(layer.gamma, tf.float32) if layer.scale else tf.ones_like(moving_mean)
    offset = tf.cast(layer.beta, tf.float32) if layer.center else tf.zeros_like(moving_mean)
    if not (training and layer.trainable):
        outputs, _, _ = tf.compat.v1.nn.fused_batch_norm(
            inputs, scale, offset, moving_mean, moving_variance, layer.epsilon, is_training=False
        )
        return tf.cast(outputs, layer.compute_dtype)
    outputs, mean, variance = tf.compat.v1.nn.fused_batch_norm(
        inputs, scale, offset, epsilon=layer.epsilon, is_training=True
    )
    # The kernel returns the variance over count - 1, Keras keeps the one over count.
    count = tf.cast(tf.reduce_prod(tf.shape(inputs)[:3]), tf.float32)
    variance *= (count - 1.0) / count
    layer.moving_mean.assign(moving_mean * layer.momentum + mean * (1.0 - layer.momentum))
    layer.moving_variance.assign(
        moving_variance * layer.momentum + variance * (1.0 - layer.momentum)
    )
    return tf.cast(outputs, layer.compute_dtype)
