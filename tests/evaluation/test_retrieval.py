"""Mean average precision of retrieval: by hand, and against scikit-learn query by query."""

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
