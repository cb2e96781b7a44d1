"""Numbers that a compiled step reads anew at every run."""

import numpy as np
import pytest
import tensorflow as tf

from tfkd.coefficients import Coefficient, Coefficients


def test_what_was_set_is_what_is_read_back():
    share = Coefficient(0.1, "share", maximum=1.0)
    assert share.value == 0.1  # to the last digit of a Python float
    share.value = np.float32(0.25)
    assert (share.value, type(share.value)) == (0.25, float)
    assert share.tensor().dtype == tf.float32
    assert float(share.tensor()) == 0.25


def test_a_compiled_step_reads_the_new_value():
    share, traces = Coefficient(0.5, "share"), []

    @tf.function
    def step(x):
        traces.append(1)
        return share.tensor() * x

    results = []
    for value in (0.5, 0.25, 3.0):
        share.value = value
        results.append(float(step(tf.constant(2.0))))
    assert (results, len(traces)) == ([1.0, 0.5, 6.0], 1)


@pytest.mark.parametrize(
    ("settings", "good", "bad", "message"),
    [
        ({}, [0, 1e9], [-1e-9, float("nan"), float("inf")], "at least 0.0"),
        ({"maximum": 1.0}, [0, 0.5, 1], [-0.1, 1.1, float("nan")], "between 0.0 and 1.0"),
        ({"positive": True}, [1e-9], [0, -1, float("inf")], "greater than 0.0"),
    ],
)
def test_ranges(settings, good, bad, message):
    for value in good:
        assert Coefficient(value, "x", **settings).value == value
    for value in bad:
        with pytest.raises(ValueError, match=f"x must be {message}"):
            Coefficient(value, "x", **settings)


@pytest.mark.parametrize("value", [None, "warm", [1.0, 2.0], {}])
def test_what_is_no_number_is_refused(value):
    coefficient = Coefficient(1.0, "x")
    with pytest.raises(ValueError, match="x must be a number"):
        coefficient.value = value
    assert coefficient.value == 1.0


def test_a_list_of_coefficients_behaves_like_a_list_of_numbers():
    weights = Coefficients([1.0, 0.5, 2.0], "weights")
    assert weights == [1.0, 0.5, 2.0]
    assert (len(weights), weights[-1], weights[1:]) == (3, 2.0, [0.5, 2.0])
    assert (repr(weights), 0.5 in weights, weights.index(2.0)) == ("[1.0, 0.5, 2.0]", True, 2)
    weights[0] = 3
    weights[1:] = np.array([4, 5])
    assert weights == [3.0, 4.0, 5.0]
    assert [float(weights.tensor(i)) for i in range(3)] == [3.0, 4.0, 5.0]
    assert weights != 3


def test_its_length_is_fixed():
    weights = Coefficients([1.0, 0.5], "weights")
    with pytest.raises(TypeError, match="set a weight to 0"):
        del weights[0]
    with pytest.raises(TypeError, match="build another Distiller"):
        weights.append(1.0)
    with pytest.raises(ValueError, match="Expected 2 values, got 1"):
        weights[:] = [1.0]


def test_a_bad_value_is_named_and_changes_nothing():
    weights = Coefficients([1.0, 0.5], "weights")
    with pytest.raises(ValueError, match=r"weights\[1\] must be at least 0.0, got -1"):
        weights[:] = [7.0, -1.0]
    assert weights == [1.0, 0.5]
