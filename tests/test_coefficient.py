"""Numbers that a compiled step reads anew at every run."""

import numpy as np
import pytest
import tensorflow as tf

from tfkd.coefficient import Coefficient, Coefficients


class Owner:
    """Has a coefficient of each range."""

    share = Coefficient(maximum=1.0)
    weight = Coefficient()
    scale = Coefficient(positive=True)
    limited = Coefficient(maximum=lambda own: own.limit)
    limit = 2.0


def test_what_was_set_is_what_is_read_back():
    own, other = Owner(), Owner()
    own.share = 0.1
    other.share = 0.7
    assert own.share == 0.1  # to the last digit of a Python float
    own.share = np.float32(0.25)
    assert (own.share, type(own.share)) == (0.25, float)
    assert Owner.share.tensor(own).dtype == tf.float32
    assert float(Owner.share.tensor(own)) == 0.25
    assert other.share == 0.7
    with pytest.raises(AttributeError, match="Owner has no scale"):
        print(own.scale)


def test_a_compiled_step_reads_the_new_value():
    own, traces = Owner(), []
    own.weight = 0.5

    @tf.function
    def step(x):
        traces.append(1)
        return Owner.weight.tensor(own) * x

    results = []
    for value in (0.5, 0.25, 3.0):
        own.weight = value
        results.append(float(step(tf.constant(2.0))))
    assert (results, len(traces)) == ([1.0, 0.5, 6.0], 1)


@pytest.mark.parametrize(
    ("name", "good", "bad", "message"),
    [
        ("weight", [0, 1e9], [-1e-9, float("nan"), float("inf")], "at least 0.0"),
        ("share", [0, 0.5, 1], [-0.1, 1.1, float("nan")], "between 0.0 and 1.0"),
        ("scale", [1e-9], [0, -1, float("inf")], "greater than 0.0"),
        ("limited", [0, 2], [2.1], "between 0.0 and 2.0"),
    ],
)
def test_ranges(name, good, bad, message):
    own = Owner()
    for value in good:
        setattr(own, name, value)
        assert getattr(own, name) == value
    for value in bad:
        with pytest.raises(ValueError, match=f"{name} must be {message}"):
            setattr(own, name, value)
    assert getattr(own, name) == good[-1]


@pytest.mark.parametrize("value", [None, "warm", [1.0, 2.0], {}])
def test_what_is_no_number_is_refused(value):
    own = Owner()
    own.weight = 1.0
    with pytest.raises(ValueError, match="weight must be a number"):
        own.weight = value
    assert own.weight == 1.0


def test_a_list_of_coefficients_behaves_like_a_list_of_numbers():
    weights = Coefficients([1.0, 0.5, 2.0], "weights")
    assert weights == [1.0, 0.5, 2.0]
    assert (len(weights), weights[-1], weights[1:]) == (3, 2.0, [0.5, 2.0])
    assert (repr(weights), 0.5 in weights, weights.index(2.0)) == ("[1.0, 0.5, 2.0]", True, 2)
    weights[0] = 3
    weights[1:] = np.array([4, 5])
    assert weights == [3.0, 4.0, 5.0]
    assert list(map(float, weights.tensors())) == [3.0, 4.0, 5.0]
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
