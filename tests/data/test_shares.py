"""What each of several workers gets of every batch."""

import numpy as np
import pytest
import tensorflow as tf

from tfkd.data import augmentation, batches, index_batches, pipeline

SIZE = 23
IMAGES = np.random.default_rng(0).integers(0, 256, (SIZE, 8, 8, 1)).astype("uint8")
OFF = tf.data.experimental.AutoShardPolicy.OFF


def in_memory():
    return pipeline.from_arrays(IMAGES, np.arange(SIZE))


def foreign():
    return tf.data.Dataset.from_tensor_slices((IMAGES, np.arange(SIZE)))


def context(workers, worker, replicas=1):
    return tf.distribute.InputContext(workers, worker, replicas)


def epochs_of(dataset, count=2):
    return [list(dataset.as_numpy_iterator()) for _ in range(count)]


@pytest.mark.parametrize("workers, replicas", [(1, 2), (2, 2), (3, 6)])
@pytest.mark.parametrize("source", [in_memory, foreign])
def test_the_workers_together_see_the_epochs_of_one_process(source, workers, replicas):
    options = {"shuffle": True, "augment": augmentation("crop_flip"), "seed": 3}
    one = epochs_of(batches(source(), 8, **options))
    assert [len(labels) for _, labels in one[0]] == [8, 8, 7]
    each = replicas // workers
    own = [
        batches(source(), 8, **options, input_context=context(workers, worker, replicas))
        for worker in range(workers)
    ]
    assert [len(dataset) for dataset in own] == [3 * each] * workers
    assert all(d.options().experimental_distribute.auto_shard_policy is OFF for d in own)
    seen = [epochs_of(dataset) for dataset in own]
    for epoch in range(2):
        for step, expected in enumerate(one[epoch]):
            # In the order in which Keras's predict puts replicas together.
            shares = [seen[w][epoch][step * each + r] for r in range(each) for w in range(workers)]
            rows = [len(labels) for _, labels in shares]
            assert max(rows) - min(rows) <= 1
            for part in range(2):
                joined = np.concatenate([share[part] for share in shares])
                np.testing.assert_array_equal(joined, expected[part])


@pytest.mark.parametrize("source", [in_memory, foreign])
def test_a_remainder_is_dropped_by_all(source):
    assert [len(y) for _, y in batches(source(), 8, drop_remainder=True)] == [8, 8]
    shares = [
        np.concatenate(
            [y for _, y in batches(source(), 8, drop_remainder=True, input_context=context(2, w))]
        )
        for w in range(2)
    ]
    assert sorted(np.concatenate(shares)) == list(range(16))


def test_a_share_without_examples_is_refused():
    with pytest.raises(ValueError, match="last one of 1 out of 23 .* batch_size=21, which leaves"):
        batches(in_memory(), 22, input_context=context(2, 0))
    with pytest.raises(ValueError, match="23 examples, fewer than the 4 .* drop_remainder=True"):
        batches(foreign(), 5, input_context=context(4, 0))
    with pytest.raises(ValueError, match="Give a batch size of at least 4"):
        index_batches(23, 2, input_context=context(4, 3))
    with pytest.raises(ValueError, match="leaves no batch of 24 out of 23"):
        batches(in_memory(), 24, drop_remainder=True)
    with pytest.raises(ValueError, match="worker 2 of 2 with 2 replicas"):
        batches(in_memory(), 8, input_context=context(2, 2))
    assert len(batches(in_memory(), 22, drop_remainder=True, input_context=context(2, 0))) == 1
