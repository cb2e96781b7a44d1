"""Convolutions whose training may end the process are seen before it begins."""

import keras
from keras import layers

from tfkd import models
from tfkd.runs.convolutions import finding


def net(channels, strides=2, kernel=1, trainable=True):
    image = keras.Input((8, 8, channels))
    x = layers.Conv2D(4, kernel, strides, name="shortcut", trainable=trainable)(image)
    inner = keras.Model(image, x, name="inner")
    outer = keras.Input((8, 8, channels))
    return keras.Model(outer, layers.GlobalAveragePooling2D()(inner(outer)))


def test_a_strided_projection_of_few_channels_is_named_and_how_to_write_it():
    text = finding(net(8), "The student")
    assert text.startswith("The student has 1x1 convolutions") and "(shortcut)" in text
    assert "TF_ENABLE_ONEDNN_OPTS=0" in text and "MaxPooling2D(1, strides)" in text
    for harmless in (net(16), net(8, strides=1), net(8, kernel=3), net(8, trainable=False)):
        assert finding(harmless, "The student") is None


def test_the_package_s_own_networks_have_none():
    for name, options in (("resnet", {"depth": 8, "width": 0.5}), ("modified_alexnet", {})):
        assert finding(models.build(name, (32, 32, 3), 5, **options), name) is None


def test_without_onednn_there_is_nothing_to_say(monkeypatch):
    monkeypatch.setattr("tfkd._keras.has_onednn", lambda: False)
    assert finding(net(8), "The student") is None
