"""One temperature that calibrates a classifier. NumPy in float64; no model, no TensorFlow."""

import math

import numpy as np
from scipy.optimize import brentq
from scipy.special import softmax

from tfkd.evaluation.scores import checked

# Temperatures beyond these are not looked at: the best within them is taken.
LOWEST, HIGHEST = 0.01, 100.0


def fitted_temperature(logits, labels):
    """The temperature T for which logits / T have the lowest cross-entropy (Guo et al. 2017).

    It changes no answer, only how sure the answers are: above 1 for a classifier that is too sure,
    below 1 for one that is not sure enough. The cross-entropy is convex in 1 / T, so there is one
    lowest value. Fit it on examples that were neither trained on nor are reported on.

    ```python
    temperature = tfkd.evaluation.fitted_temperature(validation_logits, validation_labels)
    tfkd.evaluation.quality(test_logits / temperature, test_labels)
    ```

    Args:
        logits: float array, shape (examples, classes), before softmax; or (examples, 1) from a
            one-logit binary head, before sigmoid.
        labels: integer array, shape (examples,), from 0.

    Returns:
        float from 0.01 to 100. 100 where the labels fit the logits no better than chance, so that
        the best T is infinite. 1 where the labels tell nothing of T: logits that are equal for all
        classes; or examples whose labels all have the highest logit, for then the cross-entropy
        falls until T = 0, which would promise that no answer is ever wrong.

    Raises:
        ValueError: as `quality`.
    """
    logits, labels = checked(logits, labels)
    logits = logits - logits.max(axis=1, keepdims=True)
    of_label = logits[np.arange(len(labels)), labels]
    if (of_label == 0).all():
        return 1.0

    def slope(log_temperature):
        """Derivative of the cross-entropy by 1 / T: logit expected minus that of the label."""
        expected = softmax(logits * math.exp(-log_temperature), axis=1) * logits
        return float((expected.sum(axis=1) - of_label).mean())

    low, high = math.log(LOWEST), math.log(HIGHEST)
    # The slope falls as T rises.
    if slope(high) >= 0:
        return HIGHEST
    if slope(low) <= 0:
        return LOWEST
    return math.exp(brentq(slope, low, high, xtol=1e-9, rtol=1e-12))
