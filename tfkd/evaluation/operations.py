"""How much arithmetic a model does for one image."""

import math

import tensorflow as tf

from tfkd import _keras
from tfkd.models.text_classifiers import from_tokens

_CALLS = ("PartitionedCall", "StatefulPartitionedCall")


def multiply_adds(model, image_shape=None):
    """Counts the multiply-adds of convolutions and matrix products in one inference.

    Counted in the graph that TensorFlow runs, so whatever the model is made of (nested models,
    layers of one's own); a convolution of groups and a depthwise one count what they do. What is
    not counted (BatchNorm, activations, pooling) is a few percent of it.

    Of a model of text what follows its `TextVectorization` is counted, for a text of full length.

    Args:
        model: a built `keras.Model` of one image or text, with one output or several.
        image_shape: (height, width, channels), needed only where the model's input leaves it open.

    Returns:
        int, for a batch of one.

    Raises:
        ValueError: the model's input shape is not known and `image_shape` is not given; texts
            become no tokens of a fixed number.
    """
    if getattr(model, "inputs", None) and model.inputs[0].dtype == "string":
        model, _ = from_tokens(model)  # the rest has no products
    if image_shape is None:
        image_shape = model.inputs[0].shape[1:] if getattr(model, "inputs", None) else (None,)
    if None in image_shape:
        raise ValueError(
            f'The input shape of model "{model.name}" is open (known: {tuple(image_shape)}); '
            "give image_shape=(height, width, channels)."
        )
    run = tf.function(lambda image: model(image, training=False), autograph=False)
    dtype = model.inputs[0].dtype if getattr(model, "inputs", None) else "float32"
    return _counted(run.get_concrete_function(tf.TensorSpec((1, *image_shape), dtype)).graph)


def _counted(graph):
    return sum(map(_products, graph.get_operations()))


def _products(operation):
    """Products that an operation sums up: numbers of its output times products for each."""
    kind, inputs = operation.type, [tensor.shape for tensor in operation.inputs]
    if kind in _CALLS:  # Keras runs a convolution of groups in a function of its own
        return _counted(_keras.function_graph(operation))
    if kind == "Einsum":
        return _einsum_products(operation.get_attr("equation").decode(), inputs)
    if kind == "Conv2D":
        each = math.prod(inputs[1][:3])  # height, width, channels of one group
    elif kind == "DepthwiseConv2dNative":
        each = math.prod(inputs[1][:2])
    elif kind == "MatMul":
        each = inputs[0][-2 if operation.get_attr("transpose_a") else -1]
    elif kind == "BatchMatMulV2":
        each = inputs[0][-2 if operation.get_attr("adj_x") else -1]
    else:
        return 0
    return math.prod(operation.outputs[0].shape) * each


def _einsum_products(equation, shapes):
    """Every index runs through every other: the product of all their sizes."""
    sizes = {}
    for term, shape in zip(equation.split("->")[0].split(","), shapes, strict=True):
        rest = len(shape) - len(term.replace("...", ""))
        indices = term.replace("...", "ABCDEFGH"[8 - rest :])
        sizes.update(zip(indices, shape, strict=True))
    return math.prod(sizes.values())
