"""TensorBoard's logs of a run say what its history says."""

from types import SimpleNamespace

import pytest
import tensorflow as tf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tfkd.runs import tensorboard


def test_every_training_has_its_curves(finished):
    out, record = finished
    for part, own in record["trainings"].items():
        log = EventAccumulator(str(out / "tensorboard" / part))
        log.Reload()
        names = log.Tags()["tensors"]
        assert {"loss", "val_accuracy", "val_cross_entropy"} <= set(names)
        values = [
            float(tf.make_ndarray(event.tensor_proto)) for event in log.Tensors("val_accuracy")
        ]
        assert len(values) == own["epochs"]
        assert values[own["epoch"] - 1] == pytest.approx(own["figures"]["accuracy"], rel=1e-6)
        assert [event.step for event in log.Tensors("loss")] == list(range(1, len(values) + 1))


def test_they_are_written_where_that_is_wanted_or_possible(monkeypatch):
    asked, unasked = SimpleNamespace(tensorboard=False), SimpleNamespace(tensorboard=None)
    assert not tensorboard.wanted(asked) and tensorboard.wanted(unasked)
    monkeypatch.setattr(tensorboard.importlib.util, "find_spec", lambda name: None)
    assert not tensorboard.wanted(unasked)
