"""The simulated pump cards: the physics' limits, and a data set like any other."""

import numpy as np
import pytest

from tfkd.data import load
from tfkd.data import rod_pump_cards as pump


@pytest.fixture(scope="module")
def simulated():
    """(wells, positions, loads) of four wells in each condition."""
    labels = np.tile(np.arange(len(pump.CONDITIONS)), 4)
    well = pump.wells(labels, np.random.RandomState(1))
    return well, *pump.simulate(well)


def of(condition, well, values):
    return values[well["label"] == pump.CONDITIONS.index(condition)]


def area(position, load):
    """What is inside of a closed curve: the work of a stroke at the top of the rods."""
    return 0.5 * np.sum(
        position * np.roll(load, -1, axis=-1) - load * np.roll(position, -1, axis=-1), axis=-1
    )


def test_the_rods_top_moves_through_the_stroke(simulated):
    well, positions, _ = simulated
    np.testing.assert_allclose(positions.max(axis=1), well["stroke"])
    np.testing.assert_array_equal(positions[:, 0], 0)


def test_a_stuck_pump_only_stretches_the_rods(simulated):
    well, positions, loads = simulated
    stretched = pump.MODULUS * well["rods"] / well["depth"] * well["stroke"]
    expected = of("stuck", well, well["weight"] + stretched)
    np.testing.assert_allclose(of("stuck", well, loads.max(axis=1)), expected, rtol=0.1)


def test_parted_rods_carry_their_own_weight(simulated):
    well, _, loads = simulated
    whole = of("rod parted", well, well["weight"] * pump.PIECES / well["whole"])
    mean = of("rod parted", well, loads.mean(axis=1))
    np.testing.assert_allclose(mean, of("rod parted", well, well["weight"]), rtol=0.02)
    assert (mean < whole).all()


def test_a_fault_does_less_work_than_the_same_well_without_it(simulated):
    well, positions, loads = simulated
    normal = {name: of("normal", well, values) for name, values in well.items()}
    faults = {
        "none": {},
        "gas": {"gassy": 0.6, "dead": 0.04 * normal["stroke"], "intake": 0.2 * normal["discharge"]},
        "pound": {"supply": 0.4 * normal["stroke"]},
        "travelling": {"travelling": 2 * normal["stroke"]},
        "standing": {"standing": 2 * normal["stroke"]},
    }
    faulty = {
        name: np.concatenate(
            [np.broadcast_to(fault.get(name, values), 4) for fault in faults.values()]
        )
        for name, values in normal.items()
    }
    # A card runs clockwise: up with a high load, down with a low one.
    areas = -area(*pump.simulate(faulty)).reshape(len(faults), 4)
    work = dict(zip(faults, areas, strict=True))
    own = -area(of("normal", well, positions), of("normal", well, loads))
    np.testing.assert_allclose(work["none"], own)
    lifting = normal["plunger"] * (normal["discharge"] - normal["intake"]) * normal["stroke"]
    assert (work["none"] > 0.7 * lifting).all()
    for name in ("gas", "pound", "travelling", "standing"):
        assert (work[name] < 0.8 * work["none"]).all(), name


def test_the_data_set_is_the_same_every_time_and_has_all_conditions():
    images, labels = pump.cards(3, seed=2)
    assert images.shape == (21, 28, 28, 1) and images.dtype == np.uint8
    np.testing.assert_array_equal(labels, list(range(7)) * 3)
    assert images.reshape(21, -1).max(axis=1).min() == 255  # every card has a line
    pump.cards.cache_clear()
    np.testing.assert_array_equal(pump.cards(3, seed=2)[0], images)
    assert (pump.cards(3, seed=3)[0] != images).any()


def test_it_is_loaded_by_name(monkeypatch):
    few = pump.cards(10)
    monkeypatch.setattr(pump, "cards", lambda: few)
    splits = load("rod_pump_cards", image_size=14)
    assert splits.info.sizes == {"train": 50, "validation": 6, "test": 14}
    assert splits.info.image_shape == (14, 14, 1) and splits.info.label_names == pump.CONDITIONS
