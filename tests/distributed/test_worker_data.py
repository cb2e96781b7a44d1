"""What workers make of the arguments of fit, without any other worker."""

import numpy as np
import pytest
import tensorflow as tf

from tfkd import batches, workers

X, Y = np.arange(10.0, dtype="float32")[:, None], np.arange(10)


def test_arrays_become_batches_in_order():
    given = workers.as_datasets(
        {
            "x": X,
            "y": Y,
            "sample_weight": Y / 10,
            "batch_size": 4,
            "shuffle": False,
            "epochs": 3,
            "validation_data": (X[:3], Y[:3]),
        },
        shuffled=True,
    )
    assert set(given) == {"x", "epochs", "validation_data"}
    x, y, weights = next(iter(given["x"].skip(1)))
    np.testing.assert_array_equal(x, X[4:8])
    np.testing.assert_array_equal(y, Y[4:8])
    np.testing.assert_allclose(weights, Y[4:8] / 10)
    (validation,) = given["validation_data"]
    np.testing.assert_array_equal(validation[1], Y[:3])


def test_a_dataset_stays_what_it_is():
    data = tf.data.Dataset.from_tensor_slices((X, Y)).batch(4)
    assert workers.as_datasets({"x": data}, shuffled=True)["x"] is data


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"x": X, "y": Y}, "fit would shuffle these arrays"),
        ({"x": X, "y": Y, "shuffle": False, "validation_split": 0.2}, "Give validation_data"),
        ({"x": X, "sample_weight": Y, "shuffle": False}, "sample_weight was given without labels"),
        ({"x": iter([X]), "shuffle": False}, "the data must be arrays or a tf.data.Dataset"),
    ],
    ids=["shuffled", "split", "weights alone", "generator"],
)
def test_what_is_not_the_same_in_every_worker_is_refused(given, message):
    with pytest.raises(ValueError, match=message):
        workers.as_datasets(given, shuffled=True)


def test_classes_weigh_plain_data_too():
    data = tf.data.Dataset.from_tensor_slices((X[:3], Y[:3]))
    (batch,) = batches.class_weighted(data.batch(3), {0: 2.0, 2: 0.5})
    np.testing.assert_array_equal(batch[2], [2.0, 1.0, 0.5])
    weighed = tf.data.Dataset.from_tensor_slices((X[:3], Y[:3], [1.0, 3.0, 4.0]))
    (batch,) = batches.class_weighted(weighed.batch(3), {0: 2.0, 2: 0.5})
    np.testing.assert_array_equal(batch[2], [2.0, 3.0, 2.0])
