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
from tfkd.runs import DistillSettings, distill, evaluate_run, export_run, predict
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
        ({"task": "detection"}, "There are: classification, multi-label, segmentation"),
        ({"task": LABELS, "class_weight": "balanced"}, "class_weight is of classification"),
        ({"task": LABELS, "teacher": ("resnet", "vit")}, "2 teachers are named"),
        ({"task": MASKS, "augment": "crop"}, "pixels of no class"),
        ({"task": MASKS, "student": "resnet"}, '"resnet" for segmentation.*encoder_decoder'),
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


def test_a_run(tmp_path):
    options = {"width": 0.1, "depth": 1}
    settings, own = settings_of(MASKS, student_options=options), tasks.get(MASKS)
    splits = own.load(settings)
    own.build("student", settings, splits.info).save(tmp_path / "teacher.keras")
    settings = settings.replace(teacher=str(tmp_path / "teacher.keras"))
    record = distill(settings, tmp_path / "run")
    assert [row["knowledge"] for row in record["rows"]] == ["labels", "stored"]
    (kept,) = record["knowledge"]
    assert (kept["tensors"], kept["views"]) == ({"output": [32, 32, 4]}, 1)
    assert kept["bytes"] == 24 * (32 * 32 * 4 * 4 + 8)
    student = keras.models.load_model(tmp_path / "run" / "student.keras")
    (found,) = record["figures"]["distilled"]
    images, masks = arrays(splits.test)
    answers = student(images).numpy()
    classes = answers.argmax(-1)
    shares = [
        ((classes == number) & (masks == number)).sum()
        / ((classes == number) | (masks == number)).sum()
        for number in range(4)
    ]
    np.testing.assert_allclose(found["iou"], np.mean(shares), rtol=1e-5)
    assert found["pixel_accuracy"] == (classes == masks).mean()
    assert evaluate_run(tmp_path / "run") == record["figures"]
    with pytest.raises(ValueError, match="this one learns segmentation"):
        predict(tmp_path / "run", ())
    written = ExportSettings(format=("tflite",), quantization=("float32",))
    files = export_run(tmp_path / "run", written)["files"]
    file = tmp_path / "run" / "export" / files["TFLite float32"]
    served = Interpreter(file).run({"image": images[:9].astype("float32")})
    np.testing.assert_allclose(served["logits"], answers[:9], atol=1e-4)
    metadata = read_metadata(file)
    assert metadata["head"] == "logits" and tuple(metadata["labels"]) == splits.info.label_names
    with pytest.raises(ValueError, match="calibrate divides logits of one class of many"):
        export_run(tmp_path / "run", ExportSettings(calibrate=True))
