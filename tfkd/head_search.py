"""Finds out what an output means from the graph that makes it, and by measuring it.

An output is followed backwards: operations that keep probabilities (clipping, averaging) or move
them (reshaping, transposing) lead to the softmax or sigmoid behind them; a last linear layer means
logits. What the graph does not tell is measured on a few made-up inputs. What that does not tell
either stays unknown: it is asked for, never guessed.
"""

import numpy as np
import tensorflow as tf

from tfkd import _keras
from tfkd.heads import Head

# Greatest distance from 1 of the sum of a distribution; float16 is this coarse.
_SUM_TOLERANCE = 5e-3

_ROWS = 4  # made-up examples of either range

# Operations whose result stands for the same numbers as their inputs, moved or kept in range.
_SAME = {"Identity", "IdentityN", "StopGradient", "Cast", "PreventGradient", "CheckNumerics"}
_MOVING = {
    "Reshape", "Squeeze", "ExpandDims", "Transpose", "StridedSlice", "Slice", "GatherV2",
    "GatherNd", "Tile", "BroadcastTo", "ConcatV2", "Pack", "Unpack", "Split", "SplitV",
    "ReverseV2", "EnsureShape", "Roll", "Pad", "PadV2",
}  # fmt: skip
_KEEPING = {
    "Maximum", "Minimum", "ClipByValue", "Mean", "Max", "Min", "Sum", "AddN", "SelectV2",
    "AvgPool", "MaxPool", "ResizeBilinear", "ResizeNearestNeighbor",
}  # fmt: skip
_AFFINE = {"AddV2", "Add", "Sub", "Mul", "RealDiv", "Div", "BiasAdd", "FusedBatchNormV3", "Neg"}
_LINEAR = {
    "MatMul", "BatchMatMulV2", "BatchMatMulV3", "Einsum", "Conv1D", "Conv2D", "Conv3D",
    "DepthwiseConv2dNative", "Conv2DBackpropInput", "Conv3DBackpropInputV2",
}  # fmt: skip
_CONSTANT = {"Const", "ReadVariableOp", "VarHandleOp", "Shape", "Rank", "Size", "Range", "Fill"}
_CALLS = {"PartitionedCall", "StatefulPartitionedCall"}


class Found:
    """What the graph tells of a tensor.

    Attributes:
        meaning: "softmax" or "sigmoid" (probabilities), "logits", None (not known), or "constant"
            (no function of the input).
        source: the logits themselves where the activation comes last and they can be reached.
        direct: whether nothing but identities lies between the activation and the tensor.
    """

    def __init__(self, meaning, source=None, direct=False):
        self.meaning, self.source, self.direct = meaning, source, direct


def search(tensor):
    """`Found` for a symbolic tensor of a traced pass."""
    if not hasattr(tensor, "graph"):
        return Found(None)
    try:
        return _search(tensor, (), {})
    except RecursionError:  # hundreds of operations that all keep the meaning
        return Found(None)


def _search(tensor, calls, seen):
    """Follows one tensor.

    Args:
        tensor: symbolic tensor.
        calls: the operations that call the functions the tensor is inside of, outermost first.
        seen: {(tensor id, depth of calls): Found}, so that a graph of many paths is walked once.
    """
    key = (id(tensor), len(calls))
    if key not in seen:
        seen[key] = Found(None)
        seen[key] = _search_operation(tensor, calls, seen)
    return seen[key]


def _search_operation(tensor, calls, seen):
    operation = tensor.op
    kind = operation.type

    def follow(*sources):
        return [_search(source, calls, seen) for source in sources]

    if kind in ("Softmax", "Sigmoid"):
        return Found(kind.lower(), None if calls else operation.inputs[0], direct=True)
    if kind == "LogSoftmax":
        return Found("logits")
    if kind in ("Log", "Exp"):
        (inner,) = follow(operation.inputs[0])
        logarithm = operation.inputs[0].op.type == "LogSoftmax"
        if kind == "Exp":
            return Found("softmax" if logarithm else None)
        return Found("logits" if inner.meaning == "softmax" else None)
    if kind in _CALLS:
        return _inside_call(operation, tensor.value_index, calls, seen)
    if kind == "Placeholder":
        return _outside_call(operation, calls, seen)
    if kind in _CONSTANT:
        return Found("constant")
    if kind in _SAME:
        return follow(operation.inputs[tensor.value_index if kind == "IdentityN" else 0])[0]
    if kind in _LINEAR:
        # Mixing probabilities by a matrix may give probabilities again.
        mixed = {one.meaning for one in follow(*operation.inputs[:2])} & {"softmax", "sigmoid"}
        return Found(None if mixed else "logits")
    if kind not in _MOVING | _KEEPING | _AFFINE:
        return Found(None if _varies(operation) else "constant")
    found = follow(*operation.inputs)
    return Found(_combined(kind, [one.meaning for one in found]))


def _varies(operation):
    """Whether an operation depends on the input of the graph it stands in."""
    waiting, known = [operation], set()
    while waiting:
        operation = waiting.pop()
        if operation.type == "Placeholder":
            return True
        if operation in known or operation.type in _CONSTANT:
            continue
        known.add(operation)
        waiting += [source.op for source in operation.inputs]
    return False


def _combined(kind, meanings):
    """What an operation makes of the meanings of its inputs."""
    variable = [meaning for meaning in meanings if meaning != "constant"]
    if not variable:
        return "constant"
    # A product of two things that both vary is a gate, and linear in neither.
    gate = kind in ("Mul", "RealDiv", "Div") and len(variable) > 1
    return variable[0] if len(set(variable)) == 1 and not gate else None


def _inside_call(operation, index, calls, seen):
    graph = _keras.function_graph(operation)
    if graph is None:
        return Found(None)
    found = _search(graph.outputs[index], (*calls, (operation, graph)), seen)
    return Found(found.meaning, None, found.direct)


def _outside_call(placeholder, calls, seen):
    if not calls:
        return Found(None)
    operation, graph = calls[-1]
    for index, given in enumerate(graph.inputs):
        if given.op is placeholder:
            return _search(operation.inputs[index], calls[:-1], seen)
    return Found(None)


def head(found, measured):
    """The `Head` that follows from the graph and, where that is not enough, from measuring.

    Args:
        found: `Found`.
        measured: function without arguments that returns `measure`'s answer; only called where the
            graph does not tell.
    """
    labels = {"softmax": "one_of_many", "sigmoid": "independent"}.get(found.meaning)
    if found.meaning == "logits":
        return Head("logits")
    if labels and found.direct:
        return Head("probabilities", labels)
    seen = measured()
    if labels:
        fits = seen == "distribution" or (seen == "unit" and labels == "independent")
        return Head("probabilities" if fits else None, labels)
    if seen == "distribution":
        return Head("probabilities", "one_of_many")
    return Head("logits") if seen == "outside" else Head()


def measure(output):
    """What an output looks like.

    Args:
        output: array of floats, shape (batch, ..., classes).

    Returns:
        "distribution" (each row is one), "unit" (every number lies within 0 and 1), "outside"
        (some do not), or None where the numbers cannot tell.
    """
    values = np.asarray(output)
    if values.dtype.kind not in "fiub" or not values.ndim or not values.size:
        return None
    values = values.astype("float64")
    values = values[np.isfinite(values).all(axis=tuple(range(1, values.ndim)))]
    if not len(values):
        return None
    if values.min() < -1e-6 or values.max() > 1 + 1e-3:
        return "outside"
    several = values.ndim > 1 and values.shape[-1] > 1
    sums = values.sum(-1)
    return "distribution" if several and np.abs(sums - 1).max() < _SUM_TOLERANCE else "unit"


def made_up(signature):
    """A batch of inputs to measure on, in two ranges: around 0, and pixels; None if impossible.

    Args:
        signature: structure of `tf.TensorSpec`, batch dimension included.
    """
    random = np.random.default_rng(0)

    def batch(spec):
        shape = [8 if size is None else size for size in spec.shape[1:]]
        if spec.shape[0] not in (None, 2 * _ROWS) or not (
            spec.dtype.is_floating or spec.dtype.is_integer
        ):
            raise TypeError
        if spec.dtype.is_integer:  # small numbers: tokens that every vocabulary has
            return tf.constant(random.integers(0, 2, (2 * _ROWS, *shape)), spec.dtype)
        normal = random.normal(size=(_ROWS, *shape))
        pixels = random.uniform(0, 255, (_ROWS, *shape))
        return tf.constant(np.concatenate([normal, pixels]), spec.dtype)

    try:
        return tf.nest.map_structure(batch, signature)
    except TypeError:
        return None
