import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.framework.tensor_pb2 import TensorProto

from tfkd.runtime.tensor_protos import to_array

NUMBERS = ["f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8"]


def proto(data_type, shape, **fields):
    """A TensorProto of a dtype number with the fields as they are given."""
    result = TensorProto(dtype=data_type, **fields)
    for size in shape:
        result.tensor_shape.dim.add(size=size)
    return result


@pytest.mark.parametrize("dtype", NUMBERS)
@pytest.mark.parametrize("shape", [(), (3,), (2, 3), (0, 2)])
def test_numbers_are_read_as_tensorflow_reads_them(dtype, shape):
    array = (np.arange(np.prod(shape, dtype=int)) + 1).astype(dtype).reshape(shape)
    found = to_array(tf.make_tensor_proto(array), 1000)
    assert found.dtype == array.dtype and found.shape == shape
    np.testing.assert_array_equal(found, array)


@pytest.mark.parametrize("array", [[b"", b"\0"], [[b"a"], [b"bc"]], []])
def test_strings_are_read_as_they_were_written(array):
    array = np.array(array, object)
    found = to_array(tf.make_tensor_proto(array, dtype=tf.string), 1000)
    assert found.dtype == object and found.tolist() == array.tolist()


def test_the_last_value_fills_the_shape_as_in_tensorflow():
    for given in (
        proto(1, [2, 2], float_val=[1.5, 2.5]),
        proto(7, [4], string_val=[b"a", b"b"]),
        proto(10, [3], bool_val=[True]),
        proto(19, [2], half_val=[0x3E00]),
    ):
        expected = tf.io.parse_tensor(given.SerializeToString(), given.dtype).numpy()
        np.testing.assert_array_equal(to_array(given, 1000), expected)


@pytest.mark.parametrize(
    "given, message",
    [
        (proto(1, [10**12], float_val=[1.0]), "takes 4000000000000 bytes"),
        (proto(7, [10**6], string_val=[b"x" * 3400]), "takes 3424000000 bytes"),
        (proto(7, [700_000], string_val=[b""]), "takes 16800000 bytes"),
        (proto(9, [2**40, 2**40], int64_val=[1]), "bytes; at most"),
        (proto(1, [2], float_val=[1.0, 2.0, 3.0]), "3 values are given for the shape"),
        (proto(1, [2]), "0 values are given"),
        (proto(1, [2], int_val=[1, 2]), "0 values are given"),
        (proto(3, [2], float_val=[1.0]), "0 values are given"),
        (proto(1, [0], float_val=[1.0]), "1 values are given"),
        (proto(1, [-1], float_val=[1.0]), "not known in full"),
        (proto(1, [2], tensor_content=b"\0" * 7), "holds 7 bytes, which are no values"),
        (proto(1, [2], tensor_content=b"\0" * 4), "holds 1 values, which is not"),
        (proto(1, [1], tensor_content=b"\0" * 4, float_val=[1.0]), "no values of its dtype"),
        (proto(7, [1], tensor_content=b"abcd"), "no values of its dtype"),
        (proto(4, [1], int_val=[300]), "none of the type uint8"),
        (proto(6, [2], int_val=[0, -129]), "none of the type int8"),
        (proto(17, [1], int_val=[-1]), "none of the type uint16"),
        (proto(8, [1]), "dtype number 8 is not served"),
        (proto(20, [1]), "dtype number 20 is not served"),
    ],
)
def test_values_that_do_not_fit_are_refused_before_anything_is_made(given, message):
    with pytest.raises(ValueError, match=message):
        to_array(given, 16 * 2**20)


def test_a_shape_of_unknown_rank_is_refused():
    given = proto(1, [], float_val=[1.0])
    given.tensor_shape.unknown_rank = True
    with pytest.raises(ValueError, match="not known in full"):
        to_array(given, 100)
