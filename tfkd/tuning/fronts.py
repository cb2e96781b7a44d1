"""The trials of which none is better in both of two respects."""

import math


def pareto(rows, maximize, minimize):
    """The rows that no other row beats: accuracy against size or latency, say.

    A row is beaten by one that is at least as good in both respects and better in one. Of rows that
    are equal in both, the first stays. Rows that lack one of the two figures are left out.

    Args:
        rows: list of dicts, as `trials` returns them, or anything that the keys understand.
        maximize: figure of which more is better: the name of a row's entry, or a function of the
            row such as `lambda row: row["mean"].get("val_accuracy")`.
        minimize: figure of which less is better, in the same way.

    Returns:
        list of rows, the smallest first.
    """
    good, cheap = _key(maximize), _key(minimize)
    known = [row for row in rows if _figure(good(row)) and _figure(cheap(row))]
    front = []
    for row in sorted(known, key=lambda row: (cheap(row), -good(row))):  # stable: equal rows
        if not front or good(row) > good(front[-1]):
            front.append(row)
    return front


def _key(given):
    return given if callable(given) else lambda row: row.get(given)


def _figure(value):
    return value is not None and math.isfinite(value)
