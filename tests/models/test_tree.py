"""The oblique tree: paths and weights by hand, and one tree in three forms that say the same."""

import re

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfkd
from tfkd import models, progress
from tfkd.models import tree as trees

SHAPE, CLASSES, DEPTH = (8, 8, 1), 3, 3


@pytest.fixture(scope="module")
def pixels():
    return np.random.default_rng(5).integers(0, 256, (400, *SHAPE), dtype=np.uint8)


@pytest.fixture(scope="module")
def model(pixels):
    """A tree whose weights, normalisation and leaves are all bold, and none as it was born."""
    keras.utils.set_random_seed(3)
    made = models.build("oblique_tree", SHAPE, CLASSES, depth=DEPTH)
    random = np.random.default_rng(4)
    made.set_weights([random.normal(size=w.shape) for w in made.get_weights()])
    tree = made.layers[-1]
    values = normalised(pixels) @ np.asarray(tree.kernel)
    tree.norm.moving_mean.assign(values.mean(axis=0))
    tree.norm.moving_variance.assign(values.var(axis=0))
    tree.norm.beta.assign(random.normal(size=7) * 0.2)
    tree.norm.gamma.assign(random.choice([-1.5, -0.5, 0.5, 1.5], 7))
    tree.scale.assign(2.0)
    tree.visits.assign(random.dirichlet(np.ones(8)))
    return made


@pytest.fixture(scope="module")
def hard(model):
    return models.harden(model, ("normal", "fluid pound", "stuck"))


def normalised(pixels):
    return pixels.reshape(len(pixels), -1).astype("float64") / 127.5 - 1


def margins(model, pixels):
    """float64 values of the splits, (images, splits)."""
    tree = model.layers[-1]
    norm = [np.asarray(v, "float64") for v in tree.norm.get_weights()]
    gamma, beta, mean, variance = norm
    values = normalised(pixels) @ np.asarray(tree.kernel, "float64")
    return gamma * (values - mean) / np.sqrt(variance + tree.norm.epsilon) + beta


def walked(values):
    """The leaf of each row of splits' values, walked from the root."""
    splits = np.zeros(len(values), int)
    for _ in range(DEPTH):
        splits = 2 * splits + 1 + (values[np.arange(len(values)), splits] > 0)
    return splits - (2**DEPTH - 1)


def test_a_tree_of_one_split_by_hand():
    tree = models.ObliqueTree(2, depth=1, first_scale=2.0)
    tree.build((None, 2))
    left, right = np.log([0.9, 0.1]), np.log([0.25, 0.75])
    variance = 1 - tree.norm.epsilon
    tree.kernel.assign([[1.0], [-2.0]])
    tree.leaves.assign([left, right])
    tree.norm.set_weights([np.array([value]) for value in (1.0, 0.5, 0.0, variance)])
    # x · a + b = 1 - 2 + 0.5: half on the left, so that the right leaf is wrong by 0.5.
    x = np.array([[1.0, 1.0]], "float32")
    odds = np.exp(-2 * 0.5)
    expected = (left_p := 1 / (1 + odds)) * np.exp(left) + (1 - left_p) * np.exp(right)
    tree.soft = True
    np.testing.assert_allclose(np.exp(tree(x)), expected[None], rtol=1e-5)
    tree.soft = False
    np.testing.assert_allclose(np.exp(tree(x)), [[0.9, 0.1]], rtol=1e-5)
    np.testing.assert_allclose(np.exp(tree(-x)), [[0.25, 0.75]], rtol=1e-5)
    np.testing.assert_allclose(tree.visits, [0.5, 0.5])
    tree(np.tile(x, (4, 1)), training=True)  # equal examples: normalised, all are at beta = 0.5
    np.testing.assert_allclose(
        tree.visits, [0.5 + 0.1 * (1 - left_p - 0.5), 0.5 + 0.1 * (left_p - 0.5)], rtol=1e-4
    )


def test_paths_run_from_the_root_to_the_leaves():
    left, right = [[1.0, 2.0, 4.0]], [[10.0, 20.0, 40.0]]
    sums = trees.path_sums(tf.constant(left), tf.constant(right))
    np.testing.assert_array_equal(sums, [[1 + 2, 1 + 20, 10 + 4, 10 + 40]])


def test_soft_weights_and_probabilities_add_up_to_one_and_end_in_the_hard_tree(model, pixels):
    soft = models.soft_tree_model(model)
    tree = soft.layers[-1]
    inputs = normalised(pixels).astype("float32")
    np.testing.assert_allclose(np.exp(tree.log_weights(inputs)).sum(axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(np.exp(soft(pixels)).sum(axis=1), 1, rtol=1e-5)
    logs, leaves = np.asarray(model(pixels)), np.asarray(tree.leaves, "float64")
    assert np.abs(np.asarray(soft(pixels)) - logs).max() > 0.1
    own = leaves[walked(margins(model, pixels))]
    expected = own - np.log(np.exp(own).sum(axis=1, keepdims=True))
    np.testing.assert_allclose(logs, expected, atol=1e-5)
    tree.scale.assign(1e7)
    clear = np.abs(margins(model, pixels)).min(axis=1) > 1e-3
    assert clear.mean() > 0.9
    np.testing.assert_allclose(np.asarray(soft(pixels))[clear], logs[clear], atol=1e-5)


def test_hardened_rules_and_both_predictions_agree(model, hard, pixels):
    assert hard.parameters == 7 * (64 + 1) and hard.depth == DEPTH
    predicted = hard.predict(pixels)
    assert set(predicted) == {0, 1, 2} and len(set(hard.leaves(pixels))) >= 6
    np.testing.assert_array_equal(predicted, np.argmax(model(pixels), axis=1))
    stock = models.hard_tree_model(model)
    np.testing.assert_array_equal(predicted, np.argmax(stock(pixels), axis=1))
    own = tf.nn.softmax(model.layers[-1].leaves).numpy().max(axis=1)
    sure = np.average(own, weights=model.layers[-1].visits)
    np.testing.assert_allclose(tf.nn.softmax(stock(pixels)).numpy().max(axis=1), sure, rtol=1e-4)
    flat = pixels.reshape(len(pixels), -1).astype("float64")
    values = flat @ hard.weights.T.astype("float64")
    fired = np.zeros(len(pixels), int)
    for rule in hard.rules():
        conditions, label = re.fullmatch("IF (.*) THEN (.*)", rule).groups()
        holds = np.ones(len(pixels), bool)
        for condition in conditions.split(" AND "):
            split, sign, number = re.fullmatch(r"split (\d+) (>|<=) (\S+)", condition).groups()
            above = values[:, int(split)] > float(number)
            holds &= above if sign == ">" else ~above
        fired += holds
        assert {hard.labels[own] for own in predicted[holds]} <= {label}
    assert len(hard.rules()) == 8 and (fired == 1).all()


def test_the_papers_size():
    model = models.build("oblique_tree", (28, 28, 1), 10)
    hard = models.harden(model)
    assert len(hard.rules()) == 64
    # 63 splits of 784 pixels with a threshold each; the paper counts 49,457.
    assert hard.parameters == models.hard_tree_model(model).count_params() == 63 * 785 == 49_455


def test_files_hold_the_same_tree(model, hard, pixels, tmp_path):
    hard.save(tmp_path / "tree.npz")
    loaded = models.HardTree.load(tmp_path / "tree.npz")
    assert loaded.rules() == hard.rules()
    np.testing.assert_array_equal(loaded.leaves(pixels), hard.leaves(pixels))
    model.save(tmp_path / "soft.keras")
    restored = keras.models.load_model(tmp_path / "soft.keras")
    np.testing.assert_array_equal(restored(pixels), model(pixels))
    stock = models.hard_tree_model(model)
    stock.save(tmp_path / "hard.keras")
    restored = keras.models.load_model(tmp_path / "hard.keras")
    np.testing.assert_array_equal(restored(pixels), stock(pixels))
    assert all(type(layer).__module__.startswith("keras.") for layer in restored.layers)
    (tmp_path / "broken.npz").write_bytes((tmp_path / "tree.npz").read_bytes()[:200])
    np.savez(tmp_path / "other.npz", weights=np.zeros(3))
    for name in ("broken", "other"):
        with pytest.raises(ValueError, match=f'{name}.npz" holds no tree'):
            models.HardTree.load(tmp_path / f"{name}.npz")


@pytest.mark.parametrize("size", [800.0, -800.0])
def test_far_from_every_split_gradients_stay_finite(size):
    tree = models.ObliqueTree(2, depth=2, soft=True, first_scale=100.0)
    x = np.array([[1.0, 0.5], [-1.0, 0.25], [0.5, -1.0]], "float32") * size
    tree.build(x.shape)
    with tf.GradientTape() as tape:
        values = tree(x)
        loss = -tf.reduce_sum(values[:, 0])
    assert np.isfinite(values).all()
    names = [variable.name for variable in tree.trainable_variables]
    gradients = tape.gradient(loss, tree.trainable_variables)
    assert set(names) == {"kernel", "gamma", "beta", "leaves"}
    assert all(np.isfinite(gradient).all() for gradient in gradients)
    # Far from all splits one leaf has all the weight, and the splits no gradient.
    moved = {name for name, gradient in zip(names, gradients, strict=True) if np.any(gradient)}
    assert moved == {"leaves"}


def test_a_training_anneals_the_scale_alone_and_distilled():
    made = models.build("oblique_tree", SHAPE, CLASSES, depth=2, first_scale=1, last_scale=16)
    tree, seen = made.layers[-1], []
    distiller = tfkd.Distiller(None, made)
    distiller.compile("sgd")
    for callback, model in ((tfkd.schedules.Anneal(), made), (progress.Follow(), distiller)):
        callback.set_params({"epochs": 4, "steps": 1})
        callback.set_model(model)
        for epoch in (0, 1, 3):
            callback.on_epoch_begin(epoch)
            seen.append(float(tree.scale))
    np.testing.assert_allclose(seen, [1, 2, 8, 1, 2, 8], rtol=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"depth": 0}, r"depth is 0\. Expected a whole number from 1 .* to 12"),
        ({"depth": 20}, "depth is 20"),
        ({"depth": 2.0}, "depth is 2.0"),
        ({"first_scale": 0}, "first_scale is 0"),
        ({"last_scale": 0.1}, "last_scale 0.1"),
    ],
)
def test_trees_that_cannot_be(options, message):
    with pytest.raises(ValueError, match=message):
        models.build("oblique_tree", SHAPE, CLASSES, **options)


def test_what_is_no_tree(hard, pixels):
    with pytest.raises(ValueError, match="2 classes or more"):
        models.build("oblique_tree", SHAPE, 1)
    with pytest.raises(ValueError, match='ends in Dense "logits", not in a tree'):
        models.harden(models.build("streamlined_student", SHAPE, CLASSES, width=0.1))
    with pytest.raises(ValueError, match="64 numbers|made for 64"):
        hard.predict(pixels[:, :4])
    with pytest.raises(ValueError, match="no whole tree"):
        models.HardTree(np.zeros((2, 4)), np.zeros(2), np.zeros(3), "ab")
    with pytest.raises(ValueError, match="name classes"):
        models.HardTree(np.zeros((1, 4)), np.zeros(1), [0, 2], "ab")
    with pytest.raises(ValueError, match="must be finite"):
        models.HardTree(np.full((1, 4), np.nan), np.zeros(1), [0, 1], "ab")
