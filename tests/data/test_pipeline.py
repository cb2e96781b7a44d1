"""Batches: what is in them, in which order, the same twice and in another process."""

import forked
import numpy as np
import pytest
import tensorflow as tf

from tfkd.data import augmentation, batches, index_batches, view_seed
from tfkd.data.pipeline import Source, for_fit, from_arrays, from_source

IMAGES = np.random.RandomState(0).randint(0, 256, (50, 8, 8, 1)).astype(np.uint8)
LABELS = np.arange(50)


def in_memory():
    return from_arrays(IMAGES, LABELS)


def foreign():
    return tf.data.Dataset.from_tensor_slices((IMAGES, LABELS))


def fetched():
    return from_source(
        Source(50, lambda indices: (tf.gather(IMAGES, indices), tf.gather(LABELS, indices)))
    )


def one_by_one():
    """Made one at a time; every seventh only together with its batch."""

    def gather(indices):
        return tf.gather(IMAGES, indices), tf.gather(LABELS, indices)

    def one(index):
        with tf.control_dependencies([tf.debugging.Assert(index % 7 != 6, ["not alone"])]):
            return tf.gather(IMAGES, index), tf.gather(LABELS, index)

    return from_source(Source(50, gather, one))


def epoch_of(dataset):
    elements = list(dataset.as_numpy_iterator())
    return np.concatenate([images for images, _ in elements]), np.concatenate(
        [labels for _, labels in elements]
    )


@pytest.mark.parametrize("source", [in_memory, foreign, fetched, one_by_one])
def test_unshuffled_batches_are_the_examples_in_order(source):
    dataset = batches(source(), 16)
    assert int(dataset.cardinality()) == len(dataset) == 4
    assert [len(labels) for _, labels in dataset] == [16, 16, 16, 2]
    assert dataset.element_spec[0].dtype == tf.uint8
    assert dataset.element_spec[0].shape.as_list() == [None, 8, 8, 1]
    images, labels = epoch_of(dataset)
    np.testing.assert_array_equal(images, IMAGES)
    np.testing.assert_array_equal(labels, LABELS)


@pytest.mark.parametrize("source", [in_memory, foreign, fetched, one_by_one])
def test_each_epoch_has_its_own_order_and_a_new_pipeline_repeats_them(source):
    first, second = (batches(source(), 16, shuffle=True, seed=3) for _ in range(2))
    orders = [epoch_of(first)[1] for _ in range(3)]
    for order in orders:
        assert sorted(order) == list(range(50))
    assert not np.array_equal(orders[0], orders[1])
    assert not np.array_equal(orders[1], orders[2])
    for order in orders:
        images, labels = epoch_of(second)
        np.testing.assert_array_equal(labels, order)
        np.testing.assert_array_equal(images, IMAGES[order])
    assert not np.array_equal(epoch_of(batches(source(), 16, shuffle=True, seed=4))[1], orders[0])


@pytest.mark.parametrize("source", [in_memory, foreign, fetched])
@pytest.mark.parametrize("shuffle", [False, True])
def test_augmentation_is_replayed_from_example_and_epoch(source, shuffle):
    augment = augmentation("crop_flip")
    dataset = batches(source(), 16, shuffle=shuffle, augment=augment, seed=3)
    for epoch in range(2):
        images, labels = epoch_of(dataset)
        expected = augment(IMAGES, view_seed(np.arange(50), epoch, 3)).numpy()
        np.testing.assert_array_equal(images, expected[labels])


@pytest.mark.parametrize("source", [in_memory, fetched])
def test_order_does_not_depend_on_the_global_seed(source):
    orders = []
    for global_seed in (1, 2):
        tf.random.set_seed(global_seed)
        orders.append(epoch_of(batches(source(), 16, shuffle=True, seed=3))[1])
    np.testing.assert_array_equal(*orders)


def test_order_is_the_same_in_another_process(tmp_path):
    script = (
        "from tfkd.data import index_batches\n"
        "d = index_batches(20, 20, shuffle=True, seed=3)\n"
        "print([next(iter(d))[0].numpy().tolist() for _ in range(2)])"
    )
    output = forked.output_of(script, tmp_path)
    here = index_batches(20, 20, shuffle=True, seed=3)
    assert output.strip() == str([next(iter(here))[0].numpy().tolist() for _ in range(2)])


def test_index_batches_counts_epochs():
    dataset = index_batches(5, 2)
    for epoch in range(3):
        elements = [(indices.tolist(), number) for indices, number in dataset.as_numpy_iterator()]
        assert elements == [([0, 1], epoch), ([2, 3], epoch), ([4], epoch)]


@pytest.mark.parametrize("source", [in_memory, foreign, fetched])
def test_reading_on_gives_the_epochs_of_reading_anew(source):
    options = {"shuffle": True, "augment": augmentation("crop_flip"), "seed": 3}
    anew = batches(source(), 16, **options)
    arguments = for_fit(batches(source(), 16, **options), batches(source(), 20))
    assert arguments["steps_per_epoch"] == 4 and arguments["validation_steps"] == 3
    read = list(arguments["x"].take(8).as_numpy_iterator())
    for epoch in (read[:4], read[4:]):
        images, labels = epoch_of(anew)
        np.testing.assert_array_equal(np.concatenate([part for part, _ in epoch]), images)
        np.testing.assert_array_equal(np.concatenate([part for _, part in epoch]), labels)
    read = list(arguments["validation_data"].take(6).as_numpy_iterator())
    for epoch in (read[:3], read[3:]):
        np.testing.assert_array_equal(np.concatenate([part for part, _ in epoch]), IMAGES)


@pytest.mark.parametrize("source", [in_memory, foreign, fetched])
def test_no_tuner_delays_the_next_epoch(source):
    # tf.data's tuner holds its iterator back when it ends: epochs of a second became two.
    dataset = batches(source(), 16, shuffle=True).map(lambda images, labels: images)
    assert dataset.options().autotune.enabled is False


def test_a_mapped_dataset_is_read_as_mapped():
    mapped = in_memory().map(lambda image, label: (image, label + 100)).take(10)
    assert sorted(epoch_of(batches(mapped, 4, shuffle=True))[1]) == list(range(100, 110))


def test_a_distribution_strategy_reads_the_same_batches():
    strategy = tf.distribute.MirroredStrategy(["CPU:0"])
    dataset = strategy.experimental_distribute_dataset(
        batches(in_memory(), 16, shuffle=True, seed=3)
    )
    plain = batches(in_memory(), 16, shuffle=True, seed=3)
    for _ in range(2):
        distributed = np.concatenate([labels.numpy() for _, labels in dataset])
        np.testing.assert_array_equal(distributed, epoch_of(plain)[1])


def test_bad_input():
    with pytest.raises(ValueError, match="at least 1; given 0"):
        batches(in_memory(), 0)
    with pytest.raises(ValueError, match=r"unbatched images .* pass dataset.unbatch\(\)"):
        batches(foreign().batch(4), 4)
    with pytest.raises(ValueError, match=r"\(image, label\) pairs"):
        batches(foreign().map(lambda image, label: image), 4)
    with pytest.raises(TypeError, match="given 'crop'"):
        batches(in_memory(), 4, augment="crop")
