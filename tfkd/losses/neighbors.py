"""Labels smoothed by what followed similar features: nearest neighbours as soft labels."""

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from tfkd.losses.base import DistillationLoss


def nearest_neighbors(queries, features, labels, count, temperature):
    """The nearest remembered features of each query, and the share of probability of each.

    The share is softmax(-d / temperature) over the squared Euclidean distances d of the nearest
    (Khandelwal et al. 2021, "Nearest Neighbor Machine Translation", arXiv:2010.00710, eq. 3).

    Args:
        queries: float tensor, shape (queries, width).
        features: float tensor, shape (memory, width).
        labels: int tensor, shape (memory,); below 0 for rows that hold nothing yet.
        count: how many neighbours.
        temperature: positive scalar.

    Returns:
        (labels of the neighbours, their shares), shape (queries, count) each. Shares of a query sum
        to 1; they are all 0 where nothing is remembered.
    """
    squares = tf.reduce_sum(tf.square(features), axis=-1)
    # |q - f|² without |q|², which changes no order and no share.
    distances = squares - 2.0 * tf.matmul(queries, features, transpose_b=True)
    distances = tf.where(labels < 0, np.float32(np.inf), distances)
    nearness, rows = tf.math.top_k(-distances, count)
    there = tf.math.is_finite(nearness)
    # A query without any neighbour has equal numbers here, and no share below.
    nearness = tf.where(there, nearness - nearness[:, :1], -1e30)
    shares = tf.where(there, tf.nn.softmax(nearness / temperature), 0.0)
    return tf.gather(labels, rows), shares


@keras.saving.register_keras_serializable(package="tfkd")
class NeighborDistillation(DistillationLoss):
    """Cross-entropy with labels that are smoothed by the labels of similar features.

    After Yang et al. 2022, "Nearest Neighbor Knowledge Distillation for Neural Machine
    Translation" (arXiv:2205.00479): a datastore holds the teacher's features with the labels that
    they came with, and the target is (1 - share) · label + share · p_kNN, where p_kNN gives the
    label of each of the nearest features the share `nearest_neighbors` computes. The paper searches
    the whole training set once; here the datastore is a memory of the last `memory` positions that
    the training has seen, so that no pass over the data is needed before. A step searches it once
    for each of its positions: what that costs grows with `memory`.

    With `neighbors=0`, and while nothing is remembered, the target is the plain label.

    ```python
    loss = NeighborDistillation("decoder/features", "output", padding=0)
    ```

    Args:
        teacher_layer_name: layer of the teacher whose features are compared, shape (batch, ...,
            width), best the one before its logits.
        student_layer_name: output of the student that holds logits, shape (batch, ..., classes); or
            a tuple of them, such as those of `tfkd.models.two_passes`: the value is their mean.
        neighbors: how many nearest features smooth a label, at least 0.
        memory: how many positions (of logits without positions: examples) are remembered. Fewer
            than an epoch has: a position that is met again finds itself, which teaches its label.
        temperature: above 0: the larger, the more alike the neighbours count. Distances grow with
            the width of the features: of layer-normalised ones about 2 · width lies between two of
            no likeness.
        share: of the neighbours in the target, 0 to 1. The paper's code adds its divergence to the
            cross-entropy, as much of the one as of the other: 0.5.
        padding: label that is never remembered and whose positions have the value 0; None for none.
        name: name of the loss's metric.

    Raises:
        ValueError: a setting outside of its range.
    """

    adapts = "itself"
    needs = ("labels", "training")
    settings = ("neighbors", "memory", "temperature", "share", "padding")

    def __init__(
        self,
        teacher_layer_name: str | None = None,
        student_layer_name: str | None = None,
        neighbors: int = 8,
        memory: int = 4096,
        temperature: float = 10.0,
        share: float = 0.5,
        padding: int | None = None,
        name: str = "neighbor_distillation",
    ):
        super().__init__(teacher_layer_name, student_layer_name, name=name)
        for what, number, least in (("neighbors", neighbors, 0), ("memory", memory, 1)):
            if isinstance(number, bool) or not isinstance(number, int) or number < least:
                raise ValueError(
                    f"{what} must be a whole number of at least {least}, got {number!r}."
                )
        if neighbors > memory:
            raise ValueError(
                f"{neighbors} neighbors cannot be found among {memory} remembered positions. Give "
                "a larger memory=."
            )
        if not 0 <= share <= 1:
            raise ValueError(f"share must lie between 0 and 1, got {share!r}.")
        if not 0 < temperature < float("inf"):
            raise ValueError(f"temperature must be greater than 0, got {temperature!r}.")
        self.neighbors, self.memory, self.padding = neighbors, memory, padding
        self.temperature, self.share = float(temperature), float(share)

    def check_shapes(self, teacher_shape, student_shape):
        for logits in student_shape if self._several else (student_shape,):
            positions = [tuple(shape[1:-1]) for shape in (teacher_shape, logits)]
            agree = tf.TensorShape(positions[0]).is_compatible_with(positions[1])
            if not agree or teacher_shape[-1] is None or logits[-1] is None:
                raise ValueError(
                    f"{self.name} reads features (batch, ..., width) of the teacher and logits "
                    f"(batch, ..., classes) of the student at the same positions, but the shapes "
                    f"are {tuple(teacher_shape)} and {tuple(logits)}."
                )

    @property
    def _several(self):
        return isinstance(self.student_layer_name, tuple)

    def build(self, teacher_shape, student_shape):
        def made(values):
            # A replica that is not the first remembers what the first does.
            return keras.Variable(
                values,
                dtype=values.dtype.name,
                trainable=False,
                aggregation="only_first_replica",
            )

        self.features = made(np.zeros((self.memory, teacher_shape[-1]), "float32"))
        self.remembered = made(np.full(self.memory, -1, "int32"))
        self.place = made(np.zeros((), "int32"))

    def call(self, teacher, student, labels=None, training=False):
        passes = student if self._several else (student,)
        shape, classes = tf.shape(passes[0])[:-1], passes[0].shape[-1]
        if len(labels.shape) == len(passes[0].shape) and labels.shape[-1] != 1:  # one-hot
            labels = ops.argmax(labels, axis=-1)
        labels = tf.reshape(tf.cast(labels, tf.int32), (-1,))
        features = tf.reshape(teacher, (-1, teacher.shape[-1]))
        targets, shares = labels[:, None], tf.ones_like(labels[:, None], tf.float32)
        if self.neighbors:
            targets, shares = self._smoothed(features, labels, training)
        value = 0.0
        for logits in passes:
            logits = tf.reshape(logits, (-1, classes))
            wanted = tf.reduce_sum(shares * tf.gather(logits, targets, batch_dims=1), axis=-1)
            value += tf.reduce_logsumexp(logits, axis=-1) - wanted
        value /= len(passes)
        if self.padding is not None:
            value = tf.where(labels == self.padding, 0.0, value)
        return tf.reshape(value, shape)

    def _smoothed(self, features, labels, training):
        """(classes, their shares) of each position's target, shape (positions, 1 + neighbors)."""
        kept = tf.range(tf.size(labels))
        if self.padding is not None:  # of padding nobody wants to know the neighbours
            kept = tf.where(labels != self.padding)[:, 0]
        queries, own = tf.stop_gradient(tf.gather(features, kept)), tf.gather(labels, kept)
        found, shares = nearest_neighbors(
            queries,
            tf.convert_to_tensor(self.features),
            tf.convert_to_tensor(self.remembered),
            self.neighbors,
            self.temperature,
        )
        shares *= self.share
        rest = 1.0 - tf.reduce_sum(shares, axis=-1, keepdims=True)
        if training:
            self._remember(queries, own)
        rows, size = tf.cast(kept[:, None], tf.int32), tf.size(labels)
        targets = tf.concat([own[:, None], tf.maximum(found, 0)], axis=1)
        shares = tf.concat([rest, shares], axis=1)
        wide = (size, 1 + self.neighbors)
        return tf.scatter_nd(rows, targets, wide), tf.scatter_nd(rows, shares, wide)

    def _remember(self, features, labels):
        features, labels = features[-self.memory :], labels[-self.memory :]
        place = tf.convert_to_tensor(self.place)
        rows = tf.math.floormod(place + tf.range(tf.size(labels)), self.memory)
        for variable, values in ((self.features, features), (self.remembered, labels)):
            old = tf.convert_to_tensor(variable)
            variable.assign(tf.tensor_scatter_nd_update(old, rows[:, None], values))
        self.place.assign(tf.math.floormod(place + tf.size(labels), self.memory))
