"""A teacher is judged by the labels before anything learns from it."""

import re

import keras
import numpy as np
import pytest

from tfkd.data.splits import DataInfo, Splits
from tfkd.runs import DistillSettings, distill
from tfkd.runs.teacher_check import (
    balanced_recall,
    fitting_order,
    images_needed,
    look,
    require_classes,
    settled,
    trained,
)

NAMES = tuple("abcdefghij")
MANY = 100_000  # images: so many that a small split is no subject


def info(names=NAMES, validation=MANY):
    sizes = {"train": 50, "validation": validation, "test": 50}
    return DataInfo("photos", (8, 8, 1), len(names), tuple(names), sizes, "sha256:0")


def check(name, logits, labels, names, own_names=None):
    """The texts of what is seen of a teacher; ValueError where it is refused."""
    return settled(look(info(names), labels, logits, name, own_names))


def answers(labels, accuracy, order=None, seed=0, classes=10):
    """Logits of a teacher that is right on a share of the examples, its classes in an order."""
    generator = np.random.default_rng(seed)
    order = np.arange(classes) if order is None else np.asarray(order)
    wrong = generator.integers(0, classes, len(labels))
    said = np.where(generator.random(len(labels)) < accuracy, order[labels], wrong)
    return 5.0 * np.eye(classes)[said]


def calibrated_answers(labels, accuracy):
    """As `answers`, with the confidence that fits: a share, and 1/10 of the rest, is right."""
    right = accuracy + (1 - accuracy) / 10
    return answers(labels, accuracy) / 5 * np.log(9 * right / (1 - right))


@pytest.fixture
def labels():
    return np.random.default_rng(1).integers(0, 10, 600)


@pytest.mark.parametrize("accuracy", [0.3, 0.6, 0.99])
def test_a_teacher_that_knows_something_is_taken(labels, accuracy):
    logits = calibrated_answers(labels, accuracy)
    assert check("t", logits, labels, NAMES, NAMES) == []


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


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("guesses", "where guessing gives 10.0 %"),
        ("says one class", "answers every image alike"),
        ("flat", "rates all classes alike for every image"),
        ("shifted", "answers every image alike"),
    ],
)
def test_a_teacher_that_knows_nothing_is_refused(labels, kind, message):
    one_class = np.tile(5.0 * np.eye(10)[4], (len(labels), 1))
    logits = {
        "guesses": answers(labels, 0.0),
        "says one class": one_class,
        "flat": np.zeros((len(labels), 10)),
        # Probabilities do not know of a shift of all logits.
        "shifted": one_class + np.arange(len(labels))[:, None],
    }[kind]
    with pytest.raises(ValueError, match=f"{message}.*--any-teacher"):
        check("t", logits, labels, NAMES)
    (told,) = settled(look(info(), labels, logits, "t"), any_teacher=True)
    assert message in told and "--any-teacher" not in told


def test_small_logits_are_not_constant(labels):
    """It is what they differ by in comparison with their size that counts."""
    assert "nothing to learn" not in str(check("t", 1e-9 * answers(labels, 0.9), labels, NAMES))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_answers_that_are_no_numbers_are_refused_whatever_is_said(labels, bad):
    logits = answers(labels, 1.0)
    logits[labels == 3, 7] = bad
    count = (labels == 3).sum()
    named = f'for {count} of 600 validation images, all of the class "d" .every image of it.'
    with pytest.raises(ValueError, match=f"not finite .NaN or infinity. {named}"):
        settled(look(info(), labels, logits, "t"), any_teacher=True)
    logits = answers(labels, 1.0)
    logits[[0, 1, 2]] = bad  # of labels 4, 5 and 7
    with pytest.raises(ValueError, match="for 3 of 600 validation images, of 3 of 10 classes"):
        check("t", logits, labels, NAMES)
    with pytest.raises(ValueError, match="for 600 of 600 validation images, all of them:"):
        check("t", np.full((600, 10), bad), labels, NAMES)


@pytest.mark.parametrize(
    ("factor", "said"),
    [(3.0, "too sure .* divided by a temperature of 3.00.*should be higher"), (1.0, None)],
)
def test_a_badly_calibrated_teacher_is_said_to_be_so(labels, factor, said):
    logits = calibrated_answers(labels, 0.6)
    # The share that is right is fitted exactly, whatever the seed gave.
    right = (logits.argmax(axis=1) == labels).mean()
    logits *= np.log(9 * right / (1 - right)) / logits.max()
    found = check("t", factor * logits, labels, NAMES)
    if said is None:
        assert found == []
        return
    (text,) = found
    # Confidence c of three times the logits, and the share that is right: their gap is the error.
    confident = 1 / (1 + 9 * (9 * right / (1 - right)) ** -3.0)
    assert f"calibration error {100 * (confident - right):.1f} %; with" in text
    entropy = -right * np.log(right) - (1 - right) * np.log((1 - right) / 9)
    assert f"fitted there, {entropy:.3f} nats and 0.0 %" in text
    assert re.search(said, text)


def test_a_teacher_that_is_nearly_always_right_is_badly_calibrated_by_its_cross_entropy(labels):
    """588 of 600 right, twice as sure as that: the calibration error is at most 2 %."""
    said = labels.copy()
    said[:12] = (labels[:12] + 1) % 10
    fitting = np.log(9 * 0.98 / 0.02) * np.eye(10)[said]
    assert check("t", fitting, labels, NAMES) == []
    (text,) = check("t", 2 * fitting, labels, NAMES)
    # Confidence 1 / (1 + 9 / 441²) = 0.99995.
    assert "calibration error 2.0 %; with its logits divided by a temperature of 2.00" in text


def test_a_split_too_small_to_choose_on():
    # 2 · 0.9 · 0.1 / 0.005² = 7200; and with 1800 images one point is one standard error.
    assert images_needed(0.9) == 7200 and images_needed(0.5) == 20000
    assert look(info(validation=1800)) == []
    (text,) = settled(look(info(validation=144)))
    assert "144 validation images: at an accuracy of 90 %" in text
    assert "up to 3.5 points" in text and "7,200 images are enough" in text  # sqrt(0.18 / 144)
    with pytest.raises(ValueError, match="has 9 validation images for 10 classes.*7,200"):
        settled(look(info(validation=9)), any_teacher=True)


def test_labels_of_one_class_are_refused():
    import tensorflow as tf

    def dataset(labels):
        return tf.data.Dataset.from_tensor_slices((np.zeros((len(labels), 1)), labels))

    mixed, single = dataset([3] * 300 + [4]), dataset([3] * 50)
    require_classes(Splits(mixed, mixed, mixed, info()))
    with pytest.raises(ValueError, match='All 50 training images of "photos" .* class, "d"'):
        require_classes(Splits(single, mixed, mixed, info()))
    with pytest.raises(ValueError, match="All 50 validation images"):
        require_classes(Splits(mixed, single, mixed, info(validation=50)))


def test_a_trained_teacher_at_chance_is_said_to_be_so():
    # Chance 0.1, standard deviation sqrt(0.09 / 100) = 0.03.
    (finding,) = trained("resnet", 0.159, info(validation=100))
    assert "right on 15.9 %" in finding.text and not finding.refused
    assert trained("resnet", 0.161, info(validation=100)) == []


def test_saying_the_most_frequent_class_is_chance_however_frequent():
    labels = np.array([0] * 900 + [1] * 100)
    says_zero = np.tile([1.0, 0.0], (1000, 1))
    says_zero[::2] = [0.9, 0.1]
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
    with pytest.raises(ValueError, match="alike for every image.*scaled to 0..1.*--any-teacher"):
        distill(settings, tmp_path / "run")
    assert not (tmp_path / "run").exists()
    from tfkd.runs.lessons import Prepared
    from tfkd.runs.rows import distill_table

    table = distill_table(settings.replace(any_teacher=True))
    prepared = Prepared(table)
    assert prepared.teachers[0].figures["accuracy"] < 0.2
    assert "rates all classes alike" in prepared.findings[0]
    assert '"digits" has 144 validation images' in prepared.findings[1]
