"""keras.applications by name: preprocessing as Keras's, taps by path, clear refusals."""

import urllib.error

import keras
import numpy as np
import pytest

from tfkd import models
from tfkd.models import applications

ORIGIN = {
    "MobileNetV2": keras.applications.mobilenet_v2,
    "VGG16": keras.applications.vgg16,
    "ResNet50": keras.applications.resnet,
    "ResNet50V2": keras.applications.resnet_v2,
    "DenseNet121": keras.applications.densenet,
    "NASNetMobile": keras.applications.nasnet,
    "InceptionV3": keras.applications.inception_v3,
    "InceptionResNetV2": keras.applications.inception_resnet_v2,
    "Xception": keras.applications.xception,
    "MobileNet": keras.applications.mobilenet,
    "MobileNetV3Small": keras.applications.mobilenet_v3,
    "EfficientNetB0": keras.applications.efficientnet,
    "EfficientNetV2B0": keras.applications.efficientnet_v2,
    "ConvNeXtTiny": keras.applications.convnext,
}


@pytest.mark.parametrize("name", ORIGIN)
def test_preprocessing_equals_the_networks_own(name):
    image = keras.Input((5, 5, 3))
    ours = keras.Model(image, applications._preprocessed(image, name))
    pixels = np.random.default_rng(0).uniform(0, 255, (2, 5, 5, 3)).astype("float32")
    expected = ORIGIN[name].preprocess_input(pixels.astype("float64"))
    np.testing.assert_allclose(ours(pixels), expected, rtol=1e-6, atol=2e-5)
    loaded = keras.Model.from_config(ours.get_config())
    np.testing.assert_array_equal(loaded(pixels), ours(pixels))


def test_preprocessing_names_are_networks():
    listed = [name for members in applications.PREPROCESSING.values() for name in members]
    assert len(set(listed)) == len(listed) and set(listed) <= set(models.names())


@pytest.mark.parametrize(
    ("name", "shape", "options", "taps"),
    [
        (
            "MobileNetV2",
            (32, 32, 3),
            {"alpha": 0.35},
            ["block_1_expand_relu", "block_3_expand_relu", "block_6_expand_relu"]
            + ["block_13_expand_relu"],
        ),
        (
            "VGG16",
            (28, 28, 1),
            {},
            ["block1_conv2", "block2_conv2", "block3_conv3", "block4_conv3", "block5_conv3"],
        ),
    ],
)
def test_small_images_in_logits_out(name, shape, options, taps, tmp_path):
    model = models.build(name, shape, 5, **options)
    images = np.random.default_rng(0).integers(0, 256, (3, *shape), dtype=np.uint8)
    before = model(images)
    assert model.name == name and before.shape == (3, 5) and before.dtype == "float32"
    assert models.stages(model) == [f"backbone/{tap}" for tap in taps]
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded(images), before)
    assert models.stages(loaded) == models.stages(model)


def test_input_of_the_backbone_is_what_keras_would_feed_it():
    model = models.build("VGG16", (28, 40, 1), 5)
    enlarged = model.get_layer("backbone").input.shape
    assert enlarged == (None, 32, 46, 3)  # 32 is VGG's least; 40 * 32 / 28 = 45.7
    images = np.random.default_rng(0).integers(0, 256, (2, 28, 40, 1)).astype("float32")
    fed = keras.Model(model.input, model.get_layer("normalise").output)(images)
    resized = keras.ops.image.resize(images, (32, 46))
    expected = keras.applications.vgg16.preprocess_input(np.repeat(resized, 3, axis=-1))
    np.testing.assert_allclose(fed, expected, rtol=1e-6, atol=5e-5)


def test_batch_norm_momentum_is_ours_unless_left_alone():
    def momenta(**options):
        model = models.build("MobileNet", (32, 32, 3), 5, alpha=0.25, **options)
        norms = keras.layers.BatchNormalization
        layers = model.get_layer("backbone").layers
        return {layer.momentum for layer in layers if isinstance(layer, norms)}

    assert momenta() == {0.9}
    assert momenta(batch_norm_momentum=None) == {0.99}


def test_tap_names_do_not_depend_on_what_was_built_before():
    first = models.build("MobileNetV3Small", (32, 32, 3), 5)
    second = models.build("MobileNetV3Small", (32, 32, 3), 5)
    names = [layer.name for layer in first.get_layer("backbone").layers]
    assert names == [layer.name for layer in second.get_layer("backbone").layers]
    assert len(set(names)) == len(names)


def test_missing_network_is_said_at_once(monkeypatch, tmp_path):
    def refuse(url, *_):
        raise urllib.error.URLError("no network")

    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.setattr("keras.src.utils.file_utils.urlretrieve", refuse)
    monkeypatch.setattr("keras.src.backend.config.keras_home", lambda: str(tmp_path))
    with pytest.raises(ConnectionError, match=r"no network\. Fetch that file .* weights=None"):
        models.build("MobileNetV2", (96, 96, 3), 5, weights="imagenet")


def test_weights_file_is_read_or_refused(tmp_path):
    source = keras.applications.MobileNet(
        include_top=False, weights=None, alpha=0.25, input_shape=(32, 32, 3)
    )
    path = tmp_path / "mobilenet.weights.h5"
    source.save_weights(path)
    model = models.build("MobileNet", (32, 32, 3), 5, weights=path, alpha=0.25)
    restored = model.get_layer("backbone").get_weights()
    assert all(np.array_equal(a, b) for a, b in zip(source.get_weights(), restored, strict=True))
    with pytest.raises(ValueError, match=r"does not fit MobileNet .*include_top=False"):
        models.build("MobileNet", (32, 32, 3), 5, weights=path)
    with pytest.raises(ValueError, match=r"which is no file\. Expected None"):
        models.build("MobileNet", (32, 32, 3), 5, weights=tmp_path / "nowhere.h5")


def test_a_network_may_look_at_smaller_images():
    model = models.build("MobileNet", (64, 64, 3), 4, alpha=0.25, image_size=32)
    assert model.input_shape == (None, 64, 64, 3)
    assert model.get_layer("backbone").input_shape == (None, 32, 32, 3)
    with pytest.raises(ValueError, match="image_size is 4. Expected a whole number of pixels"):
        models.build("MobileNet", (64, 64, 3), 4, image_size=4)
