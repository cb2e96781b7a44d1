"""Clusters of a teacher's hash codes, and which bits they decide (He et al. 2024)."""

from typing import NamedTuple

import numpy as np

RESTARTS = 30  # of k-means, as in the authors' code
DECIDED, UNDECIDED = "decided", "undecided"


class CodeClusters(NamedTuple):
    """What `code_clusters` finds.

    Attributes:
        numbers: the cluster of each code, int32 (codes,), from 0.
        centers: the mean code of each cluster, float32 (clusters, bits): near ±1 where the codes of
            a cluster agree on a bit, near 0 where they do not.
    """

    numbers: np.ndarray
    centers: np.ndarray

    def masks(self, margin=0.5, keep=DECIDED):
        """1 for the bits that are kept of each cluster, 0 for the others: float32 (clusters, bits).

        Args:
            margin: a bit is decided where the size of its mean is above this: with 0.5, where more
                than three of four codes agree.
            keep: "decided", or "undecided" for the opposite.

        Raises:
            ValueError: something else to keep.
        """
        if keep not in (DECIDED, UNDECIDED):
            raise ValueError(f'keep must be "{DECIDED}" or "{UNDECIDED}"; got {keep!r}.')
        decided = np.abs(self.centers) > margin
        return (decided if keep == DECIDED else ~decided).astype("float32")


def code_clusters(numbers, clusters=10, seed=0):
    """Clusters of hash codes by k-means, for `tfkd.losses.RobustCodeDistillation`.

    A cluster that would be empty, as there are fewer different codes than clusters, is left out.

    Args:
        numbers: what a hashing model returns, a number for each bit, shape (images, bits).
        clusters: how many.
        seed: of k-means.

    Returns:
        `CodeClusters`.

    Raises:
        ValueError: no codes, or fewer codes than clusters.
    """
    from sklearn.cluster import KMeans  # takes half a second
    from threadpoolctl import threadpool_limits

    numbers = np.asarray(numbers)
    if numbers.ndim != 2 or not numbers.size:
        raise ValueError(
            f"Clusters are of codes, shape (images, bits); got the shape {numbers.shape}."
        )
    if not 1 <= clusters <= len(numbers):
        raise ValueError(
            f"{clusters} clusters of {len(numbers)} images: there must be 1 to {len(numbers)}. Ask "
            "for fewer clusters, or give more images."
        )
    codes = np.where(numbers > 0, 1.0, -1.0).astype("float32")
    different = len(np.unique(codes, axis=0))
    # Its threads wait for each other: on a busy machine several are fifty times as slow as one.
    with threadpool_limits(1):
        found = KMeans(min(clusters, different), n_init=RESTARTS, random_state=seed).fit(codes)
    _, labels = np.unique(found.labels_, return_inverse=True)
    means = [codes[labels == own].mean(axis=0) for own in range(labels.max() + 1)]
    return CodeClusters(labels.astype("int32"), np.stack(means).astype("float32"))
