"""A teacher of two views: what it says live, stored and restored."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfkd
from tfkd.data.pipeline import from_arrays
from tfkd.data.seeds import view_seed

COUNT = 24


def network(seed, softmax=False):
    keras.utils.set_random_seed(seed)
    image = keras.Input((6, 6, 1), dtype="uint8")
    x = keras.layers.Flatten()(keras.layers.Rescaling(1 / 64)(image))
    x = keras.layers.Dense(4, name="logits")(x)
    return keras.Model(image, keras.layers.Softmax()(x) if softmax else x, name=f"net{seed}")


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).integers(0, 256, (COUNT, 6, 6, 1)).astype("uint8")


def made(teacher):
    source = tfkd.teachers.TwoViews(teacher)
    loss = tfkd.losses.ConfidenceDistillation(2.0)
    built = tfkd.Distiller(source, network(2), loss, separate_inputs=True)
    built.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return built


def test_stored_answers_are_those_of_both_views(images, tmp_path):
    teacher = network(1, softmax=True)
    logits = keras.Model(teacher.input, teacher.get_layer("logits").output)
    distiller = made(teacher)
    data = from_arrays(images, np.arange(COUNT) % 4)
    augment = tfkd.data.augmentation("two_views", share=0.5)
    cache = tfkd.TeacherCache.build(
        tmp_path, distiller, data, augment, 2, batch_size=12, dtype="float32"
    )
    batches = cache.dataset(data, COUNT, shuffle=False, augment=augment)
    next(iter(batches))  # view 0
    x, _, _, known = next(iter(batches))
    given = augment(images, view_seed(np.arange(COUNT), 1))
    augmented = given["teacher"]["augmented"].numpy()[:, None]
    assert 4 < augmented.sum() < 20
    np.testing.assert_array_equal(x["student"], given["student"])
    tolerance = {"rtol": 1e-3, "atol": 1e-3}
    # Of probabilities the logits are known up to a number for each example.
    seen, plain = (centred(logits(given["teacher"][view]).numpy()) for view in ("seen", "plain"))
    known = {name: centred(known[name].numpy()) for name in ("output", "partner")}
    np.testing.assert_allclose(known["output"], seen, **tolerance)
    np.testing.assert_allclose(known["partner"], np.where(augmented, plain, 0), **tolerance)
    # A batch without an augmented image, learnt from what is stored.
    learner = tfkd.Distiller(
        None, network(2), tfkd.losses.ConfidenceDistillation(2.0), teacher_head=cache.heads
    )
    learner.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    plain = {"output": seen.astype("float32"), "partner": np.zeros((COUNT, 4), "float32")}
    data = (x["student"], np.arange(COUNT) % 4, np.ones(COUNT, "float32"), plain)
    learner.evaluate(tf.data.Dataset.from_tensors(data), verbose=0)
    own = keras.ops.log_softmax(learner.student(x["student"]) / 2)
    taught = keras.ops.log_softmax(seen / 2)
    expected = 4 * np.mean(np.sum(np.exp(taught) * (taught - own), axis=1))
    assert float(learner.loss_trackers[0].result()) == pytest.approx(expected, rel=1e-4)


def centred(logits):
    return logits - logits.mean(1, keepdims=True)


def test_a_saved_distiller_has_its_teacher(images, tmp_path):
    distiller = made(network(1))
    x = tfkd.data.augmentation("two_views")(images, view_seed(np.arange(COUNT), 0))
    before = distiller.evaluate(x, np.arange(COUNT) % 4, batch_size=COUNT, verbose=0)
    distiller.save(tmp_path / "distiller.keras")
    restored = keras.models.load_model(tmp_path / "distiller.keras")
    assert isinstance(restored.teacher, tfkd.teachers.TwoViews)
    after = restored.evaluate(x, np.arange(COUNT) % 4, batch_size=COUNT, verbose=0)
    assert after == pytest.approx(before, rel=1e-6)


def test_where_no_image_is_augmented_every_partner_is_0_and_that_is_no_probability(images):
    distiller = made(network(1))
    x = tfkd.data.augmentation("two_views", share=0)(images, view_seed(np.arange(COUNT), 0))
    knowledge = distiller.knowledge(x["teacher"])
    assert not knowledge["partner"].numpy().any()
    assert distiller.matching.unknown_logits(distiller.source.heads) in ([], ["output"])


def test_a_teacher_that_it_cannot_ask_is_refused():
    learning = tfkd.teachers.Learning(network(1), keras.optimizers.Adam())
    for teacher in (lambda x: x, learning):
        with pytest.raises(ValueError, match="keras.Model or a source that answers live"):
            tfkd.teachers.TwoViews(teacher)
    image = keras.Input((6, 6, 1))
    flat = keras.layers.Flatten()(image)
    two = keras.Model(image, {name: keras.layers.Dense(4, name=name)(flat) for name in "ab"})
    with pytest.raises(ValueError, match="only output of a teacher, but this one gives"):
        made(two)
