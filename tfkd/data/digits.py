"""scikit-learn's handwritten digits: 1797 grey images of 8x8, shipped in its package."""

import numpy as np
from sklearn.datasets import load_digits

from tfkd.data.assembly import splits_in_memory
from tfkd.data.resizing import STRETCH, resize


def load(size=None, rule=STRETCH, **division):
    """The digits, 0..16 there, 0..255 here; no published split, so validation and test are cut.

    Args:
        size: (height, width) to resize to; None for 8x8.
        rule: of resizing, see `tfkd.data.resizing`.
        **division: validation_fraction, seed, limit, as `tfkd.data.load` takes them.

    Returns:
        `Splits`.
    """
    digits = load_digits()
    images = np.rint(digits.images * (255 / 16)).astype(np.uint8)[..., np.newaxis]
    if size is not None:
        images = resize(images, size, rule).numpy()
    arrays = {"train": (images, digits.target.astype(np.int64))}
    return splits_in_memory("digits", arrays, tuple("0123456789"), rule, **division)
