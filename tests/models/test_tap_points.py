"""Stage ends of models that tfkd did not build."""

import keras
from keras import layers

from tfkd import models


def convolutional(name="net"):
    return keras.Sequential(
        [
            keras.Input((32, 32, 3)),
            layers.Rescaling(1 / 255, name="pixels"),
            layers.Conv2D(4, 3, name="a"),  # 30: unpadded, no new resolution
            layers.ReLU(name="a_relu"),
            layers.ZeroPadding2D(name="pad"),
            layers.Conv2D(4, 3, strides=2, name="b"),  # 15
            layers.MaxPooling2D(name="pool"),  # 7
            layers.Conv2D(4, 3, name="c"),  # 5
            layers.GlobalAveragePooling2D(name="gap"),
            layers.Dense(3, name="logits"),
        ],
        name=name,
    )


def test_last_layer_at_each_resolution():
    assert models.stages(convolutional()) == ["a_relu", "b", "c"]


def test_nested_models_are_named_by_path():
    image = keras.Input((32, 32, 3))
    inner = convolutional("inner")
    outer = keras.Model(image, layers.Dense(2)(inner(image)))
    assert models.stages(outer) == ["inner/a_relu", "inner/b", "inner/c"]


def test_one_pixel_maps_of_squeeze_and_excitation_are_no_stage():
    image = keras.Input((16, 16, 3))
    x = layers.Conv2D(4, 3, padding="same", name="first")(image)
    gate = layers.GlobalAveragePooling2D(keepdims=True, name="squeeze")(x)
    x = layers.Multiply(name="gated")([x, layers.Conv2D(4, 1, name="excite")(gate)])
    x = layers.Conv2D(4, 3, strides=2, name="second")(x)
    assert models.stages(keras.Model(image, x)) == ["gated", "second"]


def test_own_names_come_first_and_in_the_order_of_their_numbers():
    image = x = keras.Input((16, 16, 3))
    for number in (2, 10, 1):
        x = layers.Conv2D(4, 3, name=f"stage{number}_out")(x)
    assert models.stages(keras.Model(image, x)) == ["stage1_out", "stage2_out", "stage10_out"]


def test_nothing_is_said_where_nothing_is_known():
    class Subclassed(keras.Model):
        def __init__(self):
            super().__init__()
            self.convolution = layers.Conv2D(4, 3)

        def call(self, x):
            return self.convolution(x)

    vector = keras.Input((3,))
    assert models.stages(Subclassed()) == []
    assert models.stages(keras.Model(vector, layers.Dense(2)(vector))) == []
    assert models.stages(layers.Dense(2)) == []
    unsized = keras.Input((None, None, 3))
    assert models.stages(keras.Model(unsized, layers.Conv2D(2, 3)(unsized))) == []
