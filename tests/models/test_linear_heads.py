"""Class maps and reused heads: the same logits, the reference's projector, what is refused."""

import json
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import tfkd
from tfkd import models

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "simkd.json").read_text())


def classifier(shape, classes, dropout=0.0, activation=None, name="net"):
    image = keras.Input(shape)
    x = layers.Activation("linear", name="last_map")(image)
    x = layers.Dropout(dropout)(layers.GlobalAveragePooling2D()(x))
    return keras.Model(image, layers.Dense(classes, activation)(x), name=name)


def array(given):
    return np.reshape(given["values"], given["shape"]).astype("float32")


@pytest.mark.parametrize("activation", [None, "softmax"])
def test_the_mean_of_the_class_maps_is_the_logits(activation):
    model = classifier((5, 4, 6), 3, dropout=0.2, activation=activation)
    x = np.random.default_rng(0).normal(size=(4, 5, 4, 6)).astype("float32")
    again = models.with_class_maps(model)
    wanted = model(x)
    got = again(x) if activation is None else keras.ops.softmax(again(x))
    np.testing.assert_allclose(got, wanted, atol=1e-6)
    maps = keras.Model(again.input, again.get_layer("class_maps").output)(x)
    assert maps.shape == (4, 5, 4, 3)
    assert models.pooled_layer(model) == "last_map"
    assert again.get_layer("class_dropout").rate == 0.2
    assert tfkd.taps.heads_of(again)["output"].kind == "logits"


@pytest.mark.parametrize("case", GOLDEN["cases"], ids=lambda case: case["name"])
def test_the_projector_is_that_of_the_reference(case):
    inputs = {name: array(given) for name, given in case["inputs"].items()}
    extra = {name: array(given) for name, given in case["extra"].items()}
    teacher = classifier(inputs["teacher"].shape[1:], 10, name="teacher")
    teacher.layers[-1].set_weights(
        [extra["teacher_classifier_weight"], extra["teacher_classifier_bias"]]
    )
    student = classifier(inputs["student"].shape[1:], 4, name="student")
    model = models.with_teacher_head(student, teacher, factor=case["hyper"]["factor"])
    for number in (1, 2, 3):
        model.get_layer(f"projector{number}_conv").set_weights([inputs[f"w{number}"]])
        norm = model.get_layer(f"projector{number}_bn")
        norm.gamma.assign(inputs[f"g{number}"])
        norm.beta.assign(inputs[f"b{number}"])
    both = keras.Model(model.input, [model.get_layer("teacher_map").output, model.output])
    x, second = tf.constant(inputs["student"]), model.get_layer("projector2_conv").kernel
    loss = tfkd.losses.FeatureDistillation("mse")
    with tf.GradientTape() as tape:
        tape.watch(x)
        projected, logits = both(x, training=True)
        value = loss(inputs["teacher"], projected)
    np.testing.assert_allclose(value, case["loss"], rtol=1e-5)
    for name, gradient in zip(
        ("student", "w2"), tape.gradient(value, [x, second.value]), strict=True
    ):
        wanted = array(case["grad"][name])
        np.testing.assert_allclose(gradient, wanted, rtol=0, atol=1e-5 * np.abs(wanted).max())
    np.testing.assert_allclose(
        logits, extra["logits_through_teacher_classifier"], rtol=1e-4, atol=1e-5
    )
    frozen = {id(v) for v in model.get_layer("teacher_logits").variables}
    assert not frozen & {id(v) for v in model.trainable_variables}


def test_a_model_without_a_linear_head_is_refused():
    image = keras.Input((4, 4, 3))
    flat = keras.Model(image, layers.Dense(3)(layers.Flatten(name="flat")(image)), name="flat_net")
    good = classifier((4, 4, 3), 3)
    with pytest.raises(ValueError, match=r'"flat_net" does not end in GlobalAveragePooling2D'):
        models.with_teacher_head(good, flat)
    with pytest.raises(ValueError, match=r'its end has "flat" \(Flatten\)'):
        models.with_class_maps(flat)
    with pytest.raises(ValueError, match="factor is 9. Expected a whole number from 1 to 3"):
        models.with_teacher_head(good, good, factor=9)


def test_uneven_maps_are_pooled_in_the_references_bins():
    teacher, student = classifier((4, 4, 8), 3, name="teacher"), classifier((5, 5, 2), 3)
    layer = models.with_teacher_head(student, teacher).get_layer("pool_to_teacher")
    x = np.random.default_rng(0).normal(size=(2, 5, 5, 2)).astype("float32")
    wanted = tfkd.losses.maps.adaptive_average_pool(tf.constant(x), (4, 4))
    np.testing.assert_allclose(layer(x), wanted, atol=1e-6)


def test_heads_at_every_stage():
    model = models.build("resnet", (16, 16, 3), 4, depth=8, width=0.25)
    again = models.with_stage_heads(model, features=24)
    assert models.exit_names(again) == ("stage_1", "stage_2", "stage_3", "output")
    x = np.random.default_rng(0).uniform(0, 255, (2, 16, 16, 3)).astype("float32")
    answers = again(x)
    assert {name: tuple(value.shape) for name, value in answers.items()} == dict.fromkeys(
        answers, (2, 4)
    )
    np.testing.assert_allclose(answers["output"], model(x), atol=1e-6)
    # Blocks after a stage are as many as the stages that follow; all heads are equally wide.
    blocks = [layer.name for layer in again.layers if layer.name.endswith("_dw")]
    assert [sum(f"stage_{n}_" in name for name in blocks) for n in (1, 2, 3)] == [2, 1, 0]
    assert {again.get_layer(f"stage_{n}_features").output.shape[-1] for n in (1, 2, 3)} == {24}
    assert models.trunk(again).count_params() == model.count_params()


def test_heads_of_a_transformers_stages():
    image = keras.Input((8, 8, 3))
    x = layers.Reshape((16, 6))(layers.Conv2D(6, 2, 2)(image))
    x = layers.Dense(6, name="block1")(x)
    x = layers.Dense(6, name="block2")(x)
    model = keras.Model(image, layers.Dense(4)(layers.GlobalAveragePooling1D()(x)))
    again = models.with_stage_heads(model, ["block1", "block2"])
    assert [v.shape for v in again.output.values()] == [(None, 4)] * 3
    with pytest.raises(ValueError, match="Name the layers that get heads: at="):
        models.with_stage_heads(keras.Sequential([keras.Input((4,)), layers.Dense(3)]))
