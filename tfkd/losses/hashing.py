"""Hash codes: learnt from two views of each image, and distilled from a teacher's codes.

A hashing model returns a number for each bit; the bit is +1 where the number is above 0, else -1.
"""

from typing import Any

import keras
import tensorflow as tf
from keras import ops

from tfkd import validation
from tfkd.losses.base import DistillationLoss
from tfkd.losses.features import unit

NEVER = -1e9  # a logit that no softmax counts


def hard_codes(numbers):
    """+1 where a number is above 0, else -1; with the gradient of the number's sigmoid.

    The step itself has no gradient and is passed straight through (Bengio et al. 2013,
    arXiv:1308.3432), as sign(sigmoid(f) - 1/2) of Qiu et al. 2021. At 0 the bit is -1.

    Args:
        numbers: float tensor of any shape.
    """
    smooth = ops.sigmoid(numbers)
    return ops.where(numbers > 0, 1.0, -1.0) + (smooth - ops.stop_gradient(smooth))


def partners(rows):
    """Each row's other view: rows 2k and 2k + 1 change places.

    Args:
        rows: tensor, shape (2 images, features).
    """
    pairs = ops.reshape(rows, (-1, 2, rows.shape[-1]))
    return ops.reshape(ops.flip(pairs, axis=1), ops.shape(rows))


def pair_contrast(vectors, temperature):
    """-log of the share of a row's other view among all other rows (NT-Xent, Chen et al. 2020).

    Args:
        vectors: float tensor, shape (2 images, features), rows 2k and 2k + 1 of one image.
        temperature: positive scalar; cosines are divided by it.

    Returns:
        Tensor of shape (2 images,), in nats; 0 for a batch of one image.
    """
    directions = unit(vectors)
    cosines = ops.matmul(directions, ops.transpose(directions)) / temperature
    others = cosines + NEVER * ops.eye(ops.shape(vectors)[0])
    own = ops.sum(directions * partners(directions), axis=-1) / temperature
    return ops.logsumexp(others, axis=-1) - own


def bernoulli_divergence(numbers, others):
    """KL(numbers || others) of independent bits with these log-odds, no gradient into the others.

    Args:
        numbers, others: float tensors, shape (batch, bits).

    Returns:
        Tensor of shape (batch,), the sum over the bits, in nats.
    """
    others = ops.stop_gradient(others)
    share = ops.sigmoid(numbers)
    is_one = ops.log_sigmoid(numbers) - ops.log_sigmoid(others)
    is_zero = ops.log_sigmoid(-numbers) - ops.log_sigmoid(-others)
    return ops.sum(share * is_one + (1.0 - share) * is_zero, axis=-1)


def pairs_of_views(labels, reader):
    """An operation that fails where rows 2k and 2k + 1 of a batch are not of one image."""
    labels = tf.reshape(tf.convert_to_tensor(labels), (-1,))
    first, second = labels[::2], labels[1::2]
    paired = tf.size(labels) % 2 == 0
    # Of an odd number of rows the last one has no other.
    alike = tf.reduce_all(first[: tf.size(second)] == second)
    return validation.required(
        tf.logical_and(paired, alike),
        f"{reader} learns from pairs of views: rows 2k and 2k + 1 of a batch must be of one image, "
        "and the label of both that image's number. Here they are not.",
    )


@keras.saving.register_keras_serializable(package="tfkd")
class ContrastiveHashing(keras.losses.Loss):
    """CIBHash: codes of two views of an image are alike, those of other images are not.

    `pair_contrast` of the codes, and a small weight on `bernoulli_divergence` of the two views'
    bits (Qiu et al. 2021, "Unsupervised Hashing with Contrastive Information Bottleneck",
    arXiv:2105.06138). It is what a hashing model is compiled with; it learns from no labels. Rows
    2k and 2k + 1 of a batch are the two views of one image, and the label of both is the image's
    number, by which that is checked:

    ```python
    model.compile("adam", tfkd.losses.ContrastiveHashing())
    model.fit(pairs, epochs=10)  # batches of (views, numbers of the images)
    ```

    Args:
        temperature: T > 0 that cosines are divided by; the paper's is 0.3.
        divergence_weight: at least 0; the paper's is 0.001.
        name: of the loss.

    Raises:
        ValueError: settings out of range. In a step: rows that are no pairs of one image.
    """

    def __init__(
        self,
        temperature: float = 0.3,
        divergence_weight: float = 0.001,
        reduction: str = "sum_over_batch_size",
        name: str = "contrastive_hashing",
        dtype: Any = None,
    ):
        super().__init__(name=name, reduction=reduction, dtype=dtype or "float32")
        if not temperature > 0 or not divergence_weight >= 0:
            raise ValueError(
                f"temperature must be above 0 and divergence_weight at least 0; got {temperature} "
                f"and {divergence_weight}."
            )
        self.temperature, self.divergence_weight = temperature, divergence_weight

    def call(self, y_true, y_pred):
        with tf.control_dependencies([pairs_of_views(y_true, self.name)]):
            numbers = ops.cast(tf.identity(y_pred), "float32")
        contrast = pair_contrast(hard_codes(numbers), self.temperature)
        return contrast + self.divergence_weight * bernoulli_divergence(numbers, partners(numbers))

    def get_config(self):
        return {
            **super().get_config(),
            "temperature": self.temperature,
            "divergence_weight": self.divergence_weight,
        }


@keras.saving.register_keras_serializable(package="tfkd")
class CodeDistillation(DistillationLoss):
    """1 - cosine of the student's code with the teacher's: twice the share of bits that differ.

    The gradient goes through the student's bits as in `hard_codes`. Plain distillation of a hashing
    model, as its codes are what is searched.

    Args:
        teacher_layer_name: output or layer of the teacher, a number for each bit; None for its only
            output.
        student_layer_name: the same for the student, of as many bits.
        name: name of the loss's metric.
    """

    def call(self, teacher, student):
        return 1.0 - ops.mean(hard_codes(teacher) * hard_codes(student), axis=-1)
