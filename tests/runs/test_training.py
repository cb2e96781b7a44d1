"""One training: how it ends, what its examples weigh, which images it sees."""

import math

import keras
import numpy as np
import pytest

from tfkd import data, tasks
from tfkd.runs import DistillSettings
from tfkd.runs.checkpoints import Progress
from tfkd.runs.training import Epochs, balanced_weights, examples
from tfkd.tasks.fitting import check
from tfkd.tasks.labels import SmoothedCrossentropy
from tfkd.tasks.logits import Logits


class Student:
    name = "student"
    stop_training = False

    def get_weights(self):
        return []


score = tasks.get("classification").score


def figures(accuracy, cross_entropy):
    return {"accuracy": accuracy, "cross_entropy": cross_entropy}


def ended(scores, patience=None):
    """Epochs that a training of these (accuracy, cross-entropy) lasts, and the one that is kept."""
    scores, progress = iter(scores), Progress()
    callback = Epochs(Student(), lambda: figures(*next(scores)), score, progress, patience)
    callback.set_model(Student())
    for epoch in range(10):
        if callback.model.stop_training:
            break
        logs = {"loss": 1.0}
        callback.on_epoch_end(epoch, logs)
        assert set(logs) == {"loss", "val_accuracy", "val_cross_entropy"}
    return progress.epochs, progress.best_epoch


def test_early_stopping_waits_so_many_epochs_for_a_better_one():
    scores = [(0.5, 1.0), (0.6, 1.0), (0.6, 1.0), (0.4, 1.0), (0.7, 1.0), *[(0.1, 1.0)] * 5]
    assert ended(scores, patience=1) == (3, 2)
    assert ended(scores, patience=2) == (4, 2)
    assert ended(scores, patience=3) == (8, 5)
    assert ended(scores) == (10, 5)


@pytest.mark.parametrize("broken", ["loss", "cross_entropy"])
def test_a_diverged_training_is_an_error(broken):
    values = {"loss": 1.0, "cross_entropy": 1.0, broken: math.nan}
    callback = Epochs(Student(), lambda: figures(0.1, values["cross_entropy"]), score, Progress())
    with pytest.raises(ValueError, match="student diverged in epoch 3.*learning_rate"):
        callback.on_epoch_end(2, {"loss": values["loss"]})


def test_balanced_classes_weigh_the_same():
    labels = np.array([0, 0, 0, 1, 2, 2])
    weights = balanced_weights(labels, 3)
    np.testing.assert_allclose(weights, [6 / 9, 2.0, 1.0])
    sums = [weights[labels][labels == own].sum() for own in range(3)]
    np.testing.assert_allclose(sums, 2.0)
    assert np.isfinite(balanced_weights(labels, 5)).all()  # a class without examples


@pytest.mark.parametrize("from_logits", [True, False])
def test_smoothed_labels_are_the_mixture_with_all_classes(from_logits):
    logits = np.array([[2.0, -1.0, 0.5], [0.0, 3.0, 1.0]])
    log_p = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    targets = 0.7 * np.eye(3)[[0, 2]] + 0.3 / 3
    expected = -(targets * log_p).sum(axis=1).mean()
    given = logits if from_logits else np.exp(log_p)
    loss = SmoothedCrossentropy(0.3, from_logits)
    assert float(loss(np.array([0, 2]), given)) == pytest.approx(expected, rel=1e-5)


def seen(seed, views, epochs, augment="shift"):
    """{epoch: {index of the example: its image}} as a student of a seed sees them."""
    train = data.load("digits", limit=40).train
    settings = DistillSettings(augment=augment, batch_size=16, seed=5)
    originals = [image.tobytes() for image, _ in train.as_numpy_iterator()]
    batches, result = examples(train, settings, seed, views), []
    order = data.index_batches(40, 16, shuffle=True, seed=seed)
    for _ in range(epochs):
        indices = np.concatenate([own for own, _ in order.as_numpy_iterator()])
        images = np.concatenate([own for own, _ in batches.as_numpy_iterator()])
        result.append(
            {index: image.tobytes() for index, image in zip(indices, images, strict=True)}
        )
    return originals, result


def test_all_seeds_see_the_same_views_in_orders_of_their_own():
    _, first = seen(seed=0, views=2, epochs=4)
    _, second = seen(seed=1, views=2, epochs=4)
    for epoch in range(4):
        assert first[epoch] == second[epoch]
        assert list(first[epoch]) != list(second[epoch])
    assert first[0] == first[2] != first[1] == first[3]  # two views, in turns
    assert list(first[0]) != list(first[2])


def test_without_augmentation_the_images_are_those_of_the_data():
    originals, epochs = seen(seed=0, views=1, epochs=2, augment="none")
    assert epochs[0] == epochs[1] == dict(enumerate(originals))


def outputs(activation, kernel="glorot_uniform"):
    keras.utils.set_random_seed(1)
    image = keras.Input((4,))
    return keras.Model(image, keras.layers.Dense(3, activation, kernel_initializer=kernel)(image))


def test_logits_of_a_model_whether_it_ends_in_them_or_in_a_softmax():
    inputs = np.random.default_rng(0).normal(size=(8, 4)).astype("float32")
    plain, softmax = outputs(None), outputs("softmax")
    assert Logits(plain, inputs).from_logits and not Logits(softmax, inputs).from_logits
    own, other = Logits(plain, inputs)(inputs), Logits(softmax, inputs)(inputs)
    shift = np.asarray(own) - np.asarray(other)  # equal but for one number a row
    np.testing.assert_allclose(shift - shift[:, :1], 0, atol=1e-5)
    assert Logits(outputs(None, "zeros"), inputs).from_logits


def test_a_head_that_moves_its_probabilities_is_read_as_what_it_gives():
    """Clipped, reshaped, or the mean of two: rows that add up to 1 are no logits."""
    keras.utils.set_random_seed(2)
    image = keras.Input((4,))
    softmax = keras.layers.Dense(3, "softmax")(image)
    other = keras.layers.Dense(3, "softmax")(image)
    inputs = np.random.default_rng(0).normal(size=(8, 4)).astype("float32")
    for output in (
        keras.layers.Reshape((3,))(softmax),
        keras.ops.clip(softmax, 0.0, 1.0),
        keras.layers.Average()([softmax, other]),
    ):
        model = keras.Model(image, output)
        logits = Logits(model, inputs)
        assert not logits.from_logits
        np.testing.assert_allclose(np.exp(logits(inputs)), model(inputs), rtol=1e-5)


@pytest.mark.parametrize("after", [None, "reshape", "clip"])
def test_independent_probabilities_are_refused(after):
    image = keras.Input((8, 8, 1))
    output = keras.layers.Dense(10, "sigmoid")(keras.layers.Flatten()(image))
    if after == "reshape":
        output = keras.layers.Reshape((10,))(output)
    if after == "clip":
        output = keras.ops.clip(output, 0.0, 1.0)
    info = data.load("digits", limit=40).info
    with pytest.raises(ValueError, match='teacher "t" ends in independent probabilities'):
        check("teacher", keras.Model(image, output), "t", info)
