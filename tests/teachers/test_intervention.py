"""The teacher's tokens in the student's sequence: never, always, and where both are far apart."""

import math

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfkd
from tfkd.batches import Batch
from tfkd.models import language_model
from tfkd.teachers import Intervention

SIZE, LENGTH = 9, 6


def network(seed, width):
    keras.utils.set_random_seed(seed)
    model = language_model(SIZE, LENGTH, width=width, depth=1, heads=2, dropout=0.0)
    model.set_weights([3 * weight for weight in model.get_weights()])
    return model


@pytest.fixture(scope="module")
def teacher():
    return network(0, 8)


@pytest.fixture(scope="module")
def batch():
    """Two sequences, the second one padded."""
    text = np.array([[4, 5, 6, 7, 8, 4], [5, 5, 8, 3, 0, 0]])
    return Batch(tf.constant(text[:, :-1], tf.int32), tf.constant(text[:, 1:], tf.int64))


def distiller(source, student):
    made = tfkd.Distiller(source, student, tfkd.losses.LogitsDistillation(1.0))
    made.compile(
        keras.optimizers.SGD(0.1), keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    )
    return made


def rewritten(source, student, batch, progress=0.0):
    made = distiller(source, student)
    return source.rewritten(batch, made._answers, tf.constant(progress))


def forced(teacher, batch):
    """The teacher's tokens everywhere, by hand: labels, and the inputs that follow from them."""
    likeliest = 1 + np.argmax(teacher(batch.x)[..., 1:], axis=-1)  # padding is no token
    labels = np.where(batch.y == 0, 0, likeliest)
    inputs = np.concatenate([batch.x[:, :1], labels[:, :-1]], axis=1)
    return np.where(batch.x == 0, 0, inputs), labels


def test_an_infinite_threshold_is_plain_training(teacher, batch):
    weights = []
    for source in (Intervention(teacher, math.inf), teacher):
        made = distiller(source, network(1, 4))
        made.train_step((batch.x, batch.y))
        weights.append(made.student.get_weights())
    for own, plain in zip(*weights, strict=True):
        np.testing.assert_array_equal(own, plain)


def test_a_threshold_of_zero_is_teacher_forcing_by_the_teachers_tokens(teacher, batch):
    x, y = forced(teacher, batch)
    assert (y != batch.y.numpy()).any() and (x != batch.x.numpy()).any()
    source = Intervention(teacher, 0.0)
    ours, plain = distiller(source, network(1, 4)), distiller(teacher, network(1, 4))
    ours.train_step((batch.x, batch.y))
    assert float(source.metrics[0].result()) == 1.0
    plain.train_step((tf.constant(x, tf.int32), tf.constant(y)))
    for own, other in zip(ours.student.get_weights(), plain.student.get_weights(), strict=True):
        np.testing.assert_allclose(own, other, atol=1e-6)


def test_between_them_the_threshold_falls_and_padding_stays(teacher, batch):
    student = network(1, 4)
    p, q = (tf.nn.log_softmax(model(batch.x)).numpy() for model in (teacher, student))
    apart = (np.exp(p) * (p - q)).sum(axis=-1)
    known = batch.y.numpy() != 0
    middle = float(np.median(apart[known]))
    source = Intervention(teacher, 2 * middle, decay=math.log(2.0))
    for progress, threshold in ((0.0, 2 * middle), (1.0, middle)):
        found = rewritten(source, student, batch, progress)
        chosen = known & (apart >= threshold * (1 - 1e-6))
        expected = np.where(chosen, 1 + np.argmax(p[..., 1:], axis=-1), batch.y)
        np.testing.assert_array_equal(found.y, expected)
        np.testing.assert_array_equal(found.x[0, 1:], found.y[0, :-1])
        np.testing.assert_array_equal(found.x == 0, batch.x == 0)
    assert 0 < chosen.sum() < known.sum()


def test_validation_sees_the_data_as_it_is_and_reports_no_share(teacher, batch):
    made = distiller(Intervention(teacher, 0.0), network(1, 4))
    plain = distiller(teacher, network(1, 4))
    found, expected = (one.test_step((batch.x, batch.y)) for one in (made, plain))
    assert "inserted" not in found
    np.testing.assert_allclose(found["loss"], expected["loss"], rtol=1e-6)


def test_it_is_rebuilt_from_its_configuration(teacher):
    source = Intervention(teacher, math.inf, decay=2.0, tokens="target", padding=1)
    config = source.get_config()
    again = Intervention.from_config(config)
    kept = ("threshold", "decay", "tokens", "padding")
    assert [getattr(again, name) for name in kept] == [math.inf, 2.0, "target", 1]
    assert not source.storable


def test_what_it_cannot_use_is_refused(teacher, batch):
    with pytest.raises(ValueError, match="threshold must be at least 0"):
        Intervention(teacher, -1.0)
    with pytest.raises(ValueError, match="decay must be a number"):
        Intervention(teacher, 1.0, math.inf)
    source = Intervention(teacher)
    with pytest.raises(ValueError, match="next tokens as labels, but the data has none"):
        source.rewritten(batch._replace(y=None), None, 0.0)
    stored = batch._replace(knowledge={"output": teacher(batch.x)})
    with pytest.raises(ValueError, match="brings answers to the sequences as they were"):
        source.rewritten(stored, None, 0.0)
