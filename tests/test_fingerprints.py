"""A hash over weights tells values, types and shapes apart, and nothing else."""

from types import SimpleNamespace

import numpy as np

from tfkd.fingerprints import of_weights


def test_values_dtypes_and_shapes_count():
    def hashed(*weights):
        return of_weights(SimpleNamespace(weights=weights))

    value = np.arange(4, dtype="float32")
    assert hashed(value) == hashed(value.copy()) == hashed(value[::-1][::-1])
    others = [value + 1, value.astype("float16"), value.reshape(2, 2), value[:3]]
    assert len({hashed(value), *map(hashed, others), hashed(value, value), hashed()}) == 7
    one = SimpleNamespace(weights=[value])
    assert of_weights(one, one) == hashed(value, value)
