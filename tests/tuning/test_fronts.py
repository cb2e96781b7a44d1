"""Pareto fronts."""

import itertools

import numpy as np

from tfkd.tuning import pareto


def row(accuracy, parameters):
    return {"accuracy": accuracy, "parameters": parameters}


def test_what_nothing_beats_stays_the_smallest_first():
    rows = [row(0.9, 300), row(0.8, 100), row(0.85, 400), row(0.7, 100), row(0.8, 200)]
    assert pareto(rows, "accuracy", "parameters") == [row(0.8, 100), row(0.9, 300)]


def test_of_equal_rows_the_first_stays():
    rows = [{**row(0.8, 100), "trial": name} for name in "ab"]
    assert pareto(rows, "accuracy", "parameters") == rows[:1]


def test_rows_without_a_figure_are_left_out():
    rows = [row(None, 1), row(float("nan"), 2), row(0.5, None), row(0.4, 9), {}]
    assert pareto(rows, "accuracy", "parameters") == [row(0.4, 9)]
    assert pareto([], "accuracy", "parameters") == []


def test_agrees_with_the_definition_on_random_rows():
    random = np.random.default_rng(0)
    rows = [row(int(a), int(p)) for a, p in random.integers(0, 12, size=(60, 2))]

    def beats(one, other):
        no_worse = one["accuracy"] >= other["accuracy"] and one["parameters"] <= other["parameters"]
        return no_worse and one != other

    front = pareto(rows, lambda r: r["accuracy"], lambda r: r["parameters"])
    expected = [r for r in rows if not any(beats(other, r) for other in rows)]
    assert {tuple(r.values()) for r in front} == {tuple(r.values()) for r in expected}
    assert all(a["parameters"] < b["parameters"] for a, b in itertools.pairwise(front))
