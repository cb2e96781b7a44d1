"""Hashing: batches of pairs, searches, models that fit; BRCD as a recipe, and a small run of it."""

import keras
import numpy as np
import pytest

import tfkd
from tfkd import data, evaluation, models, recipes, tasks
from tfkd.data.contrastive_views import contrastive
from tfkd.losses import CodeDistillation, ContrastiveHashing, RobustCodeDistillation, code_clusters
from tfkd.runs import run_recipe
from tfkd.runtime.interpreter import Interpreter
from tfkd.settings import ExportSettings, SettingsError
from tfkd.tasks import codes

BITS, TASK = 8, tasks.get("hashing")
TINY = {"limit": 40, "bits": BITS, "batch_size": 16, "clusters": 3}


def settings_of(**changes):
    return recipes.get("he2024").settings(**(TINY | changes))


def network(seed, bits=BITS):
    keras.utils.set_random_seed(seed)
    return models.build("modified_alexnet", (8, 8, 1), bits, width=0.05)


@pytest.fixture(scope="module")
def splits():
    return TASK.load(settings_of())


def arrays(dataset):
    images, labels = zip(*dataset.as_numpy_iterator(), strict=True)
    return np.stack(images), np.array(labels)


def test_a_batch_is_two_views_of_each_image_and_the_images_numbers(splits):
    batches = TASK.batches(splits.train, settings_of(), 5, splits.info)
    images, _ = arrays(splits.train)
    assert len(batches) == 3
    for epoch in range(2):
        rows, numbers = (np.concatenate(own) for own in zip(*batches, strict=True))
        assert rows.shape == (80, 8, 8, 1) and sorted(numbers[::2]) == list(range(40))
        np.testing.assert_array_equal(numbers[::2], numbers[1::2])
        for side in range(2):
            seeds = data.view_seed(numbers[side::2], 2 * epoch + side, 5)
            views = contrastive(images[numbers[side::2]], seeds, mirror=False)
            np.testing.assert_array_equal(rows[side::2], views)


def test_a_search_is_among_the_training_images(splits):
    model, other = network(0), network(1)
    asked, wanted = arrays(splits.test)
    found, labels = arrays(splits.train)

    def expected(database_model):
        return evaluation.retrieval_average_precision(
            model(asked), wanted, database_model(found), labels
        )

    own = TASK.judge(model, splits.test, splits.info)()
    assert list(own) == list(TASK.figures)
    np.testing.assert_allclose(own["map"], expected(model), rtol=1e-12)
    asymmetric = codes.search(model, splits.test, splits.train, other)()["map"]
    np.testing.assert_allclose(asymmetric, expected(other), rtol=1e-12)
    assert asymmetric != own["map"]


def test_models_that_fit_and_a_backbone_from_a_file(splits, tmp_path):
    info = splits.info
    TASK.check("student", network(0), "own", info)
    with pytest.raises(ValueError, match=r"\(None, 9\)\]; expected .* with 8 bits"):
        TASK.check("student", network(0, 9), "own", info)
    classifier, path = network(3, 10), str(tmp_path / "classifier.keras")
    with pytest.raises(ValueError, match="give teacher = backbone and teacher_options file=x"):
        TASK.check("teacher", classifier, "x", info)
    classifier.save(path)
    built = TASK.build(
        "teacher", settings_of(teacher="backbone", teacher_options={"file": path}), info
    )
    TASK.check("teacher", built, "backbone", info)
    name = models.features_layer(classifier)
    images, _ = arrays(splits.test)
    for own, twin in zip(classifier.layers, built.layers, strict=False):
        if own.name == name:
            break
        for one, other in zip(own.weights, twin.weights, strict=True):
            np.testing.assert_array_equal(one, other)
    assert len(built.trainable_variables) == 2
    with pytest.raises(ValueError, match="say which, with the option file=PATH.keras"):
        TASK.build("teacher", settings_of(teacher="backbone", teacher_options={}), info)
    with pytest.raises(ValueError, match="cannot be loaded"):
        codes.on_backbone((8, 8, 1), BITS, file=str(tmp_path / "none.keras"))


def test_he2024_is_the_students_contrast_and_that_with_the_teachers_codes(splits):
    settings, teacher, student = settings_of(margin=0.2), network(1), network(2)
    recipe = recipes.get("he2024")
    images, _ = arrays(splits.train)
    found = code_clusters(teacher(images), 3)
    rows, numbers = next(iter(TASK.batches(splits.train, settings, 0, splits.info)))
    taught, own = teacher(rows), student(rows)
    robust = RobustCodeDistillation(found.numbers, found.centers, found.masks(0.2))
    expected = ContrastiveHashing()(numbers, own) + robust(taught, own, labels=numbers)
    system = recipe.build(settings, teacher, student)
    np.testing.assert_array_equal(system.losses[0].masks, robust.masks)
    distiller = system.distiller(teacher)
    distiller.compile(loss=TASK.loss(splits.info, settings, None))
    total = distiller.evaluate(rows, numbers, batch_size=32, verbose=0, return_dict=True)["loss"]
    np.testing.assert_allclose(total, expected, rtol=1e-5)
    plain = recipe.plain(settings, teacher, student)
    assert [type(loss) for loss in plain.losses] == [CodeDistillation]
    # What the ablations leave out.
    made = {name: recipe.build(own, teacher, student).losses[0] for name, own in
            recipe.ablations(settings).items()}  # fmt: skip
    assert made["no mask"].masks is None
    np.testing.assert_array_equal(made["undecided bits"].masks, 1 - robust.masks)
    alone = made["contrast alone"]
    assert alone.masks is None and alone.false_negatives and alone.offset_positives
    with pytest.raises(ValueError, match="41 clusters of 40 training images"):
        recipe.build(settings.replace(clusters=41), teacher, student)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"augment": "none"}, "learnt from two different views"),
        ({"augment": "shift", "mirror": True}, "mirror is of augment"),
        ({"margin": 1.0}, "margin is 1.0"),
        ({"label_smoothing": 0.1}, "label_smoothing would change nothing"),
        ({"bits": 0}, "bits is 0"),
        ({"mask": "decides"}, "Did you mean"),
        ({"teacher": "resent"}, 'Did you mean "resnet"'),
    ],
    ids=lambda own: "-".join(own) if isinstance(own, dict) else "",
)
def test_settings_that_cannot_be_right(changes, message):
    with pytest.raises(SettingsError, match=message):
        settings_of(**changes)


def test_a_run_measures_both_searches(splits, tmp_path):
    path = tmp_path / "teacher.keras"
    network(1).save(path)
    settings = settings_of(
        teacher=str(path), teacher_options={}, student_options={"width": 0.05}, epochs=1, seeds=1
    )
    record = run_recipe("he2024", settings, tmp_path / "run")
    assert list(record["figures"]) == ["teacher", "alone", "distilled", "he2024"]
    teacher = keras.models.load_model(path)
    student = keras.models.load_model(tmp_path / "run" / "student.keras")
    (own,) = record["figures"]["he2024"]
    assert own["map"] == TASK.judge(student, splits.test, splits.info)()["map"]
    assert own["gain"] == own["map"] - record["figures"]["alone"][0]["map"]
    asymmetric = codes.search(student, splits.test, splits.train, teacher)()["map"]
    assert record["study"]["asymmetric_map"]["he2024"] == [asymmetric]
    assert "Asymmetric search" in record["notes"][-1]
    written = ExportSettings(format=("tflite",), quantization=("float32",))
    tfkd.runs.export_run(tmp_path / "run", written)
    images = arrays(splits.test)[0].astype("float32")
    file = tmp_path / "run" / "export" / "student_float32.tflite"
    packed = Interpreter(file).run({"image": images})["packed"]
    np.testing.assert_array_equal(packed, np.packbits(student(images) > 0, axis=-1))
