"""Convolutions whose training may end the process, whatever trains them."""

import keras
import tensorflow as tf

from tfkd import _keras

CHANNELS = 16  # below so many


def finding(model, name):
    """A sentence about convolutions that oneDNN trains out of bounds; None where there are none.

    On processors with AVX-512 the gradient of a strided 1x1 convolution with fewer than 16 channels
    is written beyond its memory (oneDNN 3, uxlfoundation/oneDNN issue 6035; seen with TensorFlow
    2.21): on small maps nothing happens, on larger ones the process dies without a message.

    Args:
        model: `keras.Model` that is to be trained.
        name: what to call it.
    """
    if tf.config.list_physical_devices("GPU") or not _keras.has_onednn():
        return None
    risky = [own.path for own in _keras.layers_of(model) if _is_risky(own)]
    if not risky:
        return None
    return (
        f"{name} has 1x1 convolutions with strides on fewer than {CHANNELS} channels "
        f"({', '.join(risky)}). On some processors TensorFlow's oneDNN kernel writes out of bounds "
        "while it trains them, and the process may die without a message. Set "
        "TF_ENABLE_ONEDNN_OPTS=0, or write keras.layers.MaxPooling2D(1, strides) before such a "
        "convolution in the place of its strides: the numbers are the same."
    )


def _is_risky(layer):
    return (
        type(layer) is keras.layers.Conv2D
        and layer.built
        and set(layer.kernel_size) == {1}
        and max(layer.strides) > 1
        and layer.trainable
        and layer.kernel.shape[2] < CHANNELS
    )
