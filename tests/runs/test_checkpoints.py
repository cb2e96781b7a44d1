"""A checkpoint holds everything that a training needs to go on as if nothing had happened."""

import keras
import numpy as np
import pytest

from tfkd.runs.checkpoints import Checkpoint, Progress, variables


def network(seed=0):
    keras.utils.set_random_seed(seed)
    model = keras.Sequential(
        [
            keras.Input((4,)),
            keras.layers.Dense(6),
            keras.layers.BatchNormalization(),
            keras.layers.Dropout(0.5),
            keras.layers.GaussianNoise(0.1),
            keras.layers.Dense(3),
        ]
    )
    rate = keras.optimizers.schedules.CosineDecay(0.1, 40)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(rate), loss)
    model.optimizer.build(model.trainable_variables)
    return model


def train(model, steps):
    generator = np.random.default_rng(1)
    x, y = generator.normal(size=(12, 8, 4)), generator.integers(0, 3, (12, 8))
    for step in range(*steps):
        model.train_on_batch(x[step], y[step])


@pytest.fixture
def path(tmp_path):
    return tmp_path / "training.npz"


def test_what_follows_is_what_would_have_followed(path):
    whole = network()
    train(whole, (0, 12))
    half = network()
    train(half, (0, 5))
    Checkpoint(path, "start").save(half, Progress())
    other = network(seed=7)  # whatever was built and run in between
    train(other, (0, 3))
    Checkpoint(path, "start").restore(other)
    train(other, (5, 12))
    for own, expected in zip(variables(other), variables(whole), strict=True):
        np.testing.assert_array_equal(own, expected)


def test_the_states_of_random_layers_are_in_it():
    model = network()
    states = [
        layer.seed_generator.state for layer in model.layers if hasattr(layer, "seed_generator")
    ]
    assert len(states) == 2
    assert all(any(own is state for own in variables(model)) for state in states)
    weights = {id(v) for v in variables(model)}
    assert {id(v) for v in [*model.weights, *model.optimizer.variables]} <= weights


def test_progress_comes_back(path):
    model, progress = network(), Progress()
    for accuracy, loss in ((0.5, 1.0), (0.75, 0.5), (0.75, 0.25), (0.6, 0.1)):
        train(model, (0, 1))
        progress.add({"loss": loss}, (accuracy, -loss), model)
    progress.seconds = 2.5
    assert (progress.epochs, progress.best_epoch) == (4, 3)
    Checkpoint(path, "start").save(model, progress)
    found = Checkpoint(path, "start").restore(network())
    assert found.history == {"loss": [1.0, 0.5, 0.25, 0.1]}
    assert (found.epochs, found.best_epoch, found.best_score) == (4, 3, (0.75, -0.25))
    assert found.seconds == 2.5
    for own, expected in zip(found.best_weights, progress.best_weights, strict=True):
        np.testing.assert_array_equal(own, expected)


def test_best_accuracy_then_lower_cross_entropy_then_the_earlier_epoch():
    class Student:
        def get_weights(self):
            return []

    def kept(*scores):
        progress = Progress()
        for accuracy, cross_entropy in scores:
            progress.add({}, (accuracy, -cross_entropy), Student())
        return progress.best_epoch

    assert kept((0.5, 1.0), (0.9, 0.5), (0.8, 0.1)) == 2
    assert kept((0.9, 0.5), (0.9, 0.4), (0.9, 0.6)) == 2
    assert kept((0.9, 0.4), (0.9, 0.4)) == 1


@pytest.mark.parametrize(
    "case", ["none", "emptied", "truncated", "text", "start", "shapes", "pickle"]
)
def test_a_checkpoint_that_cannot_be_used_is_not_used(path, case):
    model = network()
    train(model, (0, 1))
    if case != "none":
        progress = Progress()
        progress.add({"loss": 1.0}, (0.5, -1.0), model)
        Checkpoint(path, "start").save(model, progress)
    content = path.read_bytes() if path.exists() else b""
    if case in ("emptied", "truncated", "text"):
        damaged = {"emptied": b"", "truncated": content[: len(content) // 2], "text": b"PK or not"}
        path.write_bytes(damaged[case])
    if case == "pickle":  # a file from elsewhere: never unpickled
        np.savez(path, state=np.array({"epochs": 1}, dtype=object))
    fresh = network(seed=3)
    if case == "shapes":
        fresh = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
        fresh.compile("adam", "mse")
        fresh.optimizer.build(fresh.trainable_variables)
    before = [keras.ops.convert_to_numpy(v) for v in variables(fresh)]
    found = Checkpoint(path, "other" if case == "start" else "start").restore(fresh)
    assert found == Progress()
    for own, expected in zip(variables(fresh), before, strict=True):
        np.testing.assert_array_equal(own, expected)


def test_writing_takes_a_small_share_of_the_time(path, monkeypatch):
    clock = {"now": 0.0}
    monkeypatch.setattr("tfkd.runs.checkpoints.time.monotonic", lambda: clock["now"])
    monkeypatch.setattr(
        "tfkd.runs.checkpoints.np.savez", lambda *a, **k: clock.update(now=clock["now"] + 1.0)
    )
    model, checkpoint = network(), Checkpoint(path, "start")
    checkpoint.save(model, Progress())
    assert clock["now"] == 1.0  # the first is always written
    for now, written in ((10.0, False), (20.9, False), (21.1, True)):
        clock["now"] = now
        checkpoint.save(model, Progress())
        assert (clock["now"] > now) == written
