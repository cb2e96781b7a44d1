"""Contrastive representation distillation (Tian et al. 2020), with a memory or within the batch."""

import os

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from tfkd import validation
from tfkd.coefficient import Coefficient
from tfkd.losses.base import DistillationLoss, Softened
from tfkd.losses.classes import label_classes
from tfkd.losses.contrast import batch_contrast, draw_others, memory_contrast, moved
from tfkd.losses.features import unit


@keras.saving.register_keras_serializable(package="tfkd")
class ContrastiveDistillation(Softened, DistillationLoss):
    """CRD: the student's features tell which example the teacher's are of, among many others.

    Both models' features go through a trained linear layer each and are brought to length 1. With a
    memory (Tian et al. 2020, arXiv:1910.10699; weight 0.8, beside plain distillation) an example is
    told from `negatives` others that the memory keeps from earlier batches, of other classes as far
    as these are known: all after the first epoch. The examples' numbers come with the data, as
    `tfkd.TeacherCache` gives them. Without one it is told from the others of its batch, InfoNCE:
    64 or more are wanted, and with several replicas these are of the replica's batch.

    Args:
        memory: number of examples in the training data; None for none.
        negatives: how many others each example is told from, with a memory. They cost batch x
            negatives x features numbers a step; the authors take 16384 on a GPU.
        other_classes: whether the others are of other classes, which needs labels.
        temperature: T > 0 that cosines are divided by.
        momentum: share of an entry that stays when its example is seen again.
        features: width of the compared vectors.
        teacher_layer_name: layer of the teacher that gives pooled features, (batch, features).
        student_layer_name: the same for the student, of any width.
        name: name of the loss's metric.

    Raises:
        ValueError: numbers out of range, or a memory larger than the machine's. In a Distiller:
            maps or sequences, data without the examples' numbers or labels, or numbers that are
            not below `memory`.
    """

    adapts = "itself"
    settings = (*("memory", "negatives", "other_classes", "temperature", "momentum", "features"),)
    momentum = Coefficient(maximum=1.0)

    def __init__(
        self,
        memory: int | None = None,
        negatives: int = 1024,
        other_classes: bool = True,
        temperature: float = 0.07,
        momentum: float = 0.5,
        features: int = 128,
        teacher_layer_name: str | None = None,
        student_layer_name: str | None = None,
        name: str = "contrastive_distillation",
    ):
        super().__init__(teacher_layer_name, student_layer_name, name=name)
        counts = {"negatives": negatives, "features": features}
        counts |= {} if memory is None else {"memory": memory}
        for what, count in counts.items():
            least = 2 if what == "memory" else 1
            if isinstance(count, bool) or not isinstance(count, int) or count < least:
                raise ValueError(
                    f"{what} must be a whole number of {least} or more, got {count!r}."
                )
        if memory is not None:
            _check_room(memory, features)
        self.memory, self.negatives, self.features = memory, negatives, features
        self.other_classes = bool(other_classes)
        self.temperature, self.momentum = temperature, momentum

    @property
    def needs(self):
        if self.memory is None:
            return ()
        return ("index", "training", *(("labels",) if self.other_classes else ()))

    def check_shapes(self, teacher_shape, student_shape):
        for side, shape in (("teacher", teacher_shape), ("student", student_shape)):
            if len(shape) != 2 or shape[-1] is None:
                raise ValueError(
                    f"{self.name} compares pooled features, (batch, features), but reads "
                    f"{tuple(shape)} of the {side}. Name the layer that pools its last map."
                )

    def build(self, teacher_shape, student_shape):
        self.sides = []
        for shape in (teacher_shape, student_shape):
            side = layers.Dense(self.features, dtype="float32")
            side.build(shape)
            self.sides.append(side)
        if self.memory is None:
            return
        # Uniform and not of length 1, as in the authors' code.
        limit = (3.0 / self.features) ** 0.5
        self.memories = [
            _remembered(np.random.uniform(-limit, limit, (self.memory, self.features)), "float32")
            for _ in range(2)
        ]
        self.classes = _remembered(np.full(self.memory, -1), "int32")
        self.scales = keras.Variable(
            np.zeros(2, "float32"), trainable=False, aggregation="mean", name="scales"
        )
        self.draws = keras.Variable(
            np.array([np.random.randint(2**30), 0]),
            dtype="int32",
            trainable=False,
            aggregation="only_first_replica",
            name="draws",
        )

    def call(self, teacher, student, index=None, labels=None, training=False):
        taught, own = (
            unit(side(tensor)) for side, tensor in zip(self.sides, (teacher, student), strict=True)
        )
        temperature = self.temperature_tensor
        if self.memory is None:
            return batch_contrast(taught, own, temperature)
        label = None if labels is None else label_classes(labels, None, self.name)
        with tf.control_dependencies([validation.example_numbers(index, self.memory, self.name)]):
            index = tf.identity(index)
        columns = tf.concat([tf.cast(index, tf.int32)[:, None], self._others(index, label)], axis=1)
        teachers, students = (tf.convert_to_tensor(memory) for memory in self.memories)
        by_student, first = memory_contrast(own, teachers, columns, temperature, self.scales[0])
        by_teacher, second = memory_contrast(taught, students, columns, temperature, self.scales[1])
        if training:
            self.scales.assign(tf.stack([first, second]))
            self._remember(index, label, taught, own)
        return by_student + by_teacher

    def _others(self, index, label):
        replica = tf.distribute.get_replica_context()
        number = 0 if replica is None else replica.replica_id_in_sync_group
        seed = tf.convert_to_tensor(self.draws) + tf.stack([number, 0])
        table = tf.convert_to_tensor(self.classes)
        return draw_others(table, index, label, self.negatives, seed)

    def _remember(self, index, label, taught, own):
        momentum = self.coefficient("momentum")
        for memory, vectors in zip(self.memories, (taught, own), strict=True):
            entries = tf.gather(memory, index)
            _add(memory, index, moved(entries, tf.stop_gradient(vectors), momentum) - entries)
        if label is not None:
            _add(self.classes, index, label - tf.gather(self.classes, index))
        self.draws.assign_add([0, 1])


def _remembered(values, kind):
    # What the replicas add is added up.
    return keras.Variable(values.astype(kind), dtype=kind, trainable=False, aggregation="sum")


def _add(variable, index, changes):
    """Adds to a variable's rows; of an example that a batch holds twice, the mean counts."""
    times = tf.reduce_sum(tf.cast(index[:, None] == index[None], tf.int32), axis=1)
    if changes.dtype.is_floating:
        changes /= tf.cast(times, changes.dtype)[:, None]
    variable.value.scatter_add(tf.IndexedSlices(changes, index))


def _check_room(examples, features):
    if not hasattr(os, "sysconf"):
        return
    room = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    wanted = 2 * examples * features * 4
    if wanted > room:
        raise ValueError(
            f"A memory of {examples} examples and {features} features for both models takes "
            f"{wanted / 2**30:.0f} GB, but the machine has {room / 2**30:.0f} GB. Give fewer "
            "features, or memory=None for contrast within the batch."
        )
