"""Labels of other shapes than a class: figures by hand, batches, checks, a small run of each."""

import types

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers
from sklearn.metrics import average_precision_score

from tfkd import data, tasks
from tfkd.export.tflite import read_metadata
from tfkd.runs import DistillSettings, distill, export_run, predict
from tfkd.runs.directory import RunDirectory
from tfkd.runs.finished import load_run_data
from tfkd.runs.record import Record
from tfkd.runs.rows import distilled
from tfkd.runtime.interpreter import Interpreter
from tfkd.settings import ChainSettings, ExportSettings, SearchSettings, SettingsError
from tfkd.tasks import labelled

LABELS, MASKS = "multi-label", "segmentation"
SMALL = {"limit": 24, "epochs": 1, "teacher_epochs": 1, "seeds": 1, "batch_size": 8}


def settings_of(task, **changes):
    return DistillSettings(task=task, **(SMALL | changes))


def arrays(dataset):
    return tuple(np.stack(own) for own in zip(*dataset.as_numpy_iterator(), strict=True))


def test_average_precision_of_labels_by_hand():
    labels = np.array([[1, 0, 0], [0, 1, 0], [1, 0, 0]])
    scores = np.array([[0.9, 0.1, 0.2], [0.8, 0.7, 0.3], [0.2, 0.3, 0.1]])
    # The first label is found at ranks 1 and 3, the second at rank 1; nothing has the third.
    found = labelled.average_precisions(labels, scores)
    np.testing.assert_allclose(found["map"], ((1 + 2 / 3) / 2 + 1) / 2)
    # Of all nine pairs the wanted ones are at ranks 1 and 3, and behind three others of 0.2 to 0.3.
    order = average_precision_score(labels.ravel(), scores.ravel())
    np.testing.assert_allclose(found["micro_ap"], order)
    with pytest.raises(ValueError, match="No image has a label"):
        labelled.average_precisions(0 * labels, scores)


def test_mean_iou_by_hand():
    """Two classes on four pixels: 1 of 2 for the first one, 2 of 3 for the second."""
    image = keras.Input((2, 2, 1))
    model = keras.Model(image, layers.Concatenate()([0.5 - image, image - 0.5]))
    images = np.array([[[[0], [1]], [[1], [1]]]], "uint8")
    masks = np.array([[[0, 0], [1, 1]]], "uint8")
    judge = labelled.PixelJudge(model, data.pipeline.from_arrays(images, masks), 2)
    for _ in range(2):  # each call counts anew
        found = judge()
        np.testing.assert_allclose(found["iou"], (1 / 2 + 2 / 3) / 2, rtol=1e-6)
        assert found["pixel_accuracy"] == 0.75


def test_a_mask_moves_as_its_image_does():
    task, settings = tasks.get(MASKS), settings_of(MASKS, augment="flip")
    splits = task.load(settings)
    images, masks = arrays(splits.train)
    known = {own.tobytes(): mask for own, mask in zip(images, masks, strict=True)}
    mirrored = 0
    for x, y in task.batches(splits.train, settings, 3, splits.info):
        assert y.dtype == tf.uint8
        for image, mask in zip(x.numpy(), y.numpy(), strict=True):
            turned = image.tobytes() not in known
            mirrored += turned
            side = slice(None, None, -1 if turned else 1)
            np.testing.assert_array_equal(mask, known[image[:, side].tobytes()][:, side])
    assert 4 < mirrored < 20


def network(units, activation=None):
    image = keras.Input((32, 32, 3))
    return keras.Model(image, layers.Conv2D(units, 3, padding="same", activation=activation)(image))


def test_models_that_do_not_fit():
    task = tasks.get(MASKS)
    info = task.load(settings_of(MASKS)).info
    task.check("teacher", network(4), "x", info)
    with pytest.raises(ValueError, match='"shapes" has 4 classes at each pixel'):
        task.check("teacher", network(3), "x", info)
    with pytest.raises(ValueError, match="ends in a sigmoid.*expected logits, or a softmax"):
        task.check("teacher", network(4, "sigmoid"), "x", info)
    strided = keras.Model(image := keras.Input((32, 32, 3)), layers.Conv2D(4, 2, 2)(image))
    with pytest.raises(ValueError, match=r"answers at \(16, 16\) positions"):
        task.check("teacher", strided, "x", info)
    soft = labelled.PixelJudge(network(4, "softmax"), task.load(settings_of(MASKS)).test, 4)
    assert not soft.from_logits


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"task": "detection"}, "There are: classification, multi-label, segmentation, text"),
        ({"task": LABELS, "class_weight": "balanced"}, "class_weight is of classification"),
        ({"task": LABELS, "teacher": ("resnet", "vit")}, "2 teachers are named"),
        ({"task": MASKS, "augment": "crop"}, "pixels of no class"),
        ({"task": MASKS, "student": "resnet"}, '"resnet" for segmentation.*encoder_decoder'),
        ({"task": LABELS, "ignore_class": 255}, "ignore_class is of pixels of masks"),
        ({"recipe": "he2024"}, "learns hashing, and no classes"),
    ],
    ids=lambda own: "-".join(map(str, own)) if isinstance(own, dict) else "",
)
def test_settings_that_cannot_be_right(changes, message, tmp_path):
    with pytest.raises(SettingsError, match=message):
        distill(DistillSettings(**changes), tmp_path / "run")


def test_other_commands_are_of_classes():
    for kind, own in ((ChainSettings, {"generations": 2}), (SearchSettings, {})):
        with pytest.raises(SettingsError, match="task is 'segmentation'"):
            kind(task=MASKS, **own)


def test_defaults_follow_the_task():
    settings = DistillSettings(task=MASKS)
    assert (settings.data, settings.teacher, settings.student) == (
        *("shapes", "encoder_decoder", "encoder_decoder"),
    )
    assert settings.student_options == {"width": 0.25} and settings.learns == MASKS
    assert DistillSettings(task=MASKS, student="encoder_decoder").student_options == {}
    assert DistillSettings(**dict(settings)) == settings
    assert DistillSettings().learns == "classification"


@pytest.mark.parametrize("task", [LABELS, MASKS])
def test_each_label_and_each_pixel_is_distilled(task):
    """Labels by sigmoids, summed; pixels by softmaxes, averaged: in NumPy at float64."""
    own, settings = tasks.get(task), settings_of(task, temperature=2.0, student_loss_weight=0.25)
    shape, random = (3,) if task == LABELS else (4, 5, 3), np.random.default_rng(1)
    learnt = 3 * random.normal(size=(6, *shape))
    labels = random.integers(0, *((2, (6, 3)) if task == LABELS else (3, (6, 4, 5))))

    def same():
        given = keras.Input(shape)
        dense = layers.Dense(3, use_bias=False, kernel_initializer="identity")
        return keras.Model(given, dense(given))

    teacher, student = same(), same()
    teacher.layers[-1].kernel.assign(2 * np.eye(3))
    system = distilled(settings, teacher, student)
    judge = types.SimpleNamespace(from_logits=True)
    distiller = system.distiller(teacher)
    distiller.compile(loss=own.loss(None, settings, judge))
    total = distiller.evaluate(learnt, labels, batch_size=6, verbose=0, return_dict=True)["loss"]
    t, s = 2 * learnt.astype("float32").astype(float), learnt.astype("float32").astype(float)
    if task == LABELS:
        p, q, one = (1 / (1 + np.exp(-own)) for own in (t / 2, s / 2, s))
        soft = (p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q))).sum(axis=-1).mean()
        hard = -np.mean(labels * np.log(one) + (1 - labels) * np.log(1 - one))
    else:
        p, q, one = (np.exp(own) / np.exp(own).sum(-1, keepdims=True) for own in (t / 2, s / 2, s))
        soft = (p * np.log(p / q)).sum(axis=-1).mean()
        hard = -np.log(np.take_along_axis(one, labels[..., None], -1)).mean()
    np.testing.assert_allclose(total, 0.25 * hard + 0.75 * 4 * soft, rtol=1e-5)


def small(units):
    image = keras.Input((16, 16, 1))
    return keras.Model(image, layers.Dense(units)(layers.Flatten()(image)))


def test_labels_are_judged_on_a_split_and_trained_in_batches():
    task, settings = tasks.get(LABELS), settings_of(LABELS, student_options={"width": 0.05})
    splits = task.load(settings)
    student = task.build("student", settings, splits.info)
    task.check("student", student, "x", splits.info)
    judge = task.judge(student, splits.test, splits.info)
    images, labels = arrays(splits.test)
    expected = average_precision_score(labels, student(images), average="macro")
    np.testing.assert_allclose(judge()["map"], expected, rtol=1e-6)
    assert judge.from_logits
    x, y = next(iter(task.batches(splits.train, settings, 0, splits.info)))
    assert x.shape == (8, 16, 16, 1) and y.shape == (8, 10)
    with pytest.raises(ValueError, match='"digit_groups" has 10 labels'):
        task.check("student", small(9), "x", splits.info)


def of_pixels(units):
    image = keras.Input((32, 32, 3))
    x = layers.Rescaling(1 / 255)(image)
    return keras.Model(image, layers.Conv2D(units, 3, padding="same")(x))


# Task, its settings, the student that it begins with, its head; a quick network teaches as well.
RUNS = {
    LABELS: ({}, lambda: small(10), "independent_logits"),
    MASKS: ({"ignore_class": 3}, lambda: of_pixels(3), "logits"),
}


def expected_figures(task, answers, labels):
    """By NumPy and scikit-learn; of masks without the pixels of no class."""
    if task == LABELS:
        kinds = {"map": "macro", "micro_ap": "micro"}
        return {n: average_precision_score(labels, answers, average=k) for n, k in kinds.items()}
    there, classes = labels != 255, answers.argmax(-1)
    shares = []
    for number in range(3):
        found, own = (classes == number) & there, labels == number
        shares.append((found & own).sum() / (found | own).sum())
    return {"iou": np.mean(shares), "pixel_accuracy": (classes == labels)[there].mean()}


@pytest.mark.parametrize("task", [LABELS, MASKS])
def test_a_run(tmp_path, task):
    changes, network_of, head = RUNS[task]
    for role in ("teacher", "student"):
        network_of().save(tmp_path / f"{role}.keras")
        changes[role] = str(tmp_path / f"{role}.keras")
    settings = settings_of(task, **changes)
    splits = tasks.get(task).load(settings)
    record = distill(settings, tmp_path / "run")
    assert [row["knowledge"] for row in record["rows"]] == ["labels", "stored"]
    (kept,) = record["knowledge"]
    shape = [10] if task == LABELS else [32, 32, 3]
    assert (kept["tensors"], kept["views"]) == ({"output": shape}, 1)
    assert kept["bytes"] == 24 * (4 * np.prod(shape) + 8)
    student = keras.models.load_model(tmp_path / "run" / "student.keras")
    (found,) = record["figures"]["distilled"]
    images, labels = arrays(splits.test)
    answers = student(images).numpy()
    for name, value in expected_figures(task, answers, labels).items():
        np.testing.assert_allclose(found[name], value, rtol=1e-5)
    again = load_run_data(RunDirectory(tmp_path / "run"), Record.read(tmp_path / "run/run.json"))
    assert again[0].info == splits.info
    with pytest.raises(ValueError, match=f"this one learns {task}"):
        predict(tmp_path / "run", ())
    written = ExportSettings(format=("tflite",), quantization=("float32",))
    files = export_run(tmp_path / "run", written)["files"]
    file = tmp_path / "run" / "export" / files["TFLite float32"]
    served = Interpreter(file).run({"image": images[:9].astype("float32")})
    np.testing.assert_allclose(served["logits"], answers[:9], rtol=1e-4, atol=1e-4)
    metadata = read_metadata(file)
    assert metadata["head"] == head and tuple(metadata["labels"]) == splits.info.label_names
    with pytest.raises(ValueError, match="calibrate divides logits of one class of many"):
        export_run(tmp_path / "run", ExportSettings(calibrate=True))


def totals(images, masks, ignore_class):
    """(loss, gradients) of a batch of the default distillation of pixels."""
    task, settings = tasks.get(MASKS), settings_of(MASKS, batch_size=len(images))
    info = types.SimpleNamespace(ignore_class=ignore_class)
    keras.utils.set_random_seed(4)
    given = keras.Input((None, None, 3))
    teacher, student = (keras.Model(given, layers.Dense(4)(given)) for _ in range(2))
    dataset = data.pipeline.from_arrays(images, masks)
    (batch,) = task.batches(dataset, settings, 0, info)
    distiller = distilled(settings, teacher, student).distiller(teacher)
    judge = types.SimpleNamespace(from_logits=True)
    distiller.compile("sgd", task.loss(info, settings, judge), run_eagerly=True)
    before = student.get_weights()
    loss = distiller.train_on_batch(*batch, return_dict=True)["loss"]
    return loss, [a - b for a, b in zip(student.get_weights(), before, strict=True)]


def test_an_image_half_void_is_the_half_alone():
    random = np.random.default_rng(3)
    images = random.integers(0, 9, (2, 6, 8, 3)).astype("uint8")
    masks = random.integers(0, 4, (2, 6, 8)).astype("uint8")
    half = totals(images[:, :, :4], masks[:, :, :4], None)
    masks[:, :, 4:] = 255
    whole = totals(images, masks, 255)
    np.testing.assert_allclose(whole[0], half[0], rtol=1e-5)
    for own, other in zip(whole[1], half[1], strict=True):
        np.testing.assert_allclose(own, other, rtol=1e-4, atol=1e-7)
    judge = labelled.PixelJudge(of_any_size(), data.pipeline.from_arrays(images, masks), 4, 255)
    alone = data.pipeline.from_arrays(images[:, :, :4], masks[:, :, :4])
    assert judge() == labelled.PixelJudge(of_any_size(), alone, 4)()
    stored = tf.data.Dataset.from_tensors((images, masks, np.ones(2, "float32"), {"output": 7}))
    (batch,) = labelled.without_ignored(stored, 255)
    np.testing.assert_array_equal(batch[2], np.where(masks == 255, 0.0, 2.0))
    np.testing.assert_array_equal(batch[1], np.where(masks == 255, 0, masks))
    assert batch[3]["output"] == 7
    loss, moved = totals(images, 0 * masks + 255, 255)
    assert loss == 0 and not any(own.any() for own in moved)


def of_any_size():
    given = keras.Input((None, None, 3))
    keras.utils.set_random_seed(5)
    return keras.Model(given, layers.Dense(4)(given))
