"""Weights and temperatures that move with the epoch, without a retrace."""

import math

import keras
import numpy as np
import pytest
from keras import layers

import tfkd
from tfkd.losses import FeatureDistillation, LogitsDistillation
from tfkd.schedules import Schedule, cosine, linear, ramp_up, warm_up


def distiller():
    def net(width):
        image = keras.Input((6,))
        return keras.Model(image, layers.Dense(3)(layers.Dense(width, name="hidden")(image)))

    losses = [LogitsDistillation(4.0), FeatureDistillation("mse", "hidden", "hidden")]
    made = tfkd.Distiller(net(5), net(4), losses)
    made.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return made


def data():
    random = np.random.default_rng(0)
    return random.normal(size=(8, 6)).astype("float32"), random.integers(0, 3, 8)


class Kept(keras.callbacks.Callback):
    """Keeps what the step was given in each epoch."""

    def __init__(self):
        super().__init__()
        self.values = []

    def on_epoch_begin(self, epoch, logs=None):
        made = self.model
        temperature = made.distillation_losses[0].temperature
        self.values.append(
            (made.student_loss_weight, made.distillation_loss_weights[1], temperature)
        )


def test_the_curves_are_their_formulas():
    assert [linear(1.0, 0.0, 5)(e) for e in range(7)] == [1, 0.75, 0.5, 0.25, 0, 0, 0]
    assert [warm_up(2.0, 4)(e) for e in range(6)] == [0.5, 1, 1.5, 2, 2, 2]
    for epoch in range(5):
        wanted = 0.2 + 0.4 * (1 + math.cos(math.pi * epoch / 4))
        assert cosine(1.0, 0.2, 5)(epoch) == pytest.approx(wanted)
    assert cosine(1.0, 0.2, 5)(9) == pytest.approx(0.2)
    assert linear(1.0, 0.0, 1)(0) == 0.0
    wanted = [2 * math.exp(-5), 2 * math.exp(-1.25), 2, 2]
    assert [ramp_up(2.0, 4)(e) for e in (0, 2, 4, 9)] == pytest.approx(wanted)
    with pytest.raises(ValueError, match="at least one epoch"):
        ramp_up(1.0, 0)
    with pytest.raises(ValueError, match="at least one epoch"):
        warm_up(1.0, 0)


def test_each_epoch_trains_with_its_own_values_and_one_trace(traces):
    made, kept = distiller(), Kept()
    schedules = [
        Schedule("student_loss_weight", linear(0.0, 1.0, 3)),
        Schedule("feature_distillation", warm_up(1.0, 2)),
        Schedule("logits_distillation.temperature", lambda epoch: 8.0 / (epoch + 1)),
    ]
    history = made.fit(*data(), epochs=3, batch_size=8, verbose=0, callbacks=[*schedules, kept])
    assert kept.values == [(0.0, 0.5, 8.0), (0.5, 1.0, 4.0), (1.0, 1.0, 8.0 / 3)]
    logs = history.history
    for epoch, (share, hint, _) in enumerate(kept.values):
        parts = logs["logits_distillation"][epoch] + hint * logs["feature_distillation"][epoch]
        total = share * logs["student_loss"][epoch] + (1 - share) * parts
        assert logs["total_loss"][epoch] == pytest.approx(total, rel=1e-5)
    assert len(traces) == 1


def test_a_training_that_goes_on_goes_on_with_the_epoch():
    made, kept = distiller(), Kept()
    schedule = Schedule("student_loss_weight", linear(0.0, 1.0, 5))
    made.fit(*data(), epochs=4, initial_epoch=2, verbose=0, callbacks=[schedule, kept])
    assert [value[0] for value in kept.values] == [0.5, 0.75]


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("no_such_loss", warm_up(1.0, 2), r"no 'no_such_loss' to schedule.*logits_distillation"),
        ("feature_distillation.temperature", warm_up(1.0, 2), "has no temperature"),
        ("student_loss_weight", lambda epoch: 1.5, "between 0.0 and 1.0"),
    ],
)
def test_what_cannot_be_scheduled_is_said_before_a_step(name, value, message):
    made = distiller()
    before = made.student.get_weights()
    with pytest.raises(ValueError, match=message):
        made.fit(*data(), verbose=0, callbacks=[Schedule(name, value)])
    for kept, now in zip(before, made.student.get_weights(), strict=True):
        np.testing.assert_array_equal(kept, now)


def test_a_value_is_a_function():
    with pytest.raises(ValueError, match="must be a function of the epoch"):
        Schedule("student_loss_weight", 0.5)


def test_independent_weights_are_the_papers_convention():
    for share in (0.1, 1.7):
        teacher, student = distiller().teacher, distiller().student
        made = tfkd.Distiller(
            teacher,
            student,
            LogitsDistillation(4.0),
            distillation_loss_weights=[0.9],
            student_loss_weight=share,
            independent_weights=True,
        )
        made.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        logs = made.evaluate(*data(), verbose=0, return_dict=True)
        wanted = share * logs["student_loss"] + 0.9 * logs["logits_distillation"]
        assert logs["total_loss"] == pytest.approx(wanted, rel=1e-5)
        again = tfkd.Distiller.from_config(made.get_config())
        assert (again.independent_weights, again.student_loss_weight) == (True, share)
    with pytest.raises(ValueError, match="between 0.0 and 1.0"):
        distiller().student_loss_weight = 1.7
    with pytest.raises(ValueError, match="the total loss would be 0"):
        tfkd.Distiller(teacher, student, LogitsDistillation(), [0.0], 0)
