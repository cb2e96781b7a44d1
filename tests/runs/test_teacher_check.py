"""A teacher is judged by the labels before anything learns from it."""

import keras
import numpy as np
import pytest

from tfkd.runs import DistillSettings, distill
from tfkd.runs.teacher_check import balanced_recall, check, fitting_order

NAMES = tuple("abcdefghij")


def answers(labels, accuracy, order=None, seed=0, classes=10):
    """Logits of a teacher that is right on a share of the examples, its classes in an order."""
    generator = np.random.default_rng(seed)
    order = np.arange(classes) if order is None else np.asarray(order)
    wrong = generator.integers(0, classes, len(labels))
    said = np.where(generator.random(len(labels)) < accuracy, order[labels], wrong)
    return 5.0 * np.eye(classes)[said]


@pytest.fixture
def labels():
    return np.random.default_rng(1).integers(0, 10, 600)


@pytest.mark.parametrize("accuracy", [0.3, 0.6, 0.99])
def test_a_teacher_that_knows_something_is_taken(labels, accuracy):
    check("t", answers(labels, accuracy), labels, NAMES, NAMES)


@pytest.mark.parametrize(
    "order",
    [
        [1, 2, 3, 4, 5, 6, 7, 8, 9, 0],  # shifted by one: labels from 1
        [0, 1, 2, 3, 4, 5, 6, 8, 7, 9],  # two exchanged
        [9, 8, 7, 6, 5, 4, 3, 2, 1, 0],
        [0, 1, 3, 4, 2, 5, 6, 7, 8, 9],  # three in a ring
    ],
)
@pytest.mark.parametrize("accuracy", [0.7, 1.0])
def test_another_order_of_the_classes_is_found_and_named(labels, order, accuracy):
    logits = answers(labels, accuracy, order)
    moved = next(label for label, output in enumerate(order) if label != output)
    named = f'output {order[moved]} is "{NAMES[moved]}"'
    with pytest.raises(ValueError, match=f"(?s)in another order: .*{named}.*--any-teacher"):
        check("t", logits, labels, NAMES)
    counts = np.zeros((10, 10))
    np.add.at(counts, (labels, logits.argmax(axis=1)), 1)
    assert fitting_order(counts) == order


def test_two_exchanged_classes_of_a_hundred_are_found():
    labels = np.random.default_rng(2).integers(0, 100, 3000)
    order = np.arange(100)
    order[[17, 42]] = order[[42, 17]]
    logits = answers(labels, 0.9, order, classes=100)
    with pytest.raises(ValueError, match='output 42 is "17"; output 17 is "42"'):
        check("t", logits, labels, [str(number) for number in range(100)])


def test_confused_classes_are_no_order(labels):
    """A weak teacher takes half of one class for another: no permutation explains that."""
    logits = answers(labels, 0.9)
    half = (labels == 3) & (np.arange(len(labels)) % 2 == 0)
    logits[half] = 5.0 * np.eye(10)[5]
    check("t", logits, labels, NAMES)


@pytest.mark.parametrize("kind", ["guesses", "says one class", "flat"])
def test_a_teacher_at_chance_is_refused(labels, kind):
    logits = {
        "guesses": answers(labels, 0.0),
        "says one class": np.tile(5.0 * np.eye(10)[4], (len(labels), 1)),
        "flat": np.zeros((len(labels), 10)),
    }[kind]
    with pytest.raises(ValueError, match="where guessing gives 10.0 %.*--any-teacher"):
        check("t", logits, labels, NAMES)


def test_saying_the_most_frequent_class_is_chance_however_frequent():
    labels = np.array([0] * 900 + [1] * 100)
    says_zero = np.tile([1.0, 0.0], (1000, 1))
    with pytest.raises(
        ValueError, match="right on 50.0 % of the labelled images .each class counted alike."
    ):
        check("t", says_zero, labels, ("a", "b"))
    counts = np.array([[900, 0], [100, 0]])
    recall, chance, _ = balanced_recall(counts)
    assert recall == chance == 0.5


@pytest.mark.parametrize("own", [NAMES[::-1], NAMES[:9], ("x", *NAMES[1:])])
def test_other_classes_than_those_of_the_data_are_refused(labels, own):
    with pytest.raises(ValueError, match='was trained on the classes "'):
        check("t", answers(labels, 1.0), labels, NAMES, own)


def test_a_run_refuses_such_a_teacher_and_takes_it_when_told(tmp_path):
    image = keras.Input((8, 8, 1))
    flat = keras.layers.Rescaling(1 / 16)(keras.layers.Flatten()(image))
    teacher = keras.Model(image, keras.layers.Dense(10, kernel_initializer="zeros")(flat))
    path = tmp_path / "teacher.keras"
    teacher.save(path)
    settings = DistillSettings(
        teacher=str(path),
        limit=64,
        epochs=1,
        seeds=1,
        hints="none",
        student_options={"width": 0.05},
        augment="none",
    )
    with pytest.raises(ValueError, match="nothing to learn from it.*scaled to 0..1.*--any-teacher"):
        distill(settings, tmp_path / "run")
    assert not (tmp_path / "run").exists()
    from tfkd.runs.rows import distill_table
    from tfkd.runs.tasks import Prepared

    table = distill_table(settings.replace(any_teacher=True))
    assert Prepared(table).teachers[0].figures["accuracy"] < 0.2
