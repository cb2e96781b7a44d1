"""Logits without their scale (Sun et al. 2024)."""

from keras import ops

# Variance up to which logits count as equal: a head that starts at zero has no scale yet.
_EQUAL = 1e-12


def standardized(logits):
    """Logits of mean 0 and standard deviation 1 over the classes, as z / T for one T an example.

    Sun et al. 2024, "Logit Standardization in Knowledge Distillation", arXiv:2403.01427, with the
    unbiased standard deviation of its code. Equal logits, which have no scale, are divided by 1.

    Args:
        logits: float tensor, shape (..., classes), two classes or more.

    Returns:
        Tensor of the same shape; its gradient passes through mean and deviation.
    """
    centred = logits - ops.mean(logits, axis=-1, keepdims=True)
    squares = ops.sum(ops.square(centred), axis=-1, keepdims=True)
    variance = squares / max(logits.shape[-1] - 1, 1)
    deviation = ops.sqrt(ops.where(variance > _EQUAL, variance, 1.0))
    return centred / (deviation + 1e-7)
