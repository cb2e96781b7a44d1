"""A training that is stopped within an epoch goes on behind the batches that were done."""

import keras
import numpy as np
import pytest

import tfkd
from tfkd import data, fingerprints
from tfkd.runs import DistillSettings
from tfkd.runs.checkpoints import Checkpoint, variables
from tfkd.runs.team import Alone
from tfkd.runs.training import examples, train

STEPS = 5  # of an epoch: 72 examples in batches of 16
EPOCHS = 3


class Stopped(Exception):
    """Stands for a kill."""


class StopAfter(keras.callbacks.Callback):
    """Stops a training behind so many batches, counted over the epochs; sees batches go by."""

    def __init__(self, batches):
        super().__init__()
        self.left, self.seen = batches, []

    def on_train_batch_end(self, batch, logs=None):
        self.seen.append((batch, bool(logs)))
        self.left -= 1
        if self.left == 0:
            raise Stopped


def network(units, seed):
    keras.utils.set_random_seed(seed)
    image = keras.Input((8, 8, 1))
    x = keras.layers.Dense(units, "relu")(keras.layers.Flatten()(image))
    x = keras.layers.BatchNormalization()(keras.layers.Dropout(0.2)(x))
    return keras.Model(image, keras.layers.Dense(10)(x), name=f"net{units}")


@pytest.fixture(scope="module")
def splits():
    return data.load("digits", limit=72)


@pytest.fixture
def trained(splits, monkeypatch, tmp_path):
    """Function that trains a distiller, perhaps stopped: gives (weights, progress, batches seen).

    The default loss follows the share of the training that is done.
    """

    def run(stop_after=0, minutes=1e-9):
        stopping = StopAfter(stop_after)
        monkeypatch.setattr("tfkd.runs.training.callbacks_of", lambda settings: [stopping])
        settings = DistillSettings(batch_size=16, epochs=EPOCHS, learning_rate=0.01)
        student = network(6, seed=1)
        model = tfkd.Distiller(network(12, seed=0), student)
        checkpoint = Checkpoint(tmp_path / "training.npz", fingerprints.of_weights(model))
        progress = train(
            *(model, student, lambda context: examples(splits.train, settings, 3, EPOCHS)),
            *(splits, settings, EPOCHS, 3, checkpoint, Alone(minutes)),
            weights=0.5,
            classes=None,
        )
        return [keras.ops.convert_to_numpy(v) for v in variables(model)], progress, stopping.seen

    return run


def test_what_follows_is_what_would_have_followed(trained, tmp_path, capsys):
    expected, undisturbed, _ = trained()
    (tmp_path / "training.npz").unlink()
    with pytest.raises(Stopped):
        trained(stop_after=STEPS + 3)
    with np.load(tmp_path / "training.npz") as stored:  # stopped before the third was kept
        assert '"epochs": 1, "steps": 2' in str(stored["state"])
    capsys.readouterr()
    weights, progress, seen = trained()
    assert "Going on from the last checkpoint: epoch 2, batch 3 of 5." in capsys.readouterr().out
    # Callbacks see all batches of the epoch; the first two are passed over, without figures.
    assert [batch for batch, _ in seen] == [*range(STEPS)] * 2
    assert [told for _, told in seen] == [False] * 2 + [True] * 8
    for own, other in zip(weights, expected, strict=True):
        np.testing.assert_array_equal(own, other)
    assert progress.history == undisturbed.history
    assert (progress.epochs, progress.steps) == (EPOCHS, 0)
    assert progress.best_epoch == undisturbed.best_epoch


def test_within_an_epoch_nothing_is_written_before_its_time(trained, tmp_path):
    with pytest.raises(Stopped):
        trained(stop_after=STEPS - 1, minutes=10)
    assert not (tmp_path / "training.npz").exists()
