"""Exits after stages, and what is made of them: names, votes, refusals."""

import keras
import numpy as np
import pytest
from keras import layers

from tfkd import models

IMAGES = np.random.default_rng(0).integers(0, 256, (6, 16, 16, 3)).astype("float32")


@pytest.fixture(scope="module")
def backbone():
    keras.utils.set_random_seed(1)
    return models.build("modified_alexnet", (16, 16, 3), 3, width=0.1)


@pytest.fixture(scope="module")
def student(backbone):
    keras.utils.set_random_seed(2)
    return models.with_exits(backbone)


def test_an_exit_after_every_stage_but_the_last(student, backbone):
    outputs = student(IMAGES)
    assert models.exit_names(student) == ("exit_1", "exit_2", "exit_3", "output")
    assert {name: (tensor.shape, tensor.dtype.name) for name, tensor in outputs.items()} == {
        name: ((6, 3), "float32") for name in models.exit_names(student)
    }
    np.testing.assert_array_equal(outputs["output"], backbone(IMAGES))
    for name in models.exit_names(student)[:-1]:
        # As wide as the last stage: a hint from there needs no adapter.
        assert student.get_layer(f"{name}_features").output.shape == (None, round(25.6))
        assert student.get_layer(name).compute_dtype == "float32"


def stages_of_known_size():
    image = x = keras.Input((16, 16, 3))
    for number, filters in enumerate((4, 8, 16), start=1):
        x = layers.Conv2D(filters, 3, 2, "same", name=f"stage{number}_out")(x)
    x = layers.GlobalAveragePooling2D(name="pooled")(x)
    return keras.Model(image, layers.Dense(3)(x), name="known")


def separable(channels, filters):
    """Depthwise 3x3, 1x1, and BatchNorm's four."""
    return 9 * channels + channels * filters + 4 * filters


def test_an_exits_bottleneck_halves_and_widens_up_to_the_last_stage():
    model = stages_of_known_size()
    student = models.with_exits(model)
    # Stage 1 is 8x8x4, the last 2x2x16: two blocks, 4 -> 8 -> 16. Stage 2 is 4x4x8: one block.
    exit_1 = separable(4, 4) + separable(4, 8) + separable(8, 8) + separable(8, 16)
    exit_2 = separable(8, 8) + separable(8, 16)
    dense = 16 * 3 + 3
    assert student.count_params() - model.count_params() == exit_1 + exit_2 + 2 * dense
    for name, last in [("exit_1", "exit_1_block2_2"), ("exit_2", "exit_2_block1_2")]:
        assert student.get_layer(f"{last}_pw_relu").output.shape == (None, 2, 2, 16)
        assert student.get_layer(f"{name}_features").output.shape == (None, 16)
    narrow = models.with_exits(model, at=["stage2_out", "stage3_out"], features=4)
    exit_2 = separable(16, 4) + separable(4, 4)  # 2x2 already: no stride
    assert narrow.count_params() - model.count_params() == (
        separable(8, 4) + separable(4, 4) + exit_2 + 2 * (4 * 3 + 3)
    )
    assert narrow.get_layer("exit_2_block1_2_pw_relu").output.shape == (None, 2, 2, 4)


def test_exits_of_a_keras_application_by_path():
    model = models.build("MobileNet", (32, 32, 3), 4, alpha=0.25)
    at = ["backbone/conv_pw_5_relu", "backbone/conv_pw_1_relu"]
    student = models.with_exits(model, at, features=8)
    images = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3)).astype("float32")
    np.testing.assert_array_equal(student(images)["output"], model(images))
    # The last stage is 2x2 (1x1 maps are none): from 16x16 three halvings, from 4x4 one.
    halvings = [
        sum(layer.name.startswith(f"exit_{number}_block") for layer in student.layers)
        / 8  # layers a block
        for number in (1, 2)
    ]
    assert halvings == [3, 1]
    first = models.single_exit(student, "exit_1")
    names = [layer.name for layer in first.get_layer("backbone").layers]
    assert "conv_pw_1_relu" == names[-1]


def test_logits_and_votes_are_float32_under_mixed_precision():
    keras.config.set_dtype_policy("mixed_float16")
    student = models.with_exits(stages_of_known_size())
    assert student.get_layer("exit_1_block1_1_dw").compute_dtype == "float16"
    assert student(IMAGES)["exit_1"].dtype == "float32"
    for kind in ("soft", "hard"):
        shares = models.vote(student, kind, of=["exit_1", "exit_2"])(IMAGES)
        assert shares.dtype == "float32"
        np.testing.assert_allclose(np.sum(shares, -1), 1, atol=1e-6)


def test_names_count_numbers_as_numbers():
    vector = keras.Input((2,))
    numbers = (10, 2, 1)
    outputs = {f"exit_{n}": layers.Dense(2, name=f"exit_{n}")(vector) for n in numbers}
    model = keras.Model(vector, {"output": layers.Dense(2)(vector), **outputs})
    assert models.exit_names(model) == ("exit_1", "exit_2", "exit_10", "output")


def voters(exits, classes):
    """A model whose exits' logits are its input's values, one exit after the other."""
    values = keras.Input((exits * classes,))
    rows = layers.Reshape((exits, classes))(values)
    outputs = {f"exit_{n + 1}": rows[:, n] for n in range(exits - 1)}
    return keras.Model(values, {**outputs, "output": rows[:, exits - 1]}, name="voters")


def softmax(logits):
    powers = np.exp(logits - logits.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def test_a_soft_vote_is_the_mean_of_probabilities(tmp_path):
    logits = 3 * np.random.default_rng(1).standard_normal((50, 3, 4))
    vote = models.vote(voters(3, 4), "soft")
    found = vote(logits.reshape(50, 12).astype("float32"))
    np.testing.assert_allclose(found, softmax(logits).mean(axis=1), atol=2e-6)
    two = models.vote(voters(3, 4), "soft", of=["output", "exit_1"])
    found = two(logits.reshape(50, 12).astype("float32"))
    np.testing.assert_allclose(found, softmax(logits)[:, [0, 2]].mean(axis=1), atol=2e-6)
    two.save(tmp_path / "vote.keras")
    loaded = keras.models.load_model(tmp_path / "vote.keras")
    np.testing.assert_array_equal(loaded(logits.reshape(50, 12).astype("float32")), found)


def test_a_hard_vote_is_the_majority_and_mean_probability_breaks_ties():
    logits = np.zeros((3, 3, 3))
    # Two lukewarm votes for class 0 beat a certain one for class 2.
    logits[0] = [[0.1, 0, 0], [0.1, 0, 0], [0, 0, 9]]
    # One vote each: class 1 is the surest.
    logits[1] = [[1, 0, 0], [0, 2, 0], [0, 0, 1]]
    logits[2] = [[5, 0, 0], [5, 0, 0], [5, 0, 0]]
    shares = models.vote(voters(3, 3), "hard")(logits.reshape(3, 9).astype("float32")).numpy()
    assert list(shares.argmax(-1)) == [0, 1, 0]
    np.testing.assert_allclose(shares.sum(-1), 1, atol=1e-6)
    majority = np.array([[2 / 3, 0, 1 / 3], [1 / 3, 1 / 3, 1 / 3], [1, 0, 0]])
    np.testing.assert_allclose(shares, majority, atol=0.01 / 3)


def test_votes_of_one_logit_exits():
    logits = np.array([[2.0, -1.0, -0.5], [-3.0, 1.0, 1.0]])
    positive = 1 / (1 + np.exp(-logits))
    soft = models.vote(voters(3, 1), "soft")(logits.astype("float32"))
    np.testing.assert_allclose(soft, positive.mean(axis=1, keepdims=True), atol=1e-6)
    hard = models.vote(voters(3, 1), "hard")(logits.astype("float32"))
    np.testing.assert_allclose(hard, [[1 / 3], [2 / 3]], atol=0.01 / 3)


def subclassed():
    class Own(keras.Model):
        def call(self, x):
            return x

    return Own()


def flat():
    vector = keras.Input((4,))
    return keras.Model(vector, layers.Dense(2, name="only")(vector), name="flat")


def open_size():
    image = keras.Input((None, None, 3))
    x = layers.Conv2D(2, 3, name="convolution")(image)
    return keras.Model(image, layers.Dense(2)(layers.GlobalMaxPooling2D()(x)))


def mapping():
    image = keras.Input((8, 8, 3))
    return keras.Model(image, layers.Conv2D(2, 1)(image))


@pytest.mark.parametrize(
    ("make", "options", "error", "message"),
    [
        (stages_of_known_size, {"at": "stage2_ou"}, ValueError, 'Did you mean "stage2_out"'),
        (stages_of_known_size, {"at": []}, ValueError, "at is empty"),
        (stages_of_known_size, {"at": ["stage1_out"] * 2}, ValueError, "more than once"),
        (
            stages_of_known_size,
            {"at": "pooled"},
            ValueError,
            r"gives the shape \(None, 16\).*Its stages: stage1_out, stage2_out, stage3_out",
        ),
        (stages_of_known_size, {"features": 0}, ValueError, "features is 0"),
        (flat, {}, ValueError, 'Model "flat" has no stages.*Its layers: .*only'),
        (open_size, {"at": "convolution"}, ValueError, "a map of known size"),
        (mapping, {}, ValueError, "need a classifier"),
        (subclassed, {}, TypeError, "whose graph is not known"),
        (lambda: "net.keras", {}, TypeError, "must be a keras.Model; given str"),
        (lambda: voters(2, 2), {}, ValueError, "one output.*trunk"),
    ],
)
def test_what_cannot_get_exits_is_refused(make, options, error, message):
    model = make()
    with pytest.raises(error, match=message):
        models.with_exits(model, **options)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("loud",), 'Expected "soft"'),
        (("soft", ["output"]), "two exits or more"),
        (("hard", "exit_1"), "two exits or more"),
        (("soft", ["exit_1", "exit_1"]), "more than once"),
        (("soft", ["exit_1", "exit1"]), 'Did you mean "exit_1"'),
    ],
)
def test_votes_that_mean_nothing_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        models.vote(voters(3, 2), *arguments)


def test_models_without_exits_are_refused():
    for strip in (models.exit_names, models.trunk, models.vote):
        with pytest.raises(ValueError, match="no dict of outputs.*with_exits"):
            strip(flat())
    vector = keras.Input((2,))
    headless = keras.Model(vector, {"left": layers.Dense(2)(vector)})
    with pytest.raises(ValueError, match="has no output 'output'.*It has: left"):
        models.trunk(headless)
    with pytest.raises(ValueError, match="has no output 'exit_9'"):
        models.single_exit(voters(2, 2), "exit_9")
