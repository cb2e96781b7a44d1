import keras
import pytest
from keras import layers

from tfkd.evaluation import multiply_adds


def test_each_kind_of_layer_by_its_closed_form():
    image = keras.Input((8, 6, 4))
    dense = layers.Conv2D(10, 3, 2, "same", use_bias=False)(image)  # 4x3 positions
    grouped = layers.Conv2D(10, (1, 3), groups=2, padding="same")(dense)
    depthwise = layers.DepthwiseConv2D(3, padding="same", depth_multiplier=2)(grouped)
    inner = keras.Sequential([keras.Input((4, 3, 20)), layers.BatchNormalization(), layers.ReLU()])
    x = layers.Flatten()(inner(depthwise))
    model = keras.Model(image, {"a": layers.Dense(7)(x), "b": layers.Dense(2)(x)})
    assert multiply_adds(model) == (
        12 * 10 * 9 * 4 + 12 * 10 * 3 * 5 + 12 * 20 * 9 + 240 * 7 + 240 * 2
    )


def test_attention_counts_both_of_its_products():
    sequence = keras.Input((5, 8))
    attention = layers.MultiHeadAttention(num_heads=2, key_dim=3)
    model = keras.Model(sequence, attention(sequence, sequence))
    projections = 3 * 5 * 8 * 6 + 5 * 6 * 8
    assert multiply_adds(model) == projections + 2 * (2 * 5 * 5 * 3)


def test_an_open_size_has_to_be_given():
    image = keras.Input((None, None, 3))
    model = keras.Model(image, layers.Conv2D(2, 1)(image), name="open")
    with pytest.raises(ValueError, match='model "open" is open.*give image_shape'):
        multiply_adds(model)
    assert multiply_adds(model, (4, 5, 3)) == 4 * 5 * 2 * 3
