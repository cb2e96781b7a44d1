"""Dividing: disjoint, complete, seeded, in proportion."""

import hashlib

import numpy as np
import pytest

from tfkd.data.splits import check_labels, divide, fingerprint, roles, subset

LABELS = np.repeat([0, 1, 2], [600, 300, 100])


def test_subset_is_exact_and_in_proportion():
    for size in (1, 10, 100, 999, 1000):
        chosen = subset(LABELS, size, seed=1)
        assert len(np.unique(chosen)) == size
        counts = np.bincount(LABELS[chosen], minlength=3)
        np.testing.assert_allclose(counts, np.array([0.6, 0.3, 0.1]) * size, atol=1)


def test_subset_is_seeded_and_follows_a_frozen_stream():
    np.testing.assert_array_equal(subset(LABELS, 50, 1), subset(LABELS, 50, 1))
    assert set(subset(LABELS, 50, 1)) != set(subset(LABELS, 50, 2))
    # One class: the first of RandomState's permutation.
    order = np.random.RandomState(7).permutation(30)
    np.testing.assert_array_equal(subset(np.zeros(30, int), 12, 7), np.sort(order[:12]))


def test_all_three_are_cut_from_train():
    parts = divide({"train": LABELS}, "x", validation_fraction=0.25, seed=5)
    assert {role: len(part.indices) for role, part in parts.items()} == {
        "train": 600,
        "validation": 200,
        "test": 200,
    }
    everything = np.concatenate([part.indices for part in parts.values()])
    assert sorted(everything) == list(range(1000))
    for part in parts.values():
        assert part.split == "train"
        shares = np.bincount(LABELS[part.indices]) / len(part.indices)
        np.testing.assert_allclose(shares, [0.6, 0.3, 0.1], atol=0.01)


def test_the_seed_moves_validation_but_not_test():
    one, other = (divide({"train": LABELS}, "x", seed=seed) for seed in (1, 2))
    np.testing.assert_array_equal(one["test"].indices, other["test"].indices)
    assert set(one["validation"].indices) != set(other["validation"].indices)


def test_published_splits_keep_their_role():
    parts = divide({"train": LABELS, "validation": LABELS[:7], "test": LABELS[:5]}, "x")
    assert {role: (part.split, len(part.indices)) for role, part in parts.items()} == {
        "train": ("train", 1000),
        "validation": ("validation", 7),
        "test": ("test", 5),
    }
    parts = divide({"train": LABELS, "test": LABELS[:5]}, "x")
    assert parts["validation"].split == "train" and len(parts["validation"].indices) == 100
    parts = divide({"train": LABELS, "validation": LABELS[:7]}, "x")
    assert parts["test"].split == "train" and len(parts["train"].indices) == 800


def test_limit_takes_from_train_only():
    full, limited = divide({"train": LABELS}, "x"), divide({"train": LABELS}, "x", limit=50)
    assert len(limited["train"].indices) == 50
    assert set(limited["train"].indices) <= set(full["train"].indices)
    np.testing.assert_array_equal(limited["validation"].indices, full["validation"].indices)
    assert len(divide({"train": LABELS}, "x", limit=10**6)["train"].indices) == 720


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"validation_fraction": 0}, "between 0 and 1; given 0"),
        ({"validation_fraction": 1.5}, "between 0 and 1; given 1.5"),
        ({"limit": 0}, "at least 1, or None; given 0"),
        ({"validation_fraction": 1e-6}, r"too few examples \(1000\) to cut a validation split"),
    ],
)
def test_settings_outside_their_range(settings, message):
    with pytest.raises(ValueError, match=message):
        divide({"train": LABELS}, "x", **settings)


def test_empty_split():
    with pytest.raises(ValueError, match='The test split of "x" is empty'):
        divide({"train": LABELS, "test": LABELS[:0]}, "x")


def test_roles():
    assert roles(["val", "train", "extra"], "x") == {"train": "train", "validation": "val"}
    with pytest.raises(ValueError, match="no train split to learn from; it has: .'test'"):
        roles(["test"], "x")
    with pytest.raises(ValueError, match="validation and val splits"):
        roles(["train", "val", "validation"], "x")


def test_labels_out_of_range_name_the_example():
    check_labels(np.array([0, 2]), 3, "train", "x")
    with pytest.raises(
        ValueError, match='Example 1 of the test split of "x" has label 3; expected 0 to 2'
    ):
        check_labels(np.array([0, 3, -1]), 3, "test", "x")
    with pytest.raises(ValueError, match="Example 2 .* has label -1"):
        check_labels(np.array([0, 2, -1]), 3, "test", "x")


def test_fingerprint_is_sha256_of_the_pieces():
    array = np.array([[1, 2]], np.uint8)
    expected = hashlib.sha256(b"5:train|u1(1, 2)\x01\x02").hexdigest()
    assert fingerprint("train", array) == f"sha256:{expected}"
    assert fingerprint("ab", "c") != fingerprint("a", "bc")
