"""Losses of hash codes against the papers' sums, derived anew in NumPy at float64."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfkd
from tfkd.losses import CodeDistillation, ContrastiveHashing, RobustCodeDistillation, code_clusters
from tfkd.losses.hashing import hard_codes
from tfkd.losses.robust_codes import nearest

IMAGES, BITS, CLUSTERS = 6, 12, 3
RANDOM = np.random.default_rng(4)
TEACHER, STUDENT = RANDOM.normal(size=(2, 2 * IMAGES, BITS))
INDEX = RANDOM.permutation(20)[:IMAGES]
LABELS = INDEX.repeat(2)
NUMBERS = RANDOM.integers(0, CLUSTERS, 20)
# Centers near codes of second views: some land in their image's cluster, some elsewhere.
CENTERS = np.sign(TEACHER[[1, 5, 9]]) * RANDOM.uniform(0.2, 1.0, (CLUSTERS, BITS))
NUMBERS[INDEX[[0, 1, 2]]] = 0, 2, 0
MASKS = (np.abs(CENTERS) > 0.5).astype(float)


def signs(numbers):
    return np.where(np.asarray(numbers) > 0, 1.0, -1.0)


def cosines(first, second):
    lengths = np.linalg.norm(first, axis=-1, keepdims=True)
    others = np.linalg.norm(second, axis=-1, keepdims=True)
    return (first / np.maximum(lengths, 1e-9)) @ (second / np.maximum(others, 1e-9)).T


def log_softmax_of_first(positive, negatives):
    """-log of the share of the positive among itself and the negatives."""
    return np.log1p(np.exp(np.asarray(negatives) - positive).sum())


def cib_hash(numbers, temperature=0.3, weight=0.001):
    """Row by row, first all first views, then all second ones."""
    ordered = np.concatenate([numbers[::2], numbers[1::2]])
    alike = cosines(signs(ordered), signs(ordered)) / temperature
    share = 1 / (1 + np.exp(-ordered))
    values = []
    for row in range(2 * IMAGES):
        other = (row + IMAGES) % (2 * IMAGES)
        rest = [column for column in range(2 * IMAGES) if column not in (row, other)]
        p, q = share[row], share[other]
        divergence = (p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q))).sum()
        contrast = log_softmax_of_first(alike[row, other], alike[row, rest])
        values.append(contrast + weight * divergence)
    return np.array(values).reshape(2, IMAGES).T.ravel()


def brcd(masks, anchor_share=0.8, false_negatives=False, offset_positives=False, temperature=0.3):
    """As the authors' code has it, but masked codes have no part in finding a view's cluster."""
    own, partner, student = signs(TEACHER[::2]), signs(TEACHER[1::2]), signs(STUDENT[::2])
    cluster = NUMBERS[INDEX]
    landed = ((partner[:, None] - CENTERS[None]) ** 2).sum(-1).argmin(1)
    mask = masks[cluster]
    rows = np.concatenate([student * mask, partner * mask])
    alike = cosines(rows, rows) / temperature
    anchor = np.diag(cosines(student, own)) / temperature
    values = []
    for row in range(2 * IMAGES):
        image = row % IMAGES
        keeps = offset_positives or landed[image] == cluster[image]
        share = anchor_share if keeps else 1.0
        positive = share * anchor[image] + (1 - share) * alike[image, image + IMAGES]
        columns = np.concatenate([cluster, cluster if offset_positives else landed])
        rest = [
            column
            for column in range(2 * IMAGES)
            if column % IMAGES != image and (false_negatives or columns[column] != cluster[image])
        ]
        values.append(log_softmax_of_first(positive, alike[row, rest]))
    return np.array(values).reshape(2, IMAGES).T.ravel()


def robust(**settings):
    loss = RobustCodeDistillation(NUMBERS, CENTERS, **settings)
    return loss.call(*map(tf.constant, (TEACHER.astype("f"), STUDENT.astype("f"), LABELS)))


def test_a_bit_has_the_gradient_of_the_sigmoid():
    numbers = tf.constant([-2.0, 0.0, 1e-9, 3.0])
    with tf.GradientTape() as tape:
        tape.watch(numbers)
        codes = hard_codes(numbers)
    np.testing.assert_array_equal(codes, [-1, -1, 1, 1])
    share = 1 / (1 + np.exp(-numbers.numpy().astype(float)))
    np.testing.assert_allclose(tape.gradient(codes, numbers), share * (1 - share), rtol=1e-5)


def test_contrastive_hashing_is_the_papers_sum():
    loss = ContrastiveHashing()
    found = loss.call(tf.constant(LABELS), tf.constant(STUDENT.astype("f")))
    np.testing.assert_allclose(found, cib_hash(STUDENT), rtol=1e-5)
    scalar = loss(LABELS, STUDENT)
    np.testing.assert_allclose(scalar, cib_hash(STUDENT).mean(), rtol=1e-5)
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(loss))
    assert again.get_config() == loss.get_config()
    # One image has nothing to be told from: what is left are the two divergences.
    alone = ContrastiveHashing(divergence_weight=0.0)
    np.testing.assert_allclose(alone.call(LABELS[:2], STUDENT[:2].astype("f")), 0.0, atol=1e-5)


def test_code_distillation_is_twice_the_share_of_bits_that_differ():
    found = CodeDistillation().call(*map(tf.constant, (TEACHER.astype("f"), STUDENT.astype("f"))))
    differ = (signs(TEACHER) != signs(STUDENT)).mean(axis=1)
    np.testing.assert_allclose(found, 2 * differ, rtol=1e-6)


@pytest.mark.parametrize(
    "changes",
    [{}, {"false_negatives": True}, {"offset_positives": True}, {"anchor_share": 0.25}],
    ids=lambda own: "-".join(own) or "paper",
)
def test_robust_code_distillation_is_the_papers_sum(changes):
    np.testing.assert_allclose(robust(masks=MASKS, **changes), brcd(MASKS, **changes), rtol=1e-5)


def test_every_part_of_it_changes_the_sum():
    full = robust(masks=MASKS)
    others = [{"masks": 1 - MASKS}, {"masks": None}, {"false_negatives": True}]
    others += [{"offset_positives": True}, {"anchor_share": 1.0}]
    for changes in others:
        assert np.abs(robust(**({"masks": MASKS} | changes)) - full).max() > 1e-3, changes


def test_a_mask_of_ones_is_the_unmasked_loss():
    ones = np.ones_like(MASKS)
    np.testing.assert_allclose(robust(masks=ones), robust(masks=None), rtol=1e-6)
    np.testing.assert_allclose(robust(masks=None), brcd(ones), rtol=1e-5)
    # That of the released code: zeros. Then the masked half says nothing at all.
    np.testing.assert_allclose(robust(masks=0 * ones), brcd(0 * ones), rtol=1e-5)


def test_without_negatives_or_offset_positives_the_loss_is_zero():
    loss = RobustCodeDistillation(np.zeros(20, int), CENTERS[:1])
    found = loss.call(*map(tf.constant, (TEACHER.astype("f"), STUDENT.astype("f"), LABELS)))
    np.testing.assert_allclose(found, 0.0, atol=1e-6)


def test_the_gradient_goes_to_the_students_first_views_alone():
    teacher, student = (tf.constant(own.astype("f")) for own in (TEACHER, STUDENT))
    with tf.GradientTape() as tape:
        tape.watch([teacher, student])
        loss = RobustCodeDistillation(NUMBERS, CENTERS, MASKS)
        value = tf.reduce_mean(loss.call(tf.stop_gradient(teacher), student, tf.constant(LABELS)))
    gradient = tape.gradient(value, student).numpy()
    assert (np.abs(gradient[::2]).max(axis=1) > 0).all()
    np.testing.assert_array_equal(gradient[1::2], 0.0)


def test_a_saved_loss_is_the_same():
    loss = RobustCodeDistillation(NUMBERS, CENTERS, MASKS, 0.7, 0.5, True, True)
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(loss))
    assert again.get_config() == loss.get_config()
    np.testing.assert_array_equal(again.masks, MASKS)


def test_a_distiller_adds_both():
    def model():
        given = keras.Input((5,))
        return keras.Model(given, keras.layers.Dense(BITS)(given))

    x = RANDOM.normal(size=(2 * IMAGES, 5)).astype("f")
    loss = RobustCodeDistillation(NUMBERS, CENTERS, MASKS)
    teacher, student = model(), model()
    distiller = tfkd.Distiller(
        teacher, student, loss, student_loss_weight=1.0, independent_weights=True
    )
    distiller.compile("sgd", ContrastiveHashing())
    total = distiller.evaluate(x, LABELS, batch_size=2 * IMAGES, verbose=0, return_dict=True)
    own = ContrastiveHashing()(LABELS, student(x))
    taught = loss(teacher(x), student(x), labels=tf.constant(LABELS))
    np.testing.assert_allclose(total["loss"], own + taught, rtol=1e-5)
    with pytest.raises(ValueError, match="learns from pairs of views"):
        distiller.evaluate(x, np.arange(2 * IMAGES), batch_size=2 * IMAGES, verbose=0)
    with pytest.raises(ValueError, match="the clusters of 20 images"):
        distiller.evaluate(x, LABELS + 15, batch_size=2 * IMAGES, verbose=0)


def test_bad_input():
    with pytest.raises(ValueError, match="numbers from 0 to 2, as there are 3 centers"):
        RobustCodeDistillation([0, 3], CENTERS)
    with pytest.raises(ValueError, match="a row for each cluster"):
        RobustCodeDistillation(NUMBERS, CENTERS, MASKS[:, 1:])
    with pytest.raises(ValueError, match="codes of 12 bits"):
        RobustCodeDistillation(NUMBERS, CENTERS).check_shapes((None, 12), (None, 16))
    with pytest.raises(ValueError, match="7 clusters of 6 images"):
        code_clusters(TEACHER[::2], 7)
    with pytest.raises(ValueError, match="got the shape"):
        code_clusters(np.zeros((0, 8)), 2)
    # A batch without an image is no error: there is nothing to learn.
    empty = RobustCodeDistillation(NUMBERS, CENTERS, MASKS).call(
        *map(tf.constant, (TEACHER[:0].astype("f"), STUDENT[:0].astype("f"), LABELS[:0]))
    )
    assert empty.shape == (0,)


def test_clusters_and_their_masks_by_hand():
    group = np.array([[1, 1, 1, -1], [1, 1, -1, -1], [1, 1, 1, -1], [1, -1, -1, -1]])
    codes = np.concatenate([group, -group * [1, 1, 1, 1]])
    found = code_clusters(5.0 * codes, 2)
    first, second = found.numbers[0], found.numbers[4]
    np.testing.assert_array_equal(found.numbers, [first] * 4 + [second] * 4)
    np.testing.assert_array_equal(found.centers[first], [1, 0.5, 0, -1])
    np.testing.assert_array_equal(found.masks(0.5)[first], [1, 0, 0, 1])
    np.testing.assert_array_equal(found.masks(0.4)[second], [1, 1, 0, 1])
    np.testing.assert_array_equal(found.masks(0.5, "undecided"), 1 - found.masks(0.5))
    np.testing.assert_array_equal(nearest(codes.astype("f"), found.centers), found.numbers)


def test_clusters_that_would_be_empty_are_left_out():
    codes = np.repeat([[1.0, 1, 1], [-1, -1, -1]], [5, 3], axis=0)
    found = code_clusters(codes, 4)
    assert found.centers.shape == (2, 3)
    np.testing.assert_array_equal(found.centers[found.numbers], codes)
