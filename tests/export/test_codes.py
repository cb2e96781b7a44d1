"""Hash codes as they are served, bit by bit."""

import numpy as np
import pytest
import tensorflow as tf

from tfkd.export.codes import answers, require_consistent
from tfkd.export.errors import ExportCheckError


def test_bits_by_hand():
    numbers = tf.constant([[0.5, -1, 0, 2, -3, -4, 1e-9, 7, 1, -1]])
    found = answers(numbers)
    np.testing.assert_array_equal(found["codes"], [[1, -1, -1, 1, -1, -1, 1, 1, 1, -1]])
    # 1001 0011, and 10 with zeros behind it.
    np.testing.assert_array_equal(found["packed"], [[0x93, 0x80]])
    np.testing.assert_array_equal(found["values"], numbers)
    require_consistent({name: own.numpy() for name, own in found.items()}, "here")


def test_of_no_image():
    found = answers(tf.zeros((0, 12)))
    assert {name: tuple(own.shape) for name, own in found.items()} == {
        **{"values": (0, 12), "codes": (0, 12), "packed": (0, 2)},
    }


@pytest.mark.parametrize("name", ["codes", "packed"])
def test_a_wrong_bit_is_found(name):
    found = {key: own.numpy() for key, own in answers(tf.ones((2, 8))).items()}
    found[name][1, 0] ^= 2
    with pytest.raises(ExportCheckError, match=f'"{name}" of here does not follow'):
        require_consistent(found, "here")
