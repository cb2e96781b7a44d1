"""What every model promises: shapes, tap names, pixels in, logits out, clear errors."""

import inspect
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfkd import models
from tfkd.models import blocks

FAMILIES = ("modified_alexnet", "alexnet", "resnet")
STAGES = {"modified_alexnet": 4, "alexnet": 4, "resnet": 3}
SMALL = {"width": 0.125}  # widths and depths do not matter here, seconds do


def built(name, shape, classes, **options):
    depth = {"depth": 8} if name == "resnet" else {}
    return models.build(name, shape, classes, **SMALL, **depth, **options)


def pixels(shape, count=4, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, *shape), dtype=np.uint8)


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("shape", [(8, 8, 1), (28, 28, 1), (32, 32, 3), (64, 64, 3), (224, 224, 3)])
def test_families_keep_a_map_of_four_pixels_or_more_at_every_size(name, shape):
    model = built(name, shape, 7)
    assert model.name == name
    assert model.input.name == "image" and model.input.shape == (None, *shape)
    assert model.layers[-1].name == "logits" and model.output.shape == (None, 7)
    taps = models.stages(model)
    assert taps == [f"stage{number}_out" for number in range(1, STAGES[name] + 1)]
    sides = [model.get_layer(tap).output.shape[1] for tap in taps]
    assert min(sides) >= 4 and sides == sorted(sides, reverse=True)
    assert max(sides) <= 64  # large images are reduced by the stem


@pytest.mark.parametrize("name", FAMILIES)
def test_non_square_images_and_a_binary_head(name):
    model = built(name, (24, 40, 4), 1)
    assert model(pixels((24, 40, 4))).shape == (4, 1)


@pytest.mark.parametrize(
    ("name", "options"),
    [*((name, {}) for name in FAMILIES), ("modified_alexnet", {"head": "fc"})],
)
def test_saved_file_loads_without_tfkd_to_the_same_logits(name, options, tmp_path):
    model = built(name, (8, 8, 1), 5, **options)
    images = pixels((8, 8, 1))
    before = model(images)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras", custom_objects={})
    np.testing.assert_array_equal(loaded(images), before)
    assert all(type(layer).__module__.startswith("keras.") for layer in loaded.layers)
    assert models.stages(loaded) == models.stages(model)


@pytest.mark.parametrize("name", FAMILIES)
def test_gradients_reach_every_trainable_weight(name):
    model = built(name, (16, 16, 3), 5)
    with tf.GradientTape() as tape:
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)(
            np.arange(4), model(pixels((16, 16, 3)), training=True)
        )
    gradients = tape.gradient(loss, model.trainable_variables)
    dead = [
        variable.path
        for variable, gradient in zip(model.trainable_variables, gradients, strict=True)
        if gradient is None or not np.any(gradient)
    ]
    assert dead == []


@pytest.mark.parametrize("name", FAMILIES)
def test_the_seed_alone_decides_the_weights(name):
    def weights(seed):
        keras.utils.set_random_seed(seed)
        return built(name, (8, 8, 1), 3).get_weights()

    first, again, other = weights(1), weights(1), weights(2)
    assert all(np.array_equal(one, two) for one, two in zip(first, again, strict=True))
    assert not np.array_equal(first[0], other[0])


@pytest.mark.parametrize("name", FAMILIES)
def test_pixels_of_any_dtype_give_the_same_logits(name):
    model = built(name, (8, 8, 3), 3)
    images = pixels((8, 8, 3))
    as_float = model(images.astype("float32"))
    np.testing.assert_array_equal(model(images), as_float)
    np.testing.assert_array_equal(model(images.astype("int64")), as_float)


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision_keeps_pixels_and_logits_in_float32(name, policy):
    keras.config.set_dtype_policy(policy)
    model = built(name, (8, 8, 3), 3)
    assert model.get_layer("normalise").compute_dtype == "float32"
    assert model.get_layer("stage2_out").compute_dtype == policy.removeprefix("mixed_")
    assert model(pixels((8, 8, 3))).dtype == "float32"


@pytest.mark.parametrize("name", FAMILIES)
def test_no_convolution_before_batch_norm_has_a_bias(name):
    model = built(name, (32, 32, 3), 3)
    convolutions = [layer for layer in model.layers if "Conv2D" in type(layer).__name__]
    norms = [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]
    assert len(convolutions) == len(norms)
    assert not any(layer.use_bias for layer in convolutions)
    assert {layer.momentum for layer in norms} == {0.9}


def test_a_strided_projection_takes_every_second_pixel_and_is_no_strided_convolution():
    """oneDNN 3 writes out of bounds in the backward pass of a strided 1x1 convolution."""
    model = models.build("resnet", (32, 32, 3), 5, depth=8, width=0.25)
    convolutions = [own for own in model.layers if isinstance(own, keras.layers.Conv2D)]
    assert all(own.strides == (1, 1) for own in convolutions if own.kernel_size == (1, 1))
    for side in (7, 8):
        image = keras.Input((side, side, 3))
        made = blocks.convolution(image, 4, 1, stride=2, momentum=0.9, name="a")
        pixels_of = keras.Model(image, made)
        strided = keras.layers.Conv2D(4, 1, 2, "same", use_bias=False)
        strided.build((None, side, side, 3))
        strided.set_weights(pixels_of.get_layer("a_conv").get_weights())
        given = pixels((side, side, 3)).astype("float32")
        inner = keras.Model(image, pixels_of.get_layer("a_conv").output)
        np.testing.assert_array_equal(inner(given), strided(given))


def test_names_are_the_families_and_all_of_keras_applications():
    functions = [
        name
        for name in dir(keras.applications)
        if inspect.isfunction(getattr(keras.applications, name))
    ]
    others = ["streamlined_teacher", "streamlined_student", "vit", "oblique_tree"]
    assert models.names() == [*FAMILIES, *others, *sorted(functions)]


def test_names_and_their_check_do_not_import_tensorflow():
    code = (
        "import sys, tfkd.models; tfkd.models.names(); tfkd.models.check_name('VGG16');"
        "sys.exit('tensorflow' in sys.modules or 'keras' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("arguments", "options", "error", "message"),
    [
        (("mobilenetv2", (32, 32, 3), 5), {}, ValueError, 'Did you mean "MobileNetV2"'),
        (("resnett", (32, 32, 3), 5), {}, ValueError, 'Did you mean "resnet"'),
        (("zzz", (32, 32, 3), 5), {}, ValueError, r"Known models: modified_alexnet, .*VGG16"),
        (("resnet", (32, 32), 5), {}, ValueError, r"2 dimensions\. Expected \(height, width"),
        (("resnet", (None, 32, 32, 3), 5), {}, ValueError, r"Leave the batch dimension out"),
        (("resnet", 32, 5), {}, ValueError, r"input_shape is 32\. Expected"),
        (("resnet", (None, None, 3), 5), {}, ValueError, r"other than whole numbers"),
        (("resnet", (7, 32, 3), 5), {}, ValueError, r"too small.* 8 pixels or more"),
        (("resnet", (32, 32, 0), 5), {}, ValueError, r"0 channels"),
        (("VGG16", (32, 32, 4), 5), {}, ValueError, r"4 channels. VGG16 takes .* 1 channel"),
        (("resnet", (32, 32, 3), 0), {}, ValueError, r"num_classes is 0\. Expected .* 1 for a"),
        (("resnet", (32, 32, 3), 2.5), {}, ValueError, r"num_classes is 2\.5"),
        (
            ("resnet", (32, 32, 3), 5),
            {"dept": 20},
            TypeError,
            r'mean "depth".* depth, width, batch',
        ),
        (
            ("VGG16", (32, 32, 3), 5),
            {"alpha": 1},
            TypeError,
            r"Its options: weights, batch_norm_mom",
        ),
        (("resnet", (32, 32, 3), 5), {"depth": 18}, ValueError, r"depth is 18.* 14 or 20"),
        (("resnet", (32, 32, 3), 5), {"depth": 2}, ValueError, r"depth is 2.* is 8\."),
        (("resnet", (32, 32, 3), 5), {"width": 0}, ValueError, r"width is 0\. Expected a positive"),
        (("alexnet", (32, 32, 3), 5), {"head": "big"}, ValueError, r'"gap" .* or "fc"'),
        (
            ("alexnet", (32, 32, 3), 5),
            {"batch_norm_momentum": 1.0},
            ValueError,
            r"batch_norm_momentum is 1\.0\. Expected a number from 0 to below 1",
        ),
    ],
)
def test_bad_input_is_named_with_the_way_out(arguments, options, error, message):
    with pytest.raises(error, match=message):
        models.build(*arguments, **options)
