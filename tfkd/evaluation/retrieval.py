"""Retrieval by hash codes: how well images of a class are found by the Hamming distance."""

import numpy as np

_AT_ONCE = 256  # queries, whose distances to the whole database stand in memory


def retrieval_average_precision(queries, query_labels, database, database_labels, top=None):
    """Mean over the queries of the average precision of the ranked database (mAP, mAP@top).

    The database is ranked by the Hamming distance of codes; images of the query's class are what is
    looked for. Distances tie often: all images of one distance are found at once, so that the
    average precision is the sum over the distances of (precision so far) · (share of all that is
    found which is found at this distance), which is `sklearn.metrics.average_precision_score` of
    the negative distances.

    With `top` = k only the first k images count, and the share is of what is found among them: the
    mAP@k of papers on hashing, where what lies further down is no loss (k = 1,000 on CIFAR-10). Of
    images whose distance is that of the k-th, each counts with the same share, so that their order
    in the database does not matter.

    Args:
        queries: a number for each bit, shape (queries, bits); the bit is whether it is above 0.
        query_labels: classes, shape (queries,).
        database: the same of what is searched, of as many bits.
        database_labels: classes, shape (images,).
        top: how many of the ranked images count, None for all; or a tuple of these.

    Returns:
        float from 0 to 1; of a tuple a list of them. A query that finds no image of its class
        counts 0.

    Raises:
        ValueError: no query, an empty database, codes and labels that do not fit, or a top below 1.
    """
    codes = [_signs(queries, query_labels, "queries"), _signs(database, database_labels, "images")]
    bits = codes[0].shape[1]
    if codes[1].shape[1] != bits:
        raise ValueError(f"Codes of {bits} bits cannot be searched in ones of {codes[1].shape[1]}.")
    tops = top if isinstance(top, tuple) else (top,)
    if any(own is not None and own < 1 for own in tops):
        raise ValueError(f"top is {top}; expected at least 1, or None for the whole database.")
    query_labels, database_labels = np.asarray(query_labels), np.asarray(database_labels)
    totals = np.zeros(len(tops))
    for start in range(0, len(query_labels), _AT_ONCE):
        rows = slice(start, start + _AT_ONCE)
        distances = np.rint((bits - codes[0][rows] @ codes[1].T) / 2).astype(np.int64)
        relevant = query_labels[rows, None] == database_labels[None]
        counts = _counts(distances, relevant, bits)
        totals += [_average_precisions(*counts, own).sum() for own in tops]
    means = [float(total / len(query_labels)) for total in totals]
    return means if isinstance(top, tuple) else means[0]


def _counts(distances, relevant, bits):
    """How many relevant images, and how many in all, lie at each distance from each query.

    Args:
        distances: int array (queries, images), 0 to `bits`.
        relevant: bool array (queries, images).

    Returns:
        Two float arrays (queries, bits + 1).
    """
    size = (len(distances), bits + 1)
    places = distances + (bits + 1) * np.arange(len(distances))[:, None]
    return [
        np.bincount(own, minlength=size[0] * size[1]).reshape(size).astype(float)
        for own in (places[relevant], places.ravel())
    ]


def _average_precisions(relevant, every, top):
    """Average precision of each query, by the numbers of images at each distance."""
    if top is not None:
        nearer = every.cumsum(axis=1) - every
        counted = np.clip(top - nearer, 0.0, every)
        relevant, every = relevant * counted / np.maximum(every, 1.0), counted
    found, seen = relevant.cumsum(axis=1), every.cumsum(axis=1)
    precision = found / np.maximum(seen, 1.0)
    wanted = found[:, -1]
    return (relevant * precision).sum(axis=1) / np.where(wanted > 0, wanted, 1.0)


def _signs(numbers, labels, what):
    numbers = np.asarray(numbers)
    if numbers.ndim != 2 or not len(numbers):
        raise ValueError(
            f"There are no codes of {what}: expected the shape ({what}, bits), got {numbers.shape}."
        )
    if len(numbers) != len(labels):
        raise ValueError(f"{len(numbers)} codes of {what} have {len(labels)} labels.")
    return np.where(numbers > 0, np.float32(1), np.float32(-1))
