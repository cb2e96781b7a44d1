"""A loss says in one line what it is: the call that makes it."""

import every_loss
import keras
import pytest
import tensorflow as tf

import tfkd
from tfkd import losses

NAMESPACE = {**vars(losses), **vars(keras.losses)}


@pytest.mark.parametrize("name", every_loss.NAMES)
def test_what_it_says_makes_the_same_loss(name):
    loss = every_loss.made()[name]
    said = repr(loss)
    assert said.startswith(f"{name}(") and "\n" not in said and len(said) < 240
    again = eval(said, dict(NAMESPACE))  # noqa: S307
    assert type(again) is type(loss)
    assert strings(again.get_config()) == strings(loss.get_config())


def strings(config):
    """A configuration without Keras's numbering of objects."""
    return {name: str(value) for name, value in config.items()}


@pytest.mark.parametrize(
    ("loss", "said"),
    [
        (losses.LogitsDistillation(4), "LogitsDistillation(temperature=4.0)"),
        (losses.LogitsDistillation(), "LogitsDistillation(temperature=3.0)"),
        (
            losses.LogitsDistillation(2, standardize=True, name="sharp"),
            "LogitsDistillation(temperature=2.0, name='sharp', standardize=True)",
        ),
        (
            losses.FeatureDistillation(keras.losses.MeanAbsoluteError(), "a/b", "c"),
            "FeatureDistillation(loss=MeanAbsoluteError(), teacher_layer_name='a/b', "
            "student_layer_name='c', blur=0.0)",
        ),
        (
            losses.FeatureDistillation(["mse", None]),
            "FeatureDistillation(loss=['mse', None], blur=0.0)",
        ),
        (
            losses.SelfDistillation(losses.LogitsDistillation(1, "mse", None, "output", "exit")),
            "SelfDistillation(loss=LogitsDistillation(temperature=1.0, loss='mse', "
            "teacher_layer_name='output', student_layer_name='exit'), "
            "name='self_logits_distillation')",
        ),
    ],
    ids=["number", "default", "named", "loss", "outputs", "inner"],
)
def test_word_for_word(loss, said):
    assert repr(loss) == said


def test_a_subclass_that_keeps_an_argument_elsewhere_still_has_a_name():
    class Own(losses.DistillationLoss):
        def __init__(self, margin, name=None):
            super().__init__(name=name)
            self.kept = margin

        def call(self, teacher, student):
            return tf.zeros(tf.shape(student)[:1])

    assert repr(Own(0.5)) == "Own()"


def test_a_layer_is_shown_by_its_name_and_is_not_saved_without_its_path():
    layer = keras.layers.Dense(2, name="deep")
    loss = losses.FeatureDistillation("mse", layer, layer)
    assert '<layer "deep">' in repr(loss) and loss.parts() == {}
    with pytest.raises(ValueError, match="its path is known once a Distiller is made"):
        loss.get_config()


def test_a_distiller_says_what_it_trains():
    def net(name):
        image = keras.Input((4,))
        return keras.Model(image, keras.layers.Dense(3)(image), name=name)

    made = tfkd.Distiller(
        net("big"), net("small"), [losses.LogitsDistillation(2)], [0.5], student_loss_weight=0.25
    )
    assert repr(made) == (
        "Distiller(teacher=big, student=small, student_loss_weight=0.25, "
        "losses=[0.5 * LogitsDistillation(temperature=2.0)])"
    )
    stored = tfkd.Distiller(None, net("small"), losses.LogitsDistillation(2))
    assert repr(stored).startswith("Distiller(teacher=None, student=small, ")
