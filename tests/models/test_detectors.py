"""Detectors: where their candidates lie, what regions show, what is left of overlaps."""

import keras
import numpy as np
import pytest

from tfkd import boxes, regions
from tfkd.models import detectors, with_detections
from tfkd.models.detections import Suppression, best_candidates, detector_layout

SHAPE = (32, 48, 3)
POSITIONS = 8 * 12 + 4 * 6 + 2 * 3


def test_a_dense_detector_has_two_anchors_at_each_position(retinanet):
    assert retinanet.output_shape == (None, 2 * POSITIONS, 5 + 3 + 4)
    found = np.asarray(retinanet(np.zeros((2, *SHAPE), "float32")))
    kind, reference, logits, _ = boxes.columns(found, 3)
    assert (kind == boxes.DETECTION).all()
    sizes = reference[0, :, 2] - reference[0, :, 0]
    assert sorted(set(sizes[: 2 * 8 * 12])) == [8, 12]  # level 2: cells of 4 pixels, rounded
    assert sizes.max() == 44 and (reference[0] == reference[1]).all()
    # They lie around the middles of their cells; the next position is one cell to the right.
    middles = (reference[0, :, :2] + reference[0, :, 2:]) / 2
    np.testing.assert_array_equal(middles[:2], [[2, 2]] * 2)
    np.testing.assert_array_equal(middles[-2:], [[40, 24]] * 2)
    np.testing.assert_array_equal(reference[0, 2] - reference[0, 0], [4, 0, 4, 0])
    assert np.abs(logits - detectors.PRIOR).max() < 1


def test_a_detector_of_distributions_has_its_cells_as_references():
    model = detectors.distribution_detector(SHAPE, 2, width=0.25, channels=4, angle_bins=6)
    assert model.output_shape == (None, POSITIONS, 5 + 2 + 4 * 8 + 6)
    assert detector_layout(model) == (2, 6)
    reference = np.asarray(model(np.zeros((1, *SHAPE), "float32")))[0, :, 1:5]
    np.testing.assert_array_equal(reference[1], [4, 0, 8, 4])
    np.testing.assert_array_equal(reference[8 * 12 + 6], [0, 8, 8, 16])
    np.testing.assert_array_equal(reference[-1], [32, 16, 48, 32])
    with pytest.raises(ValueError, match="turned boxes.*tfkd.evaluation.suppressed"):
        with_detections(model)


def test_a_saved_detector_is_the_same(retinanet, tmp_path):
    path = tmp_path / "detector.keras"
    retinanet.save(path)
    images = np.random.default_rng(0).uniform(0, 255, (1, *SHAPE)).astype("float32")
    np.testing.assert_array_equal(keras.models.load_model(path)(images), retinanet(images))


def strided(strides):
    """A network of one convolution for each stride."""
    x = image = keras.Input(SHAPE)
    for number, stride in enumerate(strides):
        x = keras.layers.Conv2D(4, 3, stride, "same", name=f"conv{number}")(x)
        x = keras.layers.ReLU(name=f"relu{number}")(x)
    return keras.Model(image, x, name="strided")


def of_keras_hub():
    import keras_hub

    return keras_hub.models.ResNetBackbone(
        input_conv_filters=[64],
        input_conv_kernel_sizes=[7],
        stackwise_num_filters=[64, 64, 64],
        stackwise_num_blocks=[1, 1, 1],
        stackwise_num_strides=[1, 2, 2],
        block_type="basic_block",
        image_shape=SHAPE,
    )


@pytest.mark.parametrize("backbone", ["MobileNet", strided([4, 2, 2]), of_keras_hub])
def test_another_network_is_the_backbone_and_is_trained(backbone, tmp_path):
    given = backbone() if callable(backbone) and not isinstance(backbone, keras.Model) else backbone
    model = detectors.retinanet(SHAPE, 3, channels=4, backbone=given)
    assert model.output_shape == (None, 2 * POSITIONS, 5 + 3 + 4)
    inside = model.get_layer("backbone")
    sizes = [tuple(output.shape[1:3]) for output in inside.outputs]
    assert sizes == [(8, 12), (4, 6), (2, 3)]
    assert {id(w) for w in inside.trainable_weights} <= {id(w) for w in model.trainable_weights}
    images = np.random.default_rng(0).uniform(0, 255, (1, *SHAPE)).astype("float32")
    model.save(tmp_path / "detector.keras")
    again = keras.models.load_model(tmp_path / "detector.keras")
    np.testing.assert_array_equal(again(images), model(images))


def test_a_backbone_s_last_map_of_each_size_is_taken():
    model = detectors.retinanet(SHAPE, 3, channels=4, backbone=strided([4, 1, 2, 2]))
    own = strided([4, 1, 2, 2])
    images = np.random.default_rng(0).uniform(0, 255, (1, *SHAPE)).astype("float32")
    own.set_weights(model.get_layer("backbone").get_weights())
    ends = keras.Model(own.input, [own.get_layer(f"relu{n}").output for n in (1, 2, 3)])
    for found, wanted in zip(model.get_layer("backbone")(images), ends(images), strict=True):
        np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"backbone": "mobilenet"}, 'Unknown backbone .*Did you mean "MobileNet"'),
        ({"backbone": "resnet"}, "Unknown backbone 'resnet'"),
        (
            {"backbone": strided([2, 4])},
            '"strided" has no map of 8 x 12, 2 x 3.*this one has 32 x 48, 16 x 24, 4 x 6',
        ),
        ({"backbone": "MobileNet", "width": 0.5}, "leave the backbone out"),
        ({"backbone": strided([4, 2, 2]), "weights": "x.h5"}, "weights are of a backbone"),
        ({"weights": "imagenet"}, "weights are of a backbone of keras.applications: name one"),
    ],
    ids=["case", "own", "sizes", "width", "weights", "alone"],
)
def test_backbones_that_do_not_fit(options, message):
    with pytest.raises(ValueError, match=message):
        detectors.retinanet(SHAPE, 3, **options)


@pytest.mark.parametrize(
    ("name", "shape", "options", "message"),
    [
        ("retinanet", (30, 48, 3), {}, "30 x 48 pixels do not fit"),
        ("yolo", SHAPE, {}, "No detector 'yolo'. There are: retinanet"),
    ],
)
def test_what_cannot_be_built(name, shape, options, message):
    with pytest.raises(ValueError, match=message):
        detectors.build(name, shape, 3, **options)
    with pytest.raises(TypeError, match="no option 'depht'. Its options: width"):
        detectors.build("retinanet", SHAPE, 3, depht=2)


def test_regions_show_a_map_at_the_middles_of_their_parts():
    # A map whose values are the pixel coordinates of its cells' middles: what is looked at is the
    # coordinate of the sample itself.
    maps = []
    for level in (2, 3):
        y, x = np.mgrid[: 32 // 2**level, : 48 // 2**level] * 2.0**level + 2 ** (level - 1)
        maps.append(np.stack([x, y, np.full_like(x, level)], axis=-1)[None].astype("float32"))
    places = np.array([[[8, 6, 22, 13], [4, 4, 40, 28]]], np.float32)
    seen = np.asarray(regions.look(maps, (2, 3), places, 7))
    assert seen.shape == (1, 2, 7, 7, 3)
    # The first is about 10 pixels large, 2.5 cells of level 2; the second 29, level 3.
    assert (seen[0, 0, ..., 2] == 2).all() and (seen[0, 1, ..., 2] == 3).all()
    for region, (left, top, right, bottom) in zip(seen[0], places[0], strict=True):
        across = left + (np.arange(7) + 0.5) * (right - left) / 7
        down = top + (np.arange(7) + 0.5) * (bottom - top) / 7
        np.testing.assert_allclose(region[..., 0], np.tile(across, (7, 1)), atol=1e-4)
        np.testing.assert_allclose(region[..., 1], np.tile(down[:, None], (1, 7)), atol=1e-4)


def row(kind, corners, logits, numbers=(0, 0, 0, 0)):
    return [kind, *corners, *logits, *numbers]


ROWS = np.array(
    [
        [
            row(1, (0, 0, 10, 10), (2, -9)),
            row(1, (1, 0, 11, 10), (3, -9)),  # over the first, and better
            row(1, (1, 0, 11, 10), (-9, 1)),  # of another class
            row(1, (20, 20, 30, 30), (0, -9)),
            row(0, (40, 40, 50, 50), (5, 0)),  # a proposal
            row(-1, (60, 60, 70, 70), (9, 9)),  # without meaning
        ]
    ],
    np.float32,
)


def sigmoid(x):
    return 1 / (1 + np.exp(-np.float64(x)))


def test_suppression_keeps_the_best_of_a_class_and_says_how_many():
    answer = {n: np.asarray(v) for n, v in Suppression(2, most=5, least=0.05)(ROWS).items()}
    assert answer["count"].tolist() == [3]
    np.testing.assert_array_equal(answer["classes"], [[0, 1, 0, -1, -1]])
    np.testing.assert_allclose(answer["scores"], [[*map(sigmoid, (3, 1, 0)), 0, 0]], rtol=1e-6)
    wanted = [(1, 0, 11, 10), (1, 0, 11, 10), (20, 20, 30, 30), (0, 0, 0, 0), (0, 0, 0, 0)]
    np.testing.assert_allclose(answer["boxes"], [wanted], atol=1e-5)


def test_the_best_candidates_are_all_there():
    found, scores, classes = (np.asarray(v)[0] for v in best_candidates(ROWS, 2, most=4))
    np.testing.assert_allclose(scores, list(map(sigmoid, (3, 2, 1, 0))), rtol=1e-6)
    assert classes.tolist() == [0, 0, 1, 0]
    np.testing.assert_allclose(found[1], [5, 5, 10, 10, 0], atol=1e-5)


def test_proposals_are_of_their_kind_and_say_where_there_are_no_more():
    places, rows, valid = (np.asarray(v)[0] for v in regions.propose(ROWS, 2, boxes.DETECTION, 4))
    # The third row is the second's box: overlaps above 0.7 go, whatever the class; the first two
    # share 9 of 11 parts.
    assert valid.tolist() == [True, True, False, False]
    assert rows[:2].tolist() == [1, 3]
    np.testing.assert_allclose(places[:2], [(1, 0, 11, 10), (20, 20, 30, 30)], atol=1e-5)
    _, rows, valid = (np.asarray(v)[0] for v in regions.propose(ROWS, 2, boxes.PROPOSAL, 2))
    assert valid.tolist() == [True, False] and rows[0] == 4


def test_more_boxes_are_asked_for_than_there_are():
    found, scores, classes = (np.asarray(v)[0] for v in best_candidates(ROWS, 2, most=100))
    assert len(found) == len(scores) == len(classes) == 12  # six rows of two classes
    answer = {n: np.asarray(v) for n, v in Suppression(2, most=100)(ROWS).items()}
    assert answer["count"].tolist() == [3] and answer["boxes"].shape == (1, 100, 4)
    places, rows, valid = (np.asarray(v)[0] for v in regions.propose(ROWS, 2, boxes.DETECTION, 600))
    assert valid.tolist() == [True] * 2 + [False] * 598
    assert places.shape == (600, 4) and (rows[2:] == rows[0]).all()


@pytest.fixture(scope="module")
def retinanet():
    keras.utils.set_random_seed(0)
    return detectors.retinanet(SHAPE, 3, width=0.25, channels=4)
