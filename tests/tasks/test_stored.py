"""Answers of dense teachers, stored: who learns from them learns what the teacher says live.

The teachers' numbers are whole, or halves, quarters and so on, or looked up: whatever batch an
example stands in, no digit of them changes.
"""

import functools
import types

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import tfkd
from tfkd import TeacherCache, boxes, recipes, tasks
from tfkd.losses import BoxDistillation, LogitsDistillation
from tfkd.models import detectors
from tfkd.models.candidates import Candidates
from tfkd.runs import knowledge, lessons
from tfkd.settings import DistillSettings
from tfkd.teachers.cache.layout import from_top_k, top_k

BATCH, VIEWS = 4, 2


def whole(shape, dtype=None):
    """Weights in eighths."""
    return np.random.default_rng(0).integers(-8, 9, shape).astype("float32") / 8


def segmenter(info, exact):
    kernel = whole if exact else "glorot_uniform"
    image = keras.Input(info.image_shape)
    x = layers.Rescaling(1 / 256)(image)
    return keras.Model(
        image, layers.Conv2D(info.num_classes, 3, padding="same", kernel_initializer=kernel)(x)
    )


def detector(info, exact):
    kernel = whole if exact else "glorot_uniform"
    image, bins = keras.Input(info.image_shape), detectors.ANGLE_BINS
    x = layers.Rescaling(1 / 64)(layers.AveragePooling2D(8)(image))
    x = layers.Reshape((-1, info.image_shape[-1]))(x)
    parts = [layers.Dense(units, kernel_initializer=kernel)(x) for units in (3, 4 * 3 + bins)]
    shape = (info.image_shape, info.num_classes, (3,), boxes.DETECTION)
    return keras.Model(image, Candidates(*shape, scales=0, angle_bins=bins)(*parts))


def language_model(info, exact):
    size, tokens = info.vocabularies[0].size, keras.Input((None,), dtype="int32", name="tokens")
    if exact:
        return keras.Model(tokens, layers.Embedding(size, size)(tokens))
    return keras.Model(tokens, layers.Dense(size)(layers.Embedding(size, 3)(tokens)))


def translator(info, exact):
    sizes = [known.size for known in info.vocabularies]
    given = {name: keras.Input((None,), dtype="int32", name=name) for name in ("source", "target")}
    if exact:
        first = layers.Embedding(sizes[0], sizes[1])(given["source"])[:, :1]
        return keras.Model(given, first + layers.Embedding(sizes[1], sizes[1])(given["target"]))
    x = layers.Embedding(sizes[1], 3, mask_zero=True)(given["target"])
    return keras.Model(given, layers.Dense(sizes[1])(x))


def boxes_as(info):
    return BoxDistillation(info.num_classes, detectors.ANGLE_BINS)


CASES = {
    "segmentation": (
        segmenter,
        lambda info: LogitsDistillation(2.0),
        lambda: DistillSettings(task="segmentation", augment="flip", limit=8, batch_size=BATCH),
    ),
    "detection": (
        detector,
        boxes_as,
        lambda: recipes.get("chen2024").settings(limit=8, batch_size=BATCH),
    ),
    "language": (
        language_model,
        lambda info: LogitsDistillation(2.0),
        lambda: recipes.get("tatarnikova2025").settings(length=8, limit=8, batch_size=BATCH),
    ),
    "translation": (
        translator,
        lambda info: LogitsDistillation(2.0),
        lambda: recipes.get("wan2023").settings(
            length=9, limit=8, batch_size=BATCH, monolingual=0.5
        ),
    ),
}


class Case:
    """A task's settings and data, an exact teacher, and a store of its answers."""

    def __init__(self, name, folder):
        self.build, self.loss, settings = CASES[name]
        self.settings, self.task = settings(), tasks.get(name)
        splits = self.task.load(self.settings)
        self.train, self.info = splits.train, splits.info
        keras.utils.set_random_seed(0)
        self.teacher = self.build(self.info, exact=True)
        self.augment = self.task.augmentation(self.settings, self.info)
        self.views = 1 if self.augment is None else VIEWS
        self.stored = self.store(folder / "float32", dtype="float32")

    def store(self, folder, **options):
        examples, asking = self.task.examples(self.train, self.info), self.distiller(self.teacher)
        given = (folder, asking, examples, self.augment, self.views, BATCH)
        return TeacherCache.build(*given, seed=self.settings.seed, verbose=0, **options)

    def distiller(self, teacher, **options):
        keras.utils.set_random_seed(1)
        student = self.build(self.info, exact=False)
        return tfkd.Distiller(teacher, student, self.loss(self.info), **options)

    def batches(self, stored=None):
        given = (self.train, self.settings, 7, self.info)
        return self.task.batches(*given, views=self.views, stored=stored)

    @functools.cached_property
    def first(self):
        """The first batch, without answers and with them."""
        return tuple(next(iter(self.batches(own))) for own in (None, self.stored))

    def ready(self, stored=None):
        if stored is None:
            made = self.distiller(self.teacher)
        else:
            made = self.distiller(None, teacher_head=stored.heads)
            shapes = self.task.trimmed_shapes(stored.knowledge_shapes)
            made.build_from_config({"knowledge_shapes": shapes})
        judge = types.SimpleNamespace(from_logits=True)
        made.compile("sgd", self.task.loss(self.info, self.settings, judge), run_eagerly=True)
        return made

    def trained(self, batch, stored=None):
        """(weights of the student before a step, and after it)."""
        made = self.ready(stored)
        before = made.student.get_weights()
        made.train_step(batch)
        return before, made.student.get_weights()


@pytest.fixture(scope="module")
def cases(tmp_path_factory):
    """Function of a task's name -> its `Case`, made once."""
    return functools.cache(lambda name: Case(name, tmp_path_factory.mktemp(name)))


@pytest.fixture(params=CASES)
def case(request, cases):
    return cases(request.param)


def test_batches_of_a_store_are_the_live_ones_and_what_the_teacher_says_of_them(case):
    """To the last bit, in two epochs: other orders, and where images are augmented other views."""
    stored, live, seen = case.batches(case.stored), case.batches(), []
    for _ in range(2):
        for (x, y, weights, said), (own, labels) in zip(stored, live, strict=True):
            parts, wanted = (keras.tree.flatten(part) for part in ((x, y), (own, labels)))
            for a, b in zip(parts, wanted, strict=True):
                np.testing.assert_array_equal(a, b)
            np.testing.assert_array_equal(weights, np.ones(len(y)))
            assert set(said) == {"output", "index"}
            np.testing.assert_array_equal(said["output"], case.teacher(own))
            seen += [row.numpy().tobytes() for row in parts[0]]
    examples = case.info.sizes["train"]
    assert len(seen) == 2 * examples
    assert (len(set(seen)) > examples) == (case.augment is not None)


def test_a_step_on_stored_answers_is_a_step_with_the_teacher(case):
    plain, answered = case.first
    before, live = case.trained(plain)
    for own, wanted in zip(case.trained(answered, case.stored)[1], live, strict=True):
        np.testing.assert_array_equal(own, wanted)
    assert any(np.abs(a - b).max() > 1e-4 for a, b in zip(live, before, strict=True))


def test_half_precision_costs_the_digits_that_it_has_not(cases, tmp_path):
    case = cases("language")
    half = case.store(tmp_path / "half", dtype="float16")
    (plain, answered), rounded = case.first, next(iter(case.batches(half)))
    np.testing.assert_allclose(rounded[3]["output"], answered[3]["output"], 2**-11, 2**-25)
    live = case.trained(plain)[1]
    for own, wanted in zip(case.trained(rounded, half)[1], live, strict=True):
        np.testing.assert_allclose(own, wanted, rtol=0, atol=1e-6)


def test_the_largest_logits_of_each_pixel_and_what_is_left(cases, tmp_path):
    """Two of four classes: the other two share the probability that the two leave, pixel by pixel,
    at the temperature that the store was built for."""
    segmentation, temperature = cases("segmentation"), 2.0
    options = {"dtype": "float32", "top_k": 2, "temperature": temperature}
    kept = segmentation.store(tmp_path / "two", **options)
    x, _, _, said = next(iter(segmentation.batches(kept)))
    logits = segmentation.teacher(x).numpy().astype("float64")
    order = np.argsort(-logits, axis=-1, kind="stable")
    rest = np.take_along_axis(logits, order[..., 2:], -1) / temperature
    wanted = logits.copy()
    shared = temperature * np.log(np.exp(rest).mean(axis=-1, keepdims=True))
    np.put_along_axis(wanted, order[..., 2:], np.repeat(shared, 2, axis=-1), -1)
    np.testing.assert_allclose(said["output"], wanted, rtol=1e-5, atol=1e-6)
    assert np.abs(wanted - logits).max() > 0.1
    # Of each pixel: two logits, two classes of two bytes, and one logit.
    records = sum(file.stat().st_size for file in (tmp_path / "two").glob("*.npy"))
    height, width, _ = segmentation.info.image_shape
    record = 8 + height * width * (2 * 4 + 2 * 2 + 4)
    assert 0 <= records - 8 * VIEWS * record < 4096  # heads of files
    # With all but one of the classes nothing is lost.
    every = from_top_k(*top_k(tf.constant(logits, tf.float32), 3, temperature), 4)
    np.testing.assert_allclose(every, logits, rtol=1e-5, atol=1e-6)


def test_answers_at_masked_positions_count_nowhere(cases):
    case = cases("translation")
    made = case.ready(case.stored)
    x, y, weights, said = case.first[1]
    padded = y.numpy()[..., None] == 0
    assert 0 < padded.sum() < padded.size
    junk = tf.where(padded, 50.0 * tf.reverse(said["output"], [-1]), said["output"])
    first, second = (
        float(made.test_step((x, y, weights, {**said, "output": output}))["loss"])
        for output in (said["output"], junk)
    )
    assert first == second
    elsewhere = tf.where(padded, said["output"], 50.0 * said["output"])
    third = made.test_step((x, y, weights, {**said, "output": elsewhere}))["loss"]
    assert abs(float(third) - first) > 1e-3


def test_a_run_stores_what_a_task_replays(case):
    """What the engine plans for the row of plain distillation."""
    lesson = lessons.Lesson(
        *(0, 0, 0, 1.0),
        types.SimpleNamespace(train=case.train, validation=None, info=case.info),
        types.SimpleNamespace(model=case.teacher, source=lambda model: model),
        case.settings,
    )
    tensors = knowledge.tensors_of(case.distiller(case.teacher), lesson.examples)
    held = case.stored.knowledge_shapes
    assert {name: (None, *shape) for name, shape in tensors.items()} == held
    assert lesson.augmented == (case.augment is not None)
    assert lesson.wanted_views == (1 if case.augment is None else case.settings.epochs)
    assert case.task.storable({"output"})
    assert case.task.storable({"output", "encoder"}) == (case.task.name != "translation")
