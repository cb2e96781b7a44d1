"""Images with boxes: what is drawn, what is refused, what is cut, and flips."""

import math

import numpy as np
import pytest
import tensorflow as tf

from tfkd.data import drawn, labelled_boxes, view_seed

SHAPE = (40, 60, 3)
GOOD = (20, 20, 10, 10, 0, 1)


def checked(*rows):
    return labelled_boxes.check([np.array(rows, float)], SHAPE, 3, 'train split of "x"')


@pytest.fixture(scope="module")
def cells():
    return labelled_boxes.load("cells", limit=20)


@pytest.mark.parametrize(
    ("row", "fault"),
    [
        ((20, 20, 0, 10, 0, 1), "has no size"),
        ((20, 20, 10, -1, 0, 1), "has no size"),
        ((70, 20, 10, 10, 0, 1), "lies outside of its image of 40 x 60 pixels"),
        ((20, -5, 10, 10, 0, 1), "lies outside"),
        ((62, 20, 30, 10, 1.0, 1), "lies outside"),
        ((20, 20, 10, 10, 0, 3), "has a class outside of 0 to 2"),
        ((math.nan, 20, 10, 10, 0, 1), "holds numbers that are none"),
    ],
    ids=["thin", "negative", "right", "above", "turned", "class", "nan"],
)
def test_boxes_that_cannot_be_right_are_named(row, fault):
    with pytest.raises(ValueError, match=f"Box 1 of image 0 of the train split.*{fault}"):
        checked(GOOD, row)


def test_a_box_over_the_edge_is_clipped_and_counted():
    found, clipped = checked(GOOD, (58, 20, 10, 10, 0, 2), (55, 20, 10.001, 10, 0, 2))
    assert clipped == 1
    np.testing.assert_allclose(found[0][:2], [GOOD, (56.5, 20, 7, 10, 0, 2)])


def test_turned_boxes_are_not_cut():
    row = (58, 20, 10, 10, 0.5, 2)
    found, clipped = checked(row)
    assert clipped == 0
    np.testing.assert_allclose(found[0], [row], rtol=1e-6)


def test_images_without_a_box_are_rows_of_padding():
    found, clipped = labelled_boxes.check([np.zeros((0, 6))], SHAPE, 3, "train")
    padded = labelled_boxes.pad([*found, np.array([GOOD])], 2)
    assert clipped == 0
    np.testing.assert_array_equal(padded[0], np.full((2, 6), -1))
    np.testing.assert_array_equal(padded[1], [GOOD, [-1] * 6])


def test_drawn_boxes_are_exact():
    # A bar's pixels just inside of its box are of one colour, those just outside of another.
    images, labels = drawn.rotated_shapes()["test"]
    bar = drawn.SHAPES.index("bar")
    number, rows = next((n, own) for n, own in enumerate(labels) if bar in own[:, 5])
    image = images[number].astype(float)
    y, x = np.mgrid[: drawn.SIZE, : drawn.SIZE] + 0.5
    row = next(own for own in rows if own[5] == bar)
    turn = row[4]
    along = (x - row[0]) * np.cos(turn) + (y - row[1]) * np.sin(turn)
    across = (y - row[1]) * np.cos(turn) - (x - row[0]) * np.sin(turn)
    inside = (abs(along) < row[2] / 2 - 1) & (abs(across) < row[3] / 2 - 1)
    ring = (abs(along) < row[2] / 2 + 2) & (abs(across) < row[3] / 2 + 2)
    ring &= (abs(along) > row[2] / 2 + 1) | (abs(across) > row[3] / 2 + 1)
    apart = np.abs(image[inside].mean(0) - image[ring].mean(0)).max()
    assert apart > 40
    assert image[inside].std(0).max() < apart / 2


def test_the_drawn_sets_are_the_same_every_time(cells):
    assert cells.info.sizes == {"train": 20, "validation": 48, "test": 48}
    assert cells.info.label_names == drawn.CELLS
    again = labelled_boxes.load("cells", limit=20)
    assert again.info == cells.info
    assert labelled_boxes.load("cells", limit=19).info.fingerprint != cells.info.fingerprint


def test_image_size_moves_the_boxes_along(cells):
    half = labelled_boxes.load("cells", image_size=32, limit=20)
    image, labels = next(iter(half.train))
    whole = next(iter(cells.train))[1].numpy()
    assert image.shape == (32, 32, 3)
    known = whole[:, 5] >= 0
    np.testing.assert_allclose(labels.numpy()[known, :4], whole[known, :4] / 2, rtol=1e-6)
    np.testing.assert_array_equal(labels.numpy()[known, 4:], whole[known, 4:])


def test_a_flip_mirrors_pixels_and_boxes_and_leaves_padding():
    dataset = labelled_boxes.load("rotated_shapes", limit=12).train
    plain, augment = next(iter(dataset.batch(12))), labelled_boxes.mirroring(64)
    seeds = view_seed(tf.range(12), 0, 1)
    mirrored = augment(plain[0], seeds), augment.labels(plain[1], seeds)
    swapped = [
        not np.array_equal(a, b) for a, b in zip(plain[0].numpy(), mirrored[0].numpy(), strict=True)
    ]
    assert 0 < sum(swapped) < 12
    index = swapped.index(True)
    np.testing.assert_array_equal(mirrored[0][index], plain[0][index].numpy()[:, ::-1])
    before, after = plain[1][index].numpy(), mirrored[1][index].numpy()
    known = before[:, 5] >= 0
    np.testing.assert_allclose(after[known, 0], 64 - before[known, 0])
    np.testing.assert_allclose(after[known, 4], math.pi - before[known, 4], atol=1e-6)
    np.testing.assert_array_equal(after[~known], before[~known])


def test_a_name_that_is_none():
    with pytest.raises(ValueError, match='No data set of boxes "bcdd".*cells'):
        labelled_boxes.load("bcdd")
