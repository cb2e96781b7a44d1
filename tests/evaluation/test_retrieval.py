"""Mean average precision of retrieval: by hand, against scikit-learn, and as He et al. sum it."""

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from tfkd.evaluation import retrieval_average_precision


def test_by_hand():
    database = np.array([[1, 1, 1, 1], [1, 1, 1, -1], [1, 1, -1, -1], [-1, -1, -1, -1]])
    labels = np.array([0, 1, 0, 1])
    # Of class 0 at distances 0 and 2: (1/1 + 2/3) / 2. Of class 1, from the other end, at 0 and 3:
    # (1/1 + 2/3) / 2. Both together:
    queries = np.array([[2.0, 0.1, 3.0, 0.5], [-1, -1, -1, -1]])
    found = retrieval_average_precision(queries, [0, 1], database, labels)
    np.testing.assert_allclose(found, (1 + 2 / 3) / 2)
    # A tie: at distance 0 one of two images is wanted, so the precision there is 1/2.
    assert retrieval_average_precision([[1, 1]], [0], [[1, 1], [1, 1], [-1, -1]], [0, 1, 1]) == 0.5
    # A class that the database does not have counts 0.
    assert retrieval_average_precision([[1, 1], [1, 1]], [0, 7], [[1, 1]], [0]) == 0.5


def test_is_scikit_learns_average_precision_of_each_query():
    random = np.random.default_rng(0)
    queries, database = random.normal(size=(300, 12)), random.normal(size=(90, 12))
    asked, labels = random.integers(0, 4, 300), random.integers(0, 4, 90)
    bits = (queries > 0), (database > 0)
    expected = [
        average_precision_score(labels == own, -(code != bits[1]).sum(axis=1))
        for code, own in zip(bits[0], asked, strict=True)
    ]
    found = retrieval_average_precision(queries, asked, database, labels)
    np.testing.assert_allclose(found, np.mean(expected), rtol=1e-12)


def of_the_first(relevant, top):
    """Average precision of one ranking without ties, as the code of He et al. 2024 has it."""
    places = np.flatnonzero(relevant[:top]) + 1.0
    return np.mean(np.arange(1, len(places) + 1) / places) if len(places) else 0.0


def test_of_the_first_images_is_the_papers_figure():
    random = np.random.default_rng(1)
    # The i-th nearest image differs in i bits: no ties. The database is in another order.
    ranked = np.where(np.arange(64) < np.arange(60)[:, None], -1.0, 1.0)
    labels, order = random.integers(0, 5, 60), random.permutation(60)
    labels[:9] = [0, 0, 1, 0, 1, 2, 2, 0, 1]  # of class 3 there is none among the first nine
    queries, asked = np.ones((5, 64)), np.arange(5)
    tops = (1, 9, 37, 60, 1000, None)
    found = retrieval_average_precision(queries, asked, ranked[order], labels[order], tops)
    expected = [np.mean([of_the_first(labels == own, k) for own in asked]) for k in tops]
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    assert found[0] == 0.2 and found[-1] == found[-2] == found[-3]
    alone = retrieval_average_precision(queries, asked, ranked, labels, 9)
    assert alone == pytest.approx(found[1], rel=1e-12)


def test_images_at_the_distance_of_the_last_one_count_alike():
    database, labels = [[1, 1, 1]] * 2 + [[1, 1, -1]] * 4, np.array([0, 1, 0, 0, 0, 1])
    # Of three images the third is one of four, three of which are wanted: 1 · 1/2 + 3/4 · 1.75/3.
    expected = (1 / 2 + 3 / 4 * 1.75 / 3) / 1.75
    for order in (np.arange(6), np.arange(6)[::-1]):
        found = retrieval_average_precision(
            [[1, 1, 1]], [0], np.array(database)[order], labels[order], 3
        )
        assert found == pytest.approx(expected, rel=1e-12)


def test_bad_input():
    codes = np.ones((2, 8))
    with pytest.raises(ValueError, match="no codes of queries"):
        retrieval_average_precision(codes[:0], [], codes, [0, 1])
    with pytest.raises(ValueError, match="no codes of images"):
        retrieval_average_precision(codes, [0, 1], codes[:0], [])
    with pytest.raises(ValueError, match="8 bits cannot be searched in ones of 7"):
        retrieval_average_precision(codes, [0, 1], codes[:, 1:], [0, 1])
    with pytest.raises(ValueError, match="2 codes of images have 3 labels"):
        retrieval_average_precision(codes, [0, 1], codes, [0, 1, 2])
    with pytest.raises(ValueError, match="top is 0; expected at least 1"):
        retrieval_average_precision(codes, [0, 1], codes, [0, 1], 0)
