"""Saving and going on, and what a tuner restores: C11 and C12."""

import json

import h5py
import keras
import numpy as np
import pytest
import tensorflow as tf
from small_networks import (
    assert_equal_weights,
    distiller,
    images,
    network,
    weights_of,
)

import tfkd

# C11: saving and going on.


def test_saved_distiller_continues_like_an_uninterrupted_one(tmp_path):
    x, y = images(32)
    data = tf.data.Dataset.from_tensor_slices((x, y)).batch(8)
    keras.utils.set_random_seed(5)
    made = distiller(optimizer="adam")
    made.fit(data, epochs=2, verbose=0)
    made.distillation_loss_weights = [1.0, 0.25]
    made.distillation_losses[0].temperature = 5.0
    made.save(tmp_path / "distiller.keras")
    made.fit(data, epochs=2, verbose=0)
    loaded = keras.models.load_model(tmp_path / "distiller.keras")
    assert loaded.distillation_loss_weights == [1.0, 0.25]
    assert loaded.distillation_losses[0].temperature == 5.0
    loaded.fit(data, epochs=2, verbose=0)
    assert_equal_weights(weights_of(made.student), weights_of(loaded.student), tolerance=1e-6)
    assert_equal_weights(weights_of(made.adapters), weights_of(loaded.adapters), tolerance=1e-6)
    assert_equal_weights(weights_of(made.teacher), weights_of(loaded.teacher))


def test_weights_files_hold_no_teacher(tmp_path):
    made = distiller(teacher=network(50, "teacher"))
    made.save_weights(tmp_path / "distiller.weights.h5")
    sizes = []
    with h5py.File(tmp_path / "distiller.weights.h5") as file:
        file.visititems(
            lambda name, item: (
                sizes.append(item.size)
                if isinstance(item, h5py.Dataset) and "optimizer" not in name
                else None
            )
        )
    expected = sum(int(np.prod(w.shape)) for w in [*made.student.weights, *made.adapters.weights])
    assert sum(sizes) <= expected + 16  # seeds of random layers besides
    fresh = distiller(teacher=made.teacher)
    fresh.load_weights(tmp_path / "distiller.weights.h5")
    assert_equal_weights(weights_of(made.student), weights_of(fresh.student))


def test_an_unfitted_distiller_is_saved_loaded_and_exported(tmp_path):
    made = distiller()
    x, _ = images(3)
    made.save(tmp_path / "distiller.keras")
    loaded = keras.models.load_model(tmp_path / "distiller.keras")
    np.testing.assert_array_equal(made.predict(x, verbose=0), loaded.predict(x, verbose=0))
    made.export(tmp_path / "export", verbose=False)
    restored = tf.saved_model.load(tmp_path / "export")
    exported = sum(int(np.prod(v.shape)) for v in restored.variables)
    assert exported == made.student.count_params()


def test_config_round_trip():
    made = distiller(distillation_loss_weights=[0.7, 0.3], student_loss_weight=0.1)
    config = json.loads(json.dumps(made.get_config()))
    again = tfkd.Distiller.from_config(config)
    assert json.dumps(again.get_config()) == json.dumps(made.get_config())
    assert again.distillation_loss_weights == [0.7, 0.3]
    assert again.student_loss_weight == 0.1


def test_training_resumes_from_a_backup(tmp_path):
    """Keras's BackupAndRestore finds everything that it needs in the weights."""
    x, y = images(16)

    class Stop(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            if epoch == 1:
                raise KeyboardInterrupt

    data = tf.data.Dataset.from_tensor_slices((x, y)).batch(8)
    trained = []
    for interrupted in (False, True):
        keras.utils.set_random_seed(5)
        made = distiller(optimizer="adam")
        backup = keras.callbacks.BackupAndRestore(tmp_path / f"backup{interrupted}")
        if interrupted:
            with pytest.raises(KeyboardInterrupt):
                made.fit(data, epochs=4, verbose=0, callbacks=[backup, Stop()])
            keras.utils.set_random_seed(5)
            made = distiller(optimizer="adam")
        made.fit(data, epochs=4, verbose=0, callbacks=[backup])
        trained.append(weights_of(made.student))
    assert_equal_weights(*trained, tolerance=1e-6)


# C12: what a tuner needs.


def test_a_built_distiller_restores_weights_before_any_fit(tmp_path):
    made = distiller(run_eagerly=True)  # one step takes less time than its trace
    made.fit(*images(8), verbose=0)
    made.save_weights(tmp_path / "trial.weights.h5")
    again = distiller()
    again.load_weights(tmp_path / "trial.weights.h5")
    assert_equal_weights(weights_of(made.student), weights_of(again.student))
