import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from tfkd import models
from tfkd.evaluation import (
    early_exit_curve,
    exit_accuracies,
    exit_costs,
    exit_probabilities,
    plot_early_exit,
)

# Three exits on five examples of class 0; what an exit gives for class 0.
FIRST = [0.9, 0.6, 0.3, 0.55, 0.1]
SECOND = [0.2, 0.95, 0.6, 0.4, 0.3]
LAST = [0.9, 0.9, 0.2, 0.8, 0.6]
COSTS = {"exit_1": 1, "exit_2": 3, "output": 10}
LABELS = np.zeros(5, int)


def two_classes(positive):
    return np.stack([positive, 1 - np.array(positive)], axis=1)


PROBABILITIES = {
    name: two_classes(values)
    for name, values in [("exit_1", FIRST), ("exit_2", SECOND), ("output", LAST)]
}


def test_every_example_leaves_by_the_first_exit_that_is_sure():
    curve = early_exit_curve(PROBABILITIES, LABELS, COSTS, [0, 0.65, 0.8, 1.1])
    # At 0.65: examples 0, 2, 4 leave first (right, wrong, wrong), 1 second (right), 3 last (right).
    # At 0.8: 0 and 4 leave first (right, wrong), 1 second (right), 2 and 3 last (wrong, right).
    np.testing.assert_allclose(curve["accuracy"], [3 / 5, 3 / 5, 3 / 5, 4 / 5])
    np.testing.assert_allclose(
        curve["cost"], [1, (3 * 1 + 3 + 10) / 5, (2 * 1 + 3 + 2 * 10) / 5, 10]
    )
    np.testing.assert_allclose(curve["shares"]["exit_1"], [1, 0.6, 0.4, 0])
    np.testing.assert_allclose(curve["shares"]["exit_2"], [0, 0.2, 0.2, 0])
    np.testing.assert_allclose(curve["shares"]["output"], [0, 0.2, 0.4, 1])
    assert curve["exits"] == {"exit_1": (0.6, 1), "exit_2": (0.4, 3), "output": (0.8, 10)}


def test_default_thresholds_run_from_the_first_exit_towards_the_last():
    curve = early_exit_curve(PROBABILITIES, LABELS, COSTS)
    assert len(curve["thresholds"]) == 101 and curve["cost"][0] == 1
    assert (np.diff(curve["cost"]) >= 0).all() and curve["cost"][-1] == 10


def test_the_picture_is_one_whole_png(tmp_path):
    curve = early_exit_curve(PROBABILITIES, LABELS, COSTS)
    plot_early_exit({"taught": curve, "alone": curve}, tmp_path / "exits.png")
    assert [path.name for path in tmp_path.iterdir()] == ["exits.png"]
    content = (tmp_path / "exits.png").read_bytes()
    width, height = (int.from_bytes(content[at : at + 4], "big") for at in (16, 20))
    assert content.startswith(b"\x89PNG") and (width, height) == (840, 630)
    with pytest.raises(ValueError, match="No curve to draw"):
        plot_early_exit({}, tmp_path / "none.png")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"probabilities": {"output": PROBABILITIES["output"]}}, "two exits or more"),
        ({"costs": {"exit_1": 1, "output": 2}}, r"\['exit_2'\] stand in one only"),
        ({"labels": LABELS[:4]}, r"as many examples as labels \(4\)"),
        ({"probabilities": {**PROBABILITIES, "output": np.ones((5, 3)) / 3}}, "have the shapes"),
        ({"probabilities": {**PROBABILITIES, "output": np.eye(5)[:, :2] * 4}}, "Of logits, take"),
        ({"probabilities": {**PROBABILITIES, "output": np.full((5, 2), np.nan)}}, "Of logits"),
        ({"thresholds": []}, "thresholds must be"),
    ],
)
def test_what_does_not_fit_is_refused(changes, message):
    arguments = {"probabilities": PROBABILITIES, "labels": LABELS, "costs": COSTS, **changes}
    with pytest.raises(ValueError, match=message):
        early_exit_curve(**arguments)


@pytest.fixture(scope="module")
def student():
    keras.utils.set_random_seed(4)
    image = x = keras.Input((8, 8, 1))
    for number, filters in enumerate((2, 3, 4), start=1):
        x = layers.Conv2D(filters, 3, 2, "same", name=f"stage{number}_out")(x)
    x = layers.Dense(3, name="logits")(layers.Flatten()(x))
    return models.with_exits(keras.Model(image, x), features=5)


def test_costs_count_what_is_passed_before(student):
    stages = [16 * 2 * 9, 4 * 3 * 9 * 2, 1 * 4 * 9 * 3]
    # From 4x4x2 to 1x1x5 in two blocks of 2 and 5 x 2^-0.5 = 3 channels; from 2x2x3 in one.
    exit_1 = 4 * (9 * 2 + 2 * 2) + 4 * (9 * 2 + 2 * 3) + (9 * 3 + 3 * 3) + (9 * 3 + 3 * 5) + 5 * 3
    exit_2 = (9 * 3 + 3 * 3) + (9 * 3 + 3 * 5) + 5 * 3
    assert exit_costs(student) == {
        "exit_1": stages[0] + exit_1,
        "exit_2": sum(stages[:2]) + exit_1 + exit_2,
        "output": sum(stages) + exit_1 + exit_2 + 4 * 3,
    }


@pytest.mark.parametrize("classes", [1, 3])
def test_accuracies_of_exits_and_votes(classes):
    values = keras.Input((3 * classes,))
    rows = layers.Reshape((3, classes))(values)
    outputs = {name: rows[:, n] for n, name in enumerate(["exit_1", "exit_2", "output"])}
    model = keras.Model(values, outputs)
    generator = np.random.default_rng(5)
    logits = generator.standard_normal((70, 3 * classes)).astype("float32")
    labels = generator.integers(0, max(2, classes), 70)
    dataset = tf.data.Dataset.from_tensor_slices((logits, labels)).batch(32)
    found = exit_accuracies(model, dataset)

    def accuracy(outputs):
        outputs = np.asarray(outputs)
        chosen = outputs.argmax(-1) if outputs.shape[1] > 1 else outputs[:, 0] > threshold
        return np.mean(chosen == labels)

    threshold = 0
    expected = {name: accuracy(tensor) for name, tensor in model(logits).items()}
    threshold = 0.5
    for kind in ("soft", "hard"):  # the exported model's own decision
        expected[f"{kind}_vote"] = accuracy(models.vote(model, kind)(logits))
    assert found == pytest.approx(expected)
    assert len(set(found.values())) >= 4  # the exits do differ
    probabilities, same_labels = exit_probabilities(model, dataset)
    assert list(probabilities) == ["exit_1", "exit_2", "output"]
    np.testing.assert_array_equal(same_labels, labels)
    first = np.exp(logits[:, :3].astype("float64"))
    expected = first / first.sum(-1, keepdims=True)
    if classes == 1:
        expected = 1 / (1 + np.exp(-logits[:, :1].astype("float64")))
        expected = np.hstack([1 - expected, expected])
    np.testing.assert_allclose(probabilities["exit_1"], expected, atol=1e-7)
