"""A Distiller follows the training, and has losses of its own where it is told none."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfkd
from tfkd import defaults
from tfkd.progress import Follow

random = np.random.default_rng(0)
X, Y = random.normal(size=(12, 4)).astype("float32"), random.integers(0, 3, 12)


class Seen(keras.callbacks.Callback):
    """The progress after each batch, as the next step will read it."""

    def __init__(self):
        super().__init__()
        self.shares = []

    def on_train_batch_end(self, batch, logs=None):
        self.shares.append(float(self.model.progress_tensor()))


def dense(units=3):
    return keras.Sequential([keras.Input((4,)), keras.layers.Dense(units)])


@pytest.fixture(scope="module")
def distiller():
    distiller = tfkd.Distiller(dense(), dense())
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    distiller.compile("sgd", loss)
    return distiller


def shares(distiller, *data, **settings):
    seen = Seen()
    distiller.fit(*data, batch_size=4, verbose=0, callbacks=[seen], **settings)
    assert distiller.progress == 1.0
    return seen.shares


def test_without_losses_it_takes_the_defaults(distiller):
    assert distiller.student_loss_weight == defaults.STUDENT_LOSS_WEIGHT
    (loss,) = distiller.distillation_losses
    assert type(loss) is tfkd.losses.AnnealedDistillation
    assert (loss.softness, loss.final_softness) == (defaults.SOFTNESS, defaults.FINAL_SOFTNESS)


def test_with_losses_the_labels_have_half():
    distiller = tfkd.Distiller(dense(), dense(), tfkd.losses.LogitsDistillation())
    assert distiller.student_loss_weight == 0.5


def test_every_output_has_a_loss_of_its_own():
    def model():
        x = keras.Input((4,))
        return keras.Model(x, {n: keras.layers.Dense(3, name=n)(x) for n in ("left", "right")})

    distiller = tfkd.Distiller(model(), model())
    names = [(own.name, own.student_layer_name) for own in distiller.distillation_losses]
    assert names == [("left_distillation", "left"), ("right_distillation", "right")]


def test_each_step_moves_it_and_each_fit_begins_anew(distiller):
    sixths = [1 / 6, 2 / 6, 3 / 6, 4 / 6, 5 / 6, 1]
    for _ in range(2):
        assert shares(distiller, X, Y, epochs=2) == pytest.approx(sixths, abs=1e-6)


def test_a_training_goes_on_where_it_was(distiller):
    later = shares(distiller, X, Y, epochs=3, initial_epoch=2)
    assert later == pytest.approx([7 / 9, 8 / 9, 1], abs=1e-6)


def test_unknown_steps_count_from_the_second_epoch(distiller):
    parts = tf.data.Dataset.from_tensor_slices((X, Y)).batch(4)
    unknown = parts.filter(lambda x, y: True)
    seen = Seen()
    distiller.fit(unknown, epochs=2, verbose=0, callbacks=[seen])
    assert seen.shares == pytest.approx([0, 0, 0, 4 / 6, 5 / 6, 1], abs=1e-6)


def test_a_part_of_a_training_knows_the_whole(distiller):
    seen = Seen()
    distiller.fit(X, Y, batch_size=4, epochs=1, verbose=0, callbacks=[Follow(4), seen])
    assert seen.shares == pytest.approx([1 / 12, 2 / 12, 3 / 12], abs=1e-6)


def test_a_loop_of_ones_own_assigns_it(distiller):
    distiller.progress = 0.25
    assert float(distiller.progress_tensor()) == 0.25
    with pytest.raises(ValueError, match="progress must be between"):
        distiller.progress = 1.5


def test_the_loss_reads_it(distiller):
    teacher, student = distiller.teacher(X), distiller.student(X)
    (loss,) = distiller.distillation_losses
    expected, found = [], []
    for progress in (0.0, 1.0):
        distiller.progress = progress
        expected.append(float(loss(teacher, student, heads=None, progress=progress)))
        distiller.student_loss_weight = 0.0
        found.append(float(distiller.compute_loss(X, Y)))
    distiller.student_loss_weight = defaults.STUDENT_LOSS_WEIGHT
    assert found == pytest.approx(expected, rel=1e-5)
    assert expected[0] != pytest.approx(expected[1], rel=0.05)
