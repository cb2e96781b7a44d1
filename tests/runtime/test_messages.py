import socket
from multiprocessing.connection import Connection

import numpy as np
import pytest

from tfkd.runtime.messages import pack, receive, send


@pytest.fixture
def ends():
    ours, theirs = (Connection(end.detach()) for end in socket.socketpair())
    with ours, theirs:
        yield ours, theirs


@pytest.mark.parametrize(
    "array",
    [
        np.arange(6, dtype="float32").reshape(1, 2, 3),
        np.float64(3.5),
        np.array([[True], [False]]),
        np.zeros((0, 4), "uint8"),
        np.array([[b"", b"\0\0"], [b"x" * 1000, b"\xff"]], object),
        np.empty(0, object),
        np.array([1.5, -2.0], "float16"),
        np.arange(12).reshape(3, 4)[:, ::2],
    ],
)
def test_arrays_come_out_as_they_went_in(ends, array):
    send(ends[0], pack({"number": 7}, {"x": array, "y": np.int32(1)}))
    head, arrays = receive(ends[1])
    assert head == {"number": 7}
    assert arrays["x"].dtype == array.dtype and arrays["x"].shape == array.shape
    np.testing.assert_array_equal(arrays["x"], array)
    assert arrays["y"] == 1


@pytest.mark.parametrize(
    "value", [np.array(["text"], object), np.array([b"a", None]), [[1], [2, 3]]]
)
def test_what_is_no_array_of_numbers_or_bytes_is_refused(value):
    with pytest.raises((TypeError, ValueError)):
        pack({}, {"x": value})
