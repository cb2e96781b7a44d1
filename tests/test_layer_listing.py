"""Every layer of a model by the path at which a loss finds it, with the shape that it gives."""

import keras
import numpy as np
import pytest

from tfkd.layer_listing import layers_of
from tfkd.losses import FeatureDistillation
from tfkd.taps import Taps


@keras.saving.register_keras_serializable("test_layer_listing")
class Own(keras.Model):
    """A subclassed model with a layer that is not called, and one that returns two tensors."""

    def __init__(self):
        super().__init__(name="own")
        self.halves = Halves(name="halves")
        self.head = keras.layers.Dense(3, name="head")
        self.idle = keras.layers.Dropout(0.5, name="idle")

    def call(self, x, training=None):
        first, second = self.halves(x)
        return self.head(first + second)


class Halves(keras.layers.Layer):
    def call(self, x):
        return x[:, :2], x[:, 2:]


def nested():
    inner_image = keras.Input((8, 8, 3), name="pixels")
    inner = keras.Model(
        inner_image, keras.layers.Conv2D(5, 3, name="deep")(inner_image), name="backbone"
    )
    image = keras.Input((8, 8, 3), name="image")
    pooled = keras.layers.GlobalAveragePooling2D(name="pool")(inner(image))
    return keras.Model(image, keras.layers.Dense(3, name="head")(pooled), name="net")


def test_nested_layers_stand_below_their_model_with_the_shapes_that_a_pass_gives():
    model = nested()
    listed = {own.path: own for own in layers_of(model)}
    assert list(listed) == ["image", "backbone", "backbone/pixels", "backbone/deep", "pool", "head"]
    assert listed["image"].reason == "input" and listed["image"].shape is None
    assert listed["backbone"][1:] == ("Functional", (None, 6, 6, 5), 3 * 3 * 3 * 5 + 5, None)
    assert listed["backbone/deep"].shape == (None, 6, 6, 5)
    assert (listed["head"].kind, listed["head"].parameters) == ("Dense", 18)
    tapped = [name for name, own in listed.items() if own.reason is None]
    reader = Taps(model, tapped)
    reader.trace(reader.signature)
    assert {name: reader.shapes[name] for name in tapped} == {
        name: listed[name].shape for name in tapped
    }
    assert FeatureDistillation("mse", tapped[0]).teacher_layer_name == "backbone"


def test_what_cannot_be_tapped_says_why():
    model = Own()
    with pytest.raises(ValueError, match='inputs of "own" are not known'):
        layers_of(model)
    model(np.zeros((2, 4), "float32"))
    reasons = {own.path: own.reason for own in layers_of(model)}
    assert reasons == {"halves": "returns several tensors", "head": None, "idle": "not called"}
