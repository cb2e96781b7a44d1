"""TensorProtos of strangers as arrays: counted before anything is made.

A proto may give one value for a shape of 10^12, and `tf.make_ndarray` would repeat it as often."""

import math

import numpy as np

from tfkd.runtime.loader import NUMPY_TYPES, STRING, STRING_BYTES

_FIELDS = {
    1: "float_val",
    2: "double_val",
    3: "int_val",
    4: "int_val",
    5: "int_val",
    6: "int_val",
    STRING: "string_val",
    9: "int64_val",
    10: "bool_val",
    17: "int_val",
    19: "half_val",
    22: "uint32_val",
    23: "uint64_val",
}


def to_array(proto, maximum_bytes):
    """A TensorProto as an array; strings as an object array of bytes.

    The last value is repeated up to the shape's size, as TensorFlow does.

    Raises:
        ValueError: values and shape do not fit, or it takes more than `maximum_bytes`.
    """
    kind, shape = proto.dtype, [side.size for side in proto.tensor_shape.dim]
    if kind not in NUMPY_TYPES:
        raise ValueError(f"the dtype number {kind} is not served")
    if proto.tensor_shape.unknown_rank or min(shape, default=1) < 0:
        raise ValueError(f"the shape {shape} is not known in full")
    count, values = math.prod(shape), getattr(proto, _FIELDS[kind])
    given = _given(proto, kind, values)
    if not min(count, 1) <= given <= count:
        raise ValueError(f"{given} values are given for the shape {shape}")
    size = count * (STRING_BYTES if kind == STRING else NUMPY_TYPES[kind].itemsize)
    if kind == STRING and count:
        size += sum(map(len, values)) + len(values[-1]) * (count - given)
    if size > maximum_bytes:
        raise ValueError(f"the shape {shape} takes {size} bytes; at most {maximum_bytes} are taken")
    if proto.tensor_content:
        return np.frombuffer(proto.tensor_content, NUMPY_TYPES[kind]).reshape(shape)
    return _filled(kind, values, count).reshape(shape)


def _given(proto, kind, values):
    if not proto.tensor_content:
        return len(values)
    width = NUMPY_TYPES[kind].itemsize
    if kind == STRING or len(values) or len(proto.tensor_content) % width:
        length = len(proto.tensor_content)
        raise ValueError(f"tensor_content holds {length} bytes, which are no values of its dtype")
    given = len(proto.tensor_content) // width
    if given != math.prod(side.size for side in proto.tensor_shape.dim):
        raise ValueError(f"tensor_content holds {given} values, which is not the shape's number")
    return given


def _filled(kind, values, count):
    target = np.dtype(np.uint16) if kind == 19 else NUMPY_TYPES[kind]
    if target.kind in "iu" and values and not _within(np.iinfo(target), values):
        raise ValueError(f"it holds numbers that are none of the type {target.name}")
    array = np.empty(count, target)
    array[: len(values)] = values
    if count:
        array[len(values) :] = array[len(values) - 1]
    return array.view(np.float16) if kind == 19 else array


def _within(limits, values):
    return limits.min <= min(values) and max(values) <= limits.max
