"""Retrieval by hash codes: how well images of a class are found by the Hamming distance."""

import numpy as np

_AT_ONCE = 256  # queries, whose distances to the whole database stand in memory


def retrieval_average_precision(queries, query_labels, database, database_labels):
    """Mean over the queries of the average precision over the whole ranked database.

    The database is ranked by the Hamming distance of codes; images of the query's class are what is
    looked for. Distances tie often: all images of one distance are found at once, so that the
    average precision is the sum over the distances of (precision so far) · (share that is found at
    this distance), which is `sklearn.metrics.average_precision_score` of the negative distances.

    Args:
        queries: a number for each bit, shape (queries, bits); the bit is whether it is above 0.
        query_labels: classes, shape (queries,).
        database: the same of what is searched, of as many bits.
        database_labels: classes, shape (images,).

    Returns:
        float from 0 to 1. A query of a class that the database does not have counts 0.

    Raises:
        ValueError: no query, an empty database, or codes and labels that do not fit.
    """
    codes = [_signs(queries, query_labels, "queries"), _signs(database, database_labels, "images")]
    bits = codes[0].shape[1]
    if codes[1].shape[1] != bits:
        raise ValueError(f"Codes of {bits} bits cannot be searched in ones of {codes[1].shape[1]}.")
    query_labels, database_labels = np.asarray(query_labels), np.asarray(database_labels)
    total = 0.0
    for start in range(0, len(query_labels), _AT_ONCE):
        rows = slice(start, start + _AT_ONCE)
        distances = np.rint((bits - codes[0][rows] @ codes[1].T) / 2).astype(np.int64)
        relevant = query_labels[rows, None] == database_labels[None]
        total += _average_precisions(distances, relevant, bits).sum()
    return float(total / len(query_labels))


def _average_precisions(distances, relevant, bits):
    """Average precision of each query.

    Args:
        distances: int array (queries, images), 0 to `bits`.
        relevant: bool array (queries, images).
    """
    size = (len(distances), bits + 1)
    places = distances + (bits + 1) * np.arange(len(distances))[:, None]
    at = [
        np.bincount(own, minlength=size[0] * size[1]).reshape(size).astype(float)
        for own in (places[relevant], places.ravel())
    ]
    found, seen = (counts.cumsum(axis=1) for counts in at)
    precision = found / np.maximum(seen, 1.0)
    return (at[0] * precision).sum(axis=1) / np.maximum(found[:, -1], 1.0)


def _signs(numbers, labels, what):
    numbers = np.asarray(numbers)
    if numbers.ndim != 2 or not len(numbers):
        raise ValueError(
            f"There are no codes of {what}: expected the shape ({what}, bits), got {numbers.shape}."
        )
    if len(numbers) != len(labels):
        raise ValueError(f"{len(numbers)} codes of {what} have {len(labels)} labels.")
    return np.where(numbers > 0, np.float32(1), np.float32(-1))
