"""Losses of detectors, on labels and between two of them."""

import copy

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfkd
from tfkd import boxes, losses, regions
from tfkd.losses.assignment import assign, reach
from tfkd.losses.distribution import distribution_divergence
from tfkd.models import detectors

SHAPE = (32, 32, 3)
PADDING = [-1.0] * 6


def table(kind, reference, logits, numbers):
    """Candidates of one image, float32 (1, rows, columns)."""
    parts = (np.asarray(part, "float32") for part in (kind, reference, logits, numbers))
    return np.concatenate([part.reshape(len(kind), -1) for part in parts], axis=1)[None]


def labels(*rows):
    return np.array([[*rows, PADDING]], np.float32)


REFERENCE = [(0, 0, 8, 8), (0, 0, 12, 8), (16, 16, 24, 24), (2, 0, 10, 8)]
# The first fits exactly; the second shares 64 of 96 parts; the last 48 of 80; the third nothing.
LABEL = (4, 4, 8, 8, 0, 1)


def focal(logit, truth):
    p = 1 / (1 + np.exp(-np.float64(logit)))
    p, alpha = (p, 0.25) if truth else (1 - p, 0.75)
    return -alpha * (1 - p) ** 2 * np.log(p)


def smooth(error):
    error = np.abs(error)
    return np.where(error < 1 / 9, error**2 * 4.5, error - 1 / 18)


def test_anchors_find_what_overlaps_them():
    kind = np.ones((1, 4), np.float32)
    own, match = assign(kind, np.float32(REFERENCE)[None], labels(LABEL), distributions=False)
    assert np.asarray(match).tolist() == [[1, 1, -1, 1]]
    np.testing.assert_array_equal(np.asarray(own)[0, 0], LABEL)
    # 24 of 72 parts, and a quarter: neither, and ground.
    reference = np.float32([[(4, 0, 10, 8), (6, 0, 14, 8)]])
    between = labels((4, 4, 8, 8, 0, 0))
    np.testing.assert_array_equal(assign(kind[:, :2], reference, between, False)[1], [[1, -1]])
    reference = np.float32([[(0, 0, 8, 8), (4, 0, 12, 8)]])  # one third is neither
    np.testing.assert_array_equal(assign(kind[:, :2], reference, between, False)[1], [[1, -2]])
    second = np.full((1, 2), boxes.SECOND_LOOK, np.float32)
    reference = np.float32([[(0, 0, 15, 8), (0, 0, 17, 8)]])  # above and below one half
    np.testing.assert_array_equal(assign(second, reference, between, False)[1], [[1, -1]])


def test_every_label_is_found_by_the_anchors_that_overlap_it_most():
    # Squares of 4 in 8 x 8 anchors: a quarter of two of them, less of the third, none of the last.
    small, fit = (8, 4, 4, 4, 0, 0), (20, 4, 8, 8, 0, 1)
    reference = np.float32([[(2, 0, 10, 8), (6, 0, 14, 8), (9, 0, 17, 8), (40, 0, 48, 8)]])
    kind = np.ones((1, 4), np.float32)
    own, match = assign(kind, reference, labels(small), distributions=False)
    assert np.asarray(match).tolist() == [[1, 1, -1, -1]]
    # The label that needs an anchor gets it, even one that another label overlaps more.
    crowded = np.float32([[(16, 0, 24, 8), (8, 0, 20, 8), (40, 0, 48, 8), (40, 0, 48, 8)]])
    own, match = assign(kind, crowded, labels((13, 4, 2, 2, 0, 0), fit), distributions=False)
    assert np.asarray(match).tolist() == [[1, 1, -1, -1]]
    assert np.asarray(own)[0, :2, 5].tolist() == [1, 0]
    # A second look has no such right; rows without meaning and padding take none.
    for kinds in (boxes.SECOND_LOOK, boxes.UNUSED):
        match = assign(kind * 0 + kinds, reference, labels(small), distributions=False)[1]
        assert (np.asarray(match) == -1).all()
    empty = np.array([[PADDING] * 2], np.float32)
    assert (np.asarray(assign(kind, reference, empty, False)[1]) == -1).all()


def test_cells_find_the_smallest_box_around_whose_centre_they_lie():
    # Cells of 4 and of 8 pixels; a box of 16 pixels belongs to the first, one of 32 to the second.
    small, large = (10, 10, 16, 16, 0, 0), (16, 16, 32, 32, 0, 1)
    reference = np.float32([[(8, 8, 12, 12), (20, 20, 24, 24), (8, 8, 16, 16), (24, 24, 32, 32)]])
    kind = np.ones((1, 4), np.float32)
    own, match = assign(kind, reference, labels(large, small), distributions=True)
    assert np.asarray(match).tolist() == [[1, -1, 1, -1]]
    assert np.asarray(own)[0, [0, 2], 5].tolist() == [0, 1]
    # Turned by 45°, a box 20 long and 4 wide has the point (13, 13) inside and (13, 7) outside.
    turned = labels((10, 10, 20, 4, np.pi / 4, 0))
    reference = np.float32([[(11, 11, 15, 15), (11, 5, 15, 9)]])
    assert np.asarray(assign(kind[:, :2], reference, turned, True)[1])[0].tolist() == [1, -1]


def test_how_far_bins_have_to_reach():
    # Half of 24 pixels is 3 cells of 4, and its cells lie up to 1.5 cells off its centre.
    assert reach(labels((20, 20, 24, 6, 0.5, 0)), (2, 3, 4)) == pytest.approx(4.5)
    # A cell inside of a small box lies nowhere beyond it.
    assert reach(labels((20, 20, 8, 4, 0, 0)), (2, 3, 4)) == pytest.approx(2)
    # 200 pixels are of the coarsest level: 100 / 16 cells.
    assert reach(labels((99, 99, 200, 200, 0, 0)), (2, 3, 4)) == pytest.approx(6.25 + 1.5)
    assert reach(np.array([[PADDING]]), (2, 3, 4)) == 0


def test_the_loss_of_anchors_by_hand():
    logits = [(0, 1), (-1, 2), (0.5, -2), (0, 0)]
    numbers = np.array([(0, 0, 0, 0), (0.1, 0, 0, 1), (9, 9, 9, 9), (0, 0, 0, 0)])
    wanted = sum(focal(a, 0) + focal(b, n != 2) for n, (a, b) in enumerate(logits))
    moves = np.zeros((4, 4))
    moves[1] = [0, -2 / 12 / 0.1, 0, np.log(8 / 12) / 0.2]
    moves[3] = [0, -2 / 8 / 0.1, 0, 0]
    wanted += smooth(numbers - moves)[[0, 1, 3]].sum()
    given = table([1] * 4, REFERENCE, logits, numbers)
    loss = losses.DetectionLoss(2, box_weight=1.0)
    assert float(loss(labels(LABEL), given)) == pytest.approx(wanted / 3, rel=1e-4)


def test_of_a_proposal_the_first_logit_alone_counts_and_unused_rows_do_not():
    given = table([0, -1], REFERENCE[:2], [(1, 50), (9, 9)], np.zeros((2, 4)))
    found = losses.DetectionLoss(2)(labels(LABEL), given)
    assert float(found) == pytest.approx(focal(1, 1), rel=1e-5)


def test_a_second_look_is_the_mean_cross_entropy_over_its_rows():
    given = table([2] * 3, REFERENCE[:3], [(1, 2), (0, 0), (0.5, -1)], np.zeros((3, 4)))
    moves = -np.array([0, 2 / 12 / 0.1, 0, np.log(12 / 8) / 0.2])
    entropies = np.logaddexp(0, [[1, -2], [0, 0], [0.5, -1]]).sum(1)  # the third is ground
    wanted = (entropies.sum() + smooth(moves).sum()) / 3
    loss = losses.DetectionLoss(2, box_weight=1.0)
    assert float(loss(labels(LABEL), given)) == pytest.approx(wanted, rel=1e-4)


def test_an_image_without_a_box_teaches_that_there_is_none():
    given = table([1] * 4, REFERENCE, np.zeros((4, 2)), np.zeros((4, 4)))
    empty = np.array([[PADDING] * 2], np.float32)
    assert float(losses.DetectionLoss(2)(empty, given)) == pytest.approx(8 * focal(0, 0), rel=1e-5)
    cells = table([1] * 4, REFERENCE, np.zeros((4, 2)), np.zeros((4, 4 * 8 + 6)))
    found = losses.DetectionLoss(2, angle_bins=6)(empty, cells)
    assert float(found) == pytest.approx(8 * focal(0, 0), rel=1e-5)
    weighed = losses.DetectionLoss(2)(labels(LABEL), given, sample_weight=np.zeros(1))
    assert float(weighed) == 0


def test_exact_distributions_cost_no_more_than_their_entropy():
    label = (10, 10, 16, 16, np.pi / 2, 0)
    reference = np.float32([(8, 8, 12, 12)])
    distances = boxes.distances_to_sides(reference, np.float32([label]))
    around = boxes.periodic_gaussian(np.float32([np.pi / 2]), 6, 1.0).numpy()
    sides = 60 * np.asarray(boxes.two_bins(distances, 8))  # all of them whole numbers: 2
    given = table([1], reference, [(60, -60)], np.concatenate([sides.ravel(), np.log(around[0])]))
    found = losses.DetectionLoss(2, angle_bins=6, box_weight=1.0)(labels(label), given)
    entropy = -(around * np.log(around)).sum()
    assert float(found) == pytest.approx(entropy, rel=1e-3)


# Distributions.


def divergence(teacher, student, temperature):
    """T² KL of softened distributions in float64."""
    logs = []
    for side in (teacher, student):
        side = np.float64(side) / temperature
        logs.append(side - np.log(np.exp(side).sum(axis=-1, keepdims=True)))
    return temperature**2 * (np.exp(logs[0]) * (logs[0] - logs[1])).sum(axis=-1)


@pytest.fixture(scope="module")
def logits():
    random = np.random.default_rng(0)
    return random.normal(size=(2, 2, 5, 8)).astype("float32")


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_the_divergence_is_the_mean_over_the_distributions(logits, temperature):
    teacher, student = logits
    wanted = (
        divergence(teacher[..., :3], student[..., :3], temperature)
        + divergence(teacher[..., 3:], student[..., 3:], temperature)
    ) / 2
    found = distribution_divergence(teacher, student, (3, 5), temperature)
    np.testing.assert_allclose(found, wanted, rtol=1e-4)
    loss = losses.DistributionDistillation((3, 5), temperature)
    assert float(loss(teacher, student)) == pytest.approx(wanted.mean(), rel=1e-4)


def test_a_mask_of_ones_is_the_unmasked_loss_and_one_of_zeros_is_nothing(logits):
    teacher, student = logits
    loss = losses.DistributionDistillation((3, 5), 2.0)
    assert float(loss(teacher, student, np.ones((2, 5)))) == float(loss(teacher, student))
    assert float(loss(teacher, student, np.zeros((2, 5)))) == 0
    half = np.zeros((2, 5))
    half[:, :2] = 1
    values = distribution_divergence(teacher, student, (3, 5), 2.0).numpy()
    assert float(loss(teacher, student, half)) == pytest.approx(values[:, :2].sum() / 10, rel=1e-5)
    for target in (np.ones((2, 5)), np.zeros((2, 5))):  # all positions in one of the two means
        decoupled = losses.DistributionDistillation((3, 5), 2.0, decoupled=True)
        found = decoupled(teacher, student, labels=target)
        assert float(found) == pytest.approx(values.mean(), rel=1e-5)


def test_two_means_count_each_by_itself(logits):
    teacher, student = logits
    values = distribution_divergence(teacher, student, (3, 5), 1.0).numpy()
    target = np.zeros((2, 5))
    target[:, 0] = 1
    loss = losses.DistributionDistillation((3, 5), 1.0, True, 2.0, 0.5)
    wanted = (2 * values[:, 0] + 0.5 * values[:, 1:].mean(axis=1)).mean()
    assert float(loss(teacher, student, labels=target)) == pytest.approx(wanted, rel=1e-5)


def test_bins_that_do_not_fit_are_refused(logits):
    with pytest.raises(ValueError, match="reads 2 distributions of .3, 4. bins, 7 logits"):
        losses.DistributionDistillation((3, 4)).check_shapes((2, 5, 8), (2, 5, 8))
    with pytest.raises(ValueError, match="at least 2"):
        losses.DistributionDistillation(1)
    with pytest.raises(ValueError, match="leave 6 numbers"):
        losses.BoxDistillation(2, 6).check_shapes((None, 5, 19), (None, 5, 19))


# Between two detectors of distributions.


@pytest.fixture(scope="module")
def cells():
    """(teacher, student) candidates of two classes over 8 bins, 6 of the angle."""
    random = np.random.default_rng(1)
    reference = [(x, y, x + 4, y + 4) for y in range(0, 16, 4) for x in range(0, 16, 4)]
    kind = np.ones(16)
    sides = [(random.normal(size=(16, 2)), random.normal(size=(16, 38))) for _ in range(2)]
    return [table(kind, reference, *side) for side in sides]


def parts(teacher, student, temperature):
    """(divergence of the classes, of the boxes) at each position, in float64."""
    classes = sum(
        divergence(*(np.stack([s[0, :, n], 0 * s[0, :, n]], -1) for s in (teacher, student)), 2.0)
        for n in (5, 6)
    )
    ends = (7, 15, 23, 31, 39, 45)
    shapes = [
        divergence(teacher[0, :, a:b], student[0, :, a:b], temperature)
        for a, b in zip(ends, ends[1:], strict=False)
    ]
    return classes, np.mean(shapes, axis=0)


def test_without_its_parts_it_is_the_mean_over_all_positions(cells):
    teacher, student = cells
    classes, shapes = parts(teacher, student, 2.0)
    loss = losses.BoxDistillation(2, 6, 2.0, class_weight=0.5, decoupled=False, weighted=False)
    found = loss(teacher, student, labels=labels((8, 8, 16, 16, 0.4, 1)))
    assert float(found) == pytest.approx((0.5 * classes + shapes).mean(), rel=1e-4)


def test_targets_and_others_are_two_means_weighed_by_how_good_the_teacher_is(cells):
    teacher, student = cells
    label = (8, 8, 16, 16, 0.4, 1)
    classes, shapes = parts(teacher, student, 2.0)
    reference = teacher[:, :, 1:5]
    target = np.asarray(assign(teacher[:, :, 0], reference, labels(label), True)[1])[0] == 1
    assert 0 < target.sum() < 16
    plain = losses.BoxDistillation(2, 6, 2.0, 3.0, 0.5, weighted=False)
    values = classes + shapes
    wanted = 3 * values[target].mean() + 0.5 * values[~target].mean()
    found = plain(teacher, student, labels=labels(label))
    assert float(found) == pytest.approx(wanted, rel=1e-4)
    decoded = boxes.decode(reference, teacher[:, :, 7:], 6).numpy()[0]
    quality = np.clip(boxes.efficient_iou(decoded, np.float32(label)), 0, 1)
    quality *= np.cos(decoded[:, 4] - 0.4) ** 2
    assert quality[target].sum() > 0

    def mean(own, chosen, weights=quality):
        total = weights[chosen].sum()
        return (own[chosen] * weights[chosen]).sum() / total if total else 0.0

    wanted = 3 * (mean(classes, target) + mean(shapes, target))
    wanted += 0.5 * (classes[~target].mean() + mean(shapes, ~target))
    loss = losses.BoxDistillation(2, 6, 2.0, 3.0, 0.5)
    assert float(loss(teacher, student, labels=labels(label))) == pytest.approx(wanted, rel=1e-4)
    # One term has the same weights: of the boxes the quality, of the ground's classes 1.
    everywhere = np.ones(16, bool)
    wanted = 3 * mean(classes, everywhere, np.where(target, quality, 1.0))
    wanted += 3 * mean(shapes, everywhere)
    loss = losses.BoxDistillation(2, 6, 2.0, 3.0, 0.5, decoupled=False)
    assert float(loss(teacher, student, labels=labels(label))) == pytest.approx(wanted, rel=1e-4)


def test_images_without_a_box_and_equal_detectors_cost_nothing_where_they_should(cells):
    teacher, student = cells
    empty = np.array([[PADDING] * 2], np.float32)
    loss = losses.BoxDistillation(2, 6, 2.0)
    assert float(loss(teacher, teacher, labels=empty)) == pytest.approx(0, abs=1e-6)
    classes, _ = parts(teacher, student, 2.0)  # the ground's classes are all there is
    assert float(loss(teacher, student, labels=empty)) == pytest.approx(classes.mean(), rel=1e-4)


# The assistant.


@pytest.fixture(scope="module")
def head():
    keras.utils.set_random_seed(0)
    options = {"width": 0.25, "channels": 6}
    teacher = detectors.two_stage(SHAPE, 3, proposals=9, hidden=10, **options)
    student = detectors.retinanet(SHAPE, 3, **options)
    teacher.trainable = False  # as a Distiller before this one has left it
    loss = losses.HeadAssistance(teacher.get_layer("roi_head"), 3, proposals=5, warm_up=0.5)
    distiller = tfkd.Distiller(
        teacher, student, loss, student_loss_weight=1.0, independent_weights=True
    )
    images = np.random.default_rng(0).uniform(0, 255, (2, *SHAPE)).astype("float32")
    truth = np.array([[(10, 10, 9, 9, 0, 2), PADDING], [PADDING] * 2], np.float32)
    return distiller, loss, images, truth


def test_the_copied_head_gives_the_teachers_outputs_on_the_teachers_features(head):
    distiller, loss, images, _ = head
    candidates = distiller.teacher(images)
    detected = candidates[:, -9:]  # the second stage's rows stand behind the proposals
    maps = [
        keras.Model(distiller.teacher.input, distiller.teacher.get_layer(f"P{level}").output)(
            images
        )
        for level in (2, 3, 4)
    ]
    seen = regions.look(maps, (2, 3, 4), detected[..., 1:5], detectors.PIECES)
    answer = loss.assistant(seen)
    kind, _, logits, regression = boxes.columns(detected, 3)
    assert (np.asarray(kind) == boxes.SECOND_LOOK).any(axis=1).all()
    np.testing.assert_allclose(answer["logits"], logits, atol=1e-5)
    np.testing.assert_allclose(answer["regression"], regression, atol=1e-5)
    own = distiller.teacher.get_layer("roi_head")
    for copied in (loss.assistant, loss.reference):
        assert copied is not own
        for a, b in zip(copied.get_weights(), own.get_weights(), strict=True):
            np.testing.assert_array_equal(a, b)


def test_the_assistant_is_trained_and_the_teachers_head_is_not(head):
    distiller, loss, images, truth = head
    trained = {id(v) for v in distiller.trainable_variables}
    assert len(loss.assistant.trainable_variables) == 8
    assert all(id(v) in trained for v in loss.assistant.variables)
    assert not any(id(v) in trained for v in loss.reference.variables)
    assert {id(v) for v in distiller.student.variables} & trained
    assert not any("roi_head" in layer.name for layer in distiller.student.layers)
    distiller.compile("sgd", losses.DetectionLoss(3))
    with tf.GradientTape() as tape:
        total = distiller.compute_loss(images, truth)
    names = [v.path for v in distiller.trainable_variables]
    gradients = tape.gradient(total, distiller.trainable_variables)
    missing = [n for n, g in zip(names, gradients, strict=True) if g is None]
    assert not missing and np.isfinite(float(total))


def test_with_one_pyramid_and_no_change_between_them_the_hidden_layers_are_one(head):
    distiller, loss, _, truth = head
    random = np.random.default_rng(2)
    maps = [random.normal(size=(2, 32 // 2**n, 32 // 2**n, 6)).astype("float32") for n in (2, 3, 4)]
    towers = [random.normal(size=own.shape).astype("float32") for own in maps]
    candidates = distiller.student(np.zeros((2, *SHAPE), "float32"))
    for layer in loss.linear:
        layer.set_weights([np.eye(10), np.zeros(10)])
    given = (tuple(maps), (*maps, *towers, candidates))

    def value(progress=1.0, **weights):
        before = {name: getattr(loss, name) for name in weights}
        vars(loss).update(weights)
        found = float(loss(*given, labels=truth, progress=progress))
        vars(loss).update(before)
        return found

    assist = value(hidden_weight=0.0, cross_weight=0.0)
    assert assist > 0
    assert value(cross_weight=0.0) == pytest.approx(assist, rel=1e-6)  # the same features: AKD is 0
    # CKD alone, by hand: the tower's cell of each proposal against the teacher's second layer.
    own, rows, valid = regions.propose(candidates, 3, boxes.DETECTION, 5)
    taught = loss.reference(regions.look(maps, (2, 3, 4), own, 7))["fc2"]
    flat = np.concatenate([t.reshape(2, -1, 6) for t in towers], axis=1)
    source = np.take_along_axis(flat, np.asarray(rows)[..., None] // 2, axis=1)
    apart = ((loss.cross(source) - taught) ** 2).numpy().mean(-1) * valid.numpy()
    crossed = (apart.sum(1) / valid.numpy().sum(1)).mean()
    weights = {"assist_weight": 0.0, "hidden_weight": 0.0, "cross_weight": 2.0}
    assert value(**weights) == pytest.approx(2 * crossed, rel=1e-4)
    squares = (np.asarray(taught) ** 2).mean(-1) * valid.numpy()
    share = (apart.sum(1) / squares.sum(1)).mean()
    assert value(normalized=True, **weights) == pytest.approx(2 * share, rel=1e-4)
    # Half of the warm-up (half of the training) is a quarter of it.
    assert value(progress=0.25, **weights) == pytest.approx(crossed, rel=1e-4)
    assert value(progress=0.0, **weights) == 0


def test_without_a_teacher_there_is_the_assistant_alone(head):
    distiller, taught, images, truth = head
    with pytest.raises(ValueError, match="hidden_weight=0 and cross_weight=0"):
        losses.HeadAssistance(detectors.roi_head(6, 3), 3, teacher_free=True)
    loss = losses.HeadAssistance(
        detectors.roi_head(6, 3, hidden=10), 3, (2, 3, 4), 1.0, 0.0, 0.0, teacher_free=True
    )
    assert loss.taught_by == "student"
    alone = tfkd.Distiller(
        None, distiller.student, loss, student_loss_weight=1.0, independent_weights=True
    )
    assert set(loss.parts()) == {"assistant"}
    alone.compile("sgd", losses.DetectionLoss(3))
    assert float(alone.compute_loss(images, truth)) > 0


def test_other_channels_are_refused():
    loss = losses.HeadAssistance(detectors.roi_head(6, 3), 3)
    maps = tuple((None, n, n, 6) for n in (8, 4, 2))
    with pytest.raises(ValueError, match="maps of 6 channels.*same channels="):
        loss.check_shapes(maps, ((None, 8, 8, 4), *maps))


def test_a_saved_loss_is_the_same_loss():
    for loss in (
        losses.BoxDistillation(3, 6, 2.0, 1.0, 0.5, decoupled=False),
        losses.DetectionLoss(3, 6, 0.5),
        losses.HeadAssistance(detectors.roi_head(4, 3, hidden=5), 3, proposals=7),
    ):
        config = keras.saving.serialize_keras_object(loss)
        again = keras.saving.deserialize_keras_object(copy.deepcopy(config))  # Keras empties it
        assert type(again) is type(loss)
        assert keras.saving.serialize_keras_object(again) == config
