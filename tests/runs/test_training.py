"""Which epoch is kept."""

import math

import pytest

from tfkd.runs.training import BestEpoch


class Trained:
    name = "student"
    weights = 0

    def get_weights(self):
        return [self.weights]


def kept(epochs):
    """The epoch that is kept of (validation accuracy, validation cross-entropy) pairs."""
    trained = Trained()
    best = BestEpoch(trained)
    for epoch, (accuracy, cross_entropy) in enumerate(epochs):
        trained.weights = epoch + 1
        logs = {"loss": 1.0, "val_accuracy": accuracy, "val_cross_entropy": cross_entropy}
        best.on_epoch_end(epoch, logs)
    assert best.weights == [best.epoch]
    return best.epoch


def test_best_accuracy_then_lower_cross_entropy_then_the_earlier_epoch():
    assert kept([(0.5, 1.0), (0.9, 0.5), (0.8, 0.1)]) == 2
    assert kept([(0.9, 0.5), (0.9, 0.4), (0.9, 0.6)]) == 2
    assert kept([(0.9, 0.4), (0.9, 0.4)]) == 1


@pytest.mark.parametrize("broken", ["loss", "val_cross_entropy"])
def test_a_diverged_training_is_an_error(broken):
    logs = {"loss": 1.0, "val_accuracy": 0.1, "val_cross_entropy": 1.0, broken: math.nan}
    with pytest.raises(ValueError, match="student diverged in epoch 3.*learning_rate"):
        BestEpoch(Trained()).on_epoch_end(2, logs)
