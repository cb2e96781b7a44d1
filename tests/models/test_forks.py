"""Copies with inner maps laid open, and the parts that outputs need, of models within models."""

import keras
import numpy as np
import pytest
from keras import layers, ops

from tfkd import models, taps

IMAGES = np.random.default_rng(0).integers(0, 256, (5, 16, 16, 3)).astype("float32")


def innermost():
    image = keras.Input((16, 16, 4))
    x = layers.Conv2D(5, 3, 2, "same", name="convolution")(image)
    x = layers.BatchNormalization(name="norm")(x)
    return keras.Model(image, layers.MaxPooling2D(name="pool")(x), name="innermost")


def nested_model(ending=()):
    """Two models deep, with an operation of keras.ops between, and random BatchNorm statistics."""
    image = keras.Input((16, 16, 3))
    x = layers.Conv2D(4, 3, padding="same", name="stem")(image)
    inner = keras.Model(image, innermost()(x), name="inner")
    pixels = keras.Input((16, 16, 3), name="image")
    x = inner(ops.flip(pixels, axis=-1))
    x = layers.Conv2D(6, 3, name="outside")(x)
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    x = layers.Dense(3, name="logits")(x)
    for layer in ending:
        x = layer(x)
    model = keras.Model(pixels, x, name="net")
    norm = taps.find_layer(model, "inner/innermost/norm")
    norm.set_weights([np.linspace(0.5, 2, 5) + shift for shift in range(4)])
    return model


PATHS = ["inner/stem", "inner/innermost/norm", "inner/innermost/pool", "outside"]


@pytest.fixture(scope="module")
def backbone():
    keras.utils.set_random_seed(1)
    return nested_model()


@pytest.fixture(scope="module")
def student(backbone):
    keras.utils.set_random_seed(2)
    return models.with_exits(backbone, at=PATHS[::-1], features=4)


def identities(model):
    return {id(variable) for variable in model.variables}


def test_a_copy_gives_the_models_own_logits_and_shares_no_variable(backbone, student):
    np.testing.assert_array_equal(student(IMAGES)["output"], backbone(IMAGES))
    assert not identities(backbone) & identities(student)
    assert taps.layer_paths(backbone)[1:] == [
        path for path in taps.layer_paths(student) if path in taps.layer_paths(backbone)[1:]
    ]


def test_forks_stand_where_they_were_asked_for_from_shallow_to_deep(backbone, student):
    # The pooled features of an exit without its bottleneck: read both models' maps by their taps.
    theirs = taps.Taps(backbone, PATHS)(IMAGES, training=False)[1]
    ours = taps.Taps(student, PATHS)(IMAGES, training=False)[1]
    for number, path in enumerate(PATHS, start=1):
        np.testing.assert_array_equal(ours[path], theirs[path])
        first = student.get_layer(f"exit_{number}_block1_1_dw")
        map_of_exit = keras.Model(student.input, first.input)(IMAGES)
        np.testing.assert_array_equal(map_of_exit, theirs[path])


def test_the_trunk_is_the_model_that_was_there(backbone, student):
    trunk = models.trunk(student)
    np.testing.assert_array_equal(trunk(IMAGES), student(IMAGES)["output"])
    assert taps.layer_paths(trunk) == taps.layer_paths(backbone)
    assert len(trunk.get_layer("inner").outputs) == 1
    assert identities(trunk) < identities(student)
    assert models.stages(trunk) == models.stages(backbone)
    # Layers stay connected to the input: ordinary surgery goes on working.
    pooled = keras.Model(trunk.input, trunk.get_layer("pool").output)
    assert pooled(IMAGES).shape == (5, 6)
    again = models.with_branches(trunk, at="inner/innermost/pool", branches=1)
    np.testing.assert_array_equal(again(IMAGES)["output"], backbone(IMAGES))


def test_a_single_exit_holds_nothing_deeper(student):
    exit_2 = models.single_exit(student, "exit_2")
    np.testing.assert_array_equal(exit_2(IMAGES), student(IMAGES)["exit_2"])
    paths = taps.layer_paths(exit_2)
    assert "inner/innermost/norm" in paths
    assert not {"inner/innermost/pool", "outside", "logits", "exit_1", "exit_3"} & set(paths)


def test_trunk_bit_for_bit_after_training_and_loading(backbone, tmp_path):
    model = models.with_exits(backbone, at="inner/innermost/norm")
    model.compile("sgd", loss={name: "mse" for name in models.exit_names(model)})
    targets = {name: np.ones((5, 3)) for name in models.exit_names(model)}
    model.fit(IMAGES / 255, targets, verbose=0)
    assert not np.allclose(model.get_layer("logits").bias, backbone.get_layer("logits").bias)
    expected = model.predict(IMAGES, verbose=0)["output"]
    np.testing.assert_array_equal(models.trunk(model).predict(IMAGES, verbose=0), expected)
    model.save(tmp_path / "student.keras")
    trunk = models.trunk(keras.models.load_model(tmp_path / "student.keras"))
    assert len(trunk.variables) == len(backbone.variables)
    trunk.save(tmp_path / "trunk.keras")
    loaded = keras.models.load_model(tmp_path / "trunk.keras")
    np.testing.assert_array_equal(loaded.predict(IMAGES, verbose=0), expected)


def test_frozen_layers_stay_frozen(backbone):
    frozen = nested_model()
    frozen.get_layer("inner").trainable = False
    student = models.with_exits(frozen, at="inner/stem")
    assert not student.get_layer("inner").trainable_variables
    assert not models.trunk(student).get_layer("inner").trainable_variables
    assert len(models.trunk(student).trainable_variables) == 4  # outside and logits
    assert backbone.get_layer("inner").trainable_variables


def test_a_layer_that_is_called_twice_cannot_be_forked_but_stays_shared():
    image = keras.Input((8, 8, 2))
    twice = layers.Conv2D(2, 3, padding="same", name="twice")
    x = layers.MaxPooling2D(name="pool")(twice(twice(image)))
    model = keras.Model(image, layers.Dense(2)(layers.Flatten()(x)))
    with pytest.raises(ValueError, match='"twice" .* is called several times'):
        models.with_exits(model, at="twice")
    student = models.with_exits(model, at="pool")
    assert len(models.trunk(student).variables) == 4


def test_a_dict_of_one_output_and_a_sequential_model_are_backbones_too():
    keras.utils.set_random_seed(3)
    sequence = keras.Sequential(
        [keras.Input((16, 16, 3)), layers.Conv2D(2, 3, name="map"), layers.Flatten()]
        + [layers.Dense(2, name="logits")]
    )
    image = keras.Input((16, 16, 3))
    model = keras.Model(image, {"classes": sequence(image)})
    for backbone, at in [(model, "sequential/map"), (sequence, "map")]:
        at = at.replace("sequential", sequence.name)
        student = models.with_exits(backbone, at=at)
        expected = sequence(IMAGES)
        np.testing.assert_array_equal(student(IMAGES)["output"], expected)
        np.testing.assert_array_equal(models.trunk(student)(IMAGES), expected)


@pytest.mark.parametrize(
    "ending",
    [
        [layers.Softmax],
        [lambda: layers.Activation("softmax")],
        [lambda: ops.softmax],
        [lambda: layers.Activation("sigmoid")],
        [lambda: ops.sigmoid],
        [lambda: layers.Dense(3, activation="softmax", name="ending")],
        [lambda: keras.Sequential([keras.Input((3,)), layers.Dense(3, activation="sigmoid")])],
    ],
)
def test_a_final_activation_is_taken_off_the_copy(ending):
    model = nested_model([make() for make in ending])
    student = models.with_exits(model, at="outside")
    images = IMAGES / 255  # small logits: no probability vanishes
    logits, found = student(images)["output"].numpy(), model(images).numpy()
    if np.allclose(found.sum(-1), 1):
        expected = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    else:
        expected = 1 / (1 + np.exp(-logits))
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert found.min() > 1e-4
