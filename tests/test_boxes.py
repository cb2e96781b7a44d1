"""Boxes as tensors, against closed forms and NumPy in float64."""

import math

import numpy as np
import pytest

from tfkd import boxes

ONE_HOT = 40.0  # a logit beside zeros


def one_hot(places, bins):
    return ONE_HOT * np.eye(bins, dtype=np.float32)[places]


@pytest.mark.parametrize("angle_bin", [0, 4, 17])
def test_bins_of_one_hot_targets_reproduce_the_box(angle_bin):
    # A cell of 4 pixels around (30, 14); the sides lie 1, 2, 3 and 4 cells away.
    reference = np.array([28, 12, 32, 16], np.float32)
    distances = one_hot([1, 2, 3, 4], 8).reshape(-1)
    angle = one_hot(angle_bin, 18)
    found = boxes.decode(reference, np.concatenate([distances, angle]), angle_bins=18).numpy()
    turn = angle_bin * math.pi / 18
    # Seen from the box, the cell is half a cell off its centre along both axes, to the low side.
    along, across = 4.0, 4.0
    x = 30 + along * math.cos(turn) - across * math.sin(turn)
    y = 14 + along * math.sin(turn) + across * math.cos(turn)
    np.testing.assert_allclose(found, [x, y, 16, 24, turn], atol=1e-4)


def test_any_box_comes_back_from_its_distances_and_two_bins():
    random = np.random.default_rng(0)
    reference = np.array([[8, 8, 12, 12]] * 5, np.float32)
    label = np.stack(
        [
            random.uniform(8, 12, 5),
            random.uniform(8, 12, 5),
            random.uniform(14, 24, 5),
            random.uniform(14, 24, 5),
            random.uniform(-0.08, math.pi - 0.09, 5),
        ],
        axis=1,
    ).astype(np.float32)
    distances = boxes.distances_to_sides(reference, label)
    shares = boxes.two_bins(distances, 8)
    np.testing.assert_allclose(np.sum(shares, axis=-1), 1, atol=1e-6)
    np.testing.assert_allclose(boxes.mean_of_bins(np.log(shares + 1e-30)), distances, atol=1e-5)
    back = boxes.box_of_distances(reference, distances, label[:, 4])
    np.testing.assert_allclose(back, label, atol=1e-5)


@pytest.mark.parametrize(
    ("angle", "nearest"), [(0.0, 0), (math.pi - 0.01, 0), (math.pi / 2, 9)], ids=["0", "180", "90"]
)
def test_the_gaussian_of_an_angle_goes_around_and_gives_it_back(angle, nearest):
    shares = boxes.periodic_gaussian(np.float32([angle]), 18, 1.0).numpy()[0]
    steps = angle / (math.pi / 18) - np.arange(18)
    steps = np.minimum(np.abs(steps), 18 - np.abs(steps))
    wanted = np.exp(-(steps**2) / 2)
    np.testing.assert_allclose(shares, wanted / wanted.sum(), atol=1e-6)
    assert shares.argmax() == nearest
    apart = float(boxes.angle_of_bins(np.log(shares))) - angle
    assert abs((apart + math.pi / 2) % math.pi - math.pi / 2) < 1e-3


@pytest.mark.parametrize(
    ("box", "label", "wanted"),
    [
        ((1, 1, 2, 2, 0), (1, 1, 2, 2, 0), 1.0),
        # 2 of 6 are shared; centres 1 apart in a rectangle of 3 x 2.
        ((1, 1, 2, 2, 0), (2, 1, 2, 2, 0), 1 / 3 - 1 / 13),
        # The same, seen from a frame that is turned by a quarter.
        ((1, 1, 2, 2, math.pi / 2), (1, 2, 2, 2, math.pi / 2), 1 / 3 - 1 / 13),
        # A width half as large: half is shared, and 1 of 2 is missing.
        ((2, 1, 1, 2, 0), (2, 1, 2, 2, 0), 1 / 2 - 1 / 4),
    ],
    ids=["itself", "beside", "turned", "narrow"],
)
def test_efficient_iou_by_hand(box, label, wanted):
    found = boxes.efficient_iou(np.float32(box), np.float32(label))
    np.testing.assert_allclose(found, wanted, atol=1e-6)


def test_half_a_turn_is_the_same_box_and_upright_boxes_are_far_from_the_cut():
    reference = np.array([[8, 8, 12, 12]] * 2, np.float32)
    label = np.array([[9, 11, 20, 8, 0.3], [9, 11, 20, 8, 0.3 + math.pi]], np.float32)
    first, second = boxes.distances_to_sides(reference, label).numpy()
    np.testing.assert_allclose(first, second, atol=1e-5)
    np.testing.assert_allclose(boxes.wrapped(np.float32([-0.05, 0.05])), [-0.05, 0.05], atol=1e-6)


def test_four_numbers_move_a_reference_and_back():
    reference = np.array([[0, 0, 8, 8], [4, 4, 20, 12]], np.float32)
    label = np.array([[5, 3, 6, 10, 0, 1], [10, 9, 20, 4, 0, 0]], np.float32)
    numbers = boxes.deltas(reference, label)
    # y before x; shares of the reference, times 10; logarithms of the sizes, times 5.
    np.testing.assert_allclose(
        numbers[0], [-1 / 8 * 10, 1 / 8 * 10, 5 * np.log(10 / 8), 5 * np.log(6 / 8)], atol=1e-5
    )
    np.testing.assert_allclose(boxes.decode(reference, numbers), label[:, :5], atol=1e-4)


def test_corners_of_a_turned_box():
    side = math.sqrt(2)
    found = boxes.corners(np.float32([10, 20, 2, 2, math.pi / 4, 0]))
    np.testing.assert_allclose(found, [10 - side, 20 - side, 10 + side, 20 + side], atol=1e-5)
