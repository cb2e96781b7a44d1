"""Keras's distillation losses in tfkd, and tfkd's in keras.distillation."""

import keras
import numpy as np
import pytest

from tfkd.losses import FeatureDistillation, LogitsDistillation, get
from tfkd.losses.foreign import KerasDistillation


def pair(*shape):
    return 3 * np.random.default_rng(4).normal(size=(2, *shape)).astype("float32")


@keras.saving.register_keras_serializable(package="tests")
class Gap(keras.distillation.DistillationLoss):
    """A user's loss in Keras's style: a scalar of the whole batch."""

    def compute_loss(self, teacher_outputs, student_outputs, **kwargs):
        return keras.ops.mean(keras.ops.square(teacher_outputs - student_outputs))

    def get_config(self):
        return {}

    @classmethod
    def from_config(cls, config):
        return cls()


class Louder(keras.distillation.LogitsDistillation):
    """A user's change of Keras's loss."""

    def compute_loss(self, teacher_outputs, student_outputs, **kwargs):
        return keras.ops.convert_to_tensor(7.0)


def test_own_losses_pass_through():
    loss = LogitsDistillation()
    assert get(loss) is loss


def test_keras_s_default_becomes_the_true_divergence():
    teacher, student = pair(5, 4)
    loss = get(keras.distillation.LogitsDistillation())
    assert type(loss) is LogitsDistillation
    assert loss.temperature == 3.0
    p, q = (np.exp(z / 3) / np.exp(z / 3).sum(-1, keepdims=True) for z in (teacher, student))
    wanted = 9 * (p * np.log(p / q)).sum(-1).mean()
    np.testing.assert_allclose(loss(teacher, student), wanted, rtol=1e-5)


@pytest.mark.parametrize(
    "given", ["kl_divergence", keras.losses.KLDivergence(), "categorical_crossentropy", "mse"]
)
def test_keras_s_logits_losses_keep_their_settings(given):
    loss = get(keras.distillation.LogitsDistillation(temperature=7, loss=given))
    assert loss.temperature == 7.0
    wanted = LogitsDistillation(7, given)(*pair(5, 4))
    np.testing.assert_allclose(loss(*pair(5, 4)), wanted, rtol=1e-6)


def test_keras_s_structures_stay_structures():
    loss = get(keras.distillation.LogitsDistillation(loss=["kl_divergence", None, "mse"]))
    assert [term[1:] for term in loss.terms()] == [(0, 0), (2, 2)]
    loss = get(keras.distillation.FeatureDistillation(loss={"a": "mse", "b": None}))
    assert [term[1:] for term in loss.terms()] == [("a", "a")]


def test_keras_s_feature_loss_keeps_its_layers():
    loss = get(keras.distillation.FeatureDistillation("mae", "conv_a", "conv_b"))
    assert type(loss) is FeatureDistillation
    assert loss.terms() == [(loss, "conv_a", "conv_b")]
    teacher, student = pair(5, 4)
    np.testing.assert_allclose(loss(teacher, student), np.abs(teacher - student).mean(), rtol=1e-6)


def test_a_subclass_of_keras_s_loss_keeps_what_it_overrides():
    loss = get(Louder())
    assert float(loss(*pair(5, 4))) == pytest.approx(7.0)


def test_a_users_keras_loss_is_wrapped():
    teacher, student = pair(5, 4)
    loss = get(Gap())
    assert isinstance(loss, KerasDistillation)
    assert loss.name == "gap"
    wanted = ((teacher - student) ** 2).mean()
    np.testing.assert_allclose(loss(teacher, student), wanted, rtol=1e-6)
    weight = np.array([1, 1, 1, 1, 6], "float32")
    np.testing.assert_allclose(loss(teacher, student, weight), 2 * wanted, rtol=1e-6)


def test_a_wrapped_loss_survives_saving():
    loss = get(Gap())
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(loss))
    assert isinstance(again.loss, Gap)
    np.testing.assert_array_equal(again(*pair(5, 4)), loss(*pair(5, 4)))


@pytest.mark.parametrize("given", ["kl_divergence", None, 3, keras.losses.KLDivergence()])
def test_anything_else_is_refused(given):
    with pytest.raises(ValueError, match="Expected a distillation loss"):
        get(given)


def test_own_losses_train_in_keras_s_distiller():
    """A linear student of a linear teacher ends in agreement with it."""
    draw = np.random.default_rng(5)
    x = draw.normal(size=(256, 6)).astype("float32")
    models = []
    for name in ("teacher", "student"):
        image = keras.Input((6,))
        hidden = keras.layers.Dense(4, name="hidden")(image)
        models.append(keras.Model(image, keras.layers.Dense(3)(hidden), name=name))
    teacher, student = models
    teacher.set_weights([2 * draw.normal(size=w.shape) for w in teacher.get_weights()])
    distiller = keras.distillation.Distiller(
        teacher,
        student,
        [
            LogitsDistillation(2.0),
            FeatureDistillation("mse", teacher_layer_name="hidden", student_layer_name="hidden"),
        ],
        student_loss_weight=0.0,
    )
    distiller.compile(keras.optimizers.Adam(0.05), loss="mse")
    y = np.zeros((256, 3), "float32")
    before = distiller.evaluate(x, y, verbose=0, return_dict=True)["distillation_loss"]
    history = distiller.fit(x, y, batch_size=64, epochs=40, verbose=0).history
    assert history["distillation_loss"][-1] < 0.02 * before
    agree = student.predict(x, verbose=0).argmax(-1) == teacher.predict(x, verbose=0).argmax(-1)
    assert agree.mean() > 0.95
