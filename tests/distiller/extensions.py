"""Systems that the Distiller's doors make possible, each as a user would write it.

None of them touches the Distiller: losses, sources and data only. One teacher is tfkd's own that
learns.
"""

import json
import os

import keras
import numpy as np
import tensorflow as tf
from keras import layers, ops

import tfkd
from tfkd.losses import DistillationLoss, LogitsDistillation
from tfkd.teachers import Source

CLASSES, EXAMPLES = 4, 16

registered = keras.saving.register_keras_serializable(package="extensions")


def network(width, name, size=8):
    image = keras.Input((size, size, 3), name="image")
    x = image
    for stage in (1, 2, 3):
        x = layers.Conv2D(width * stage, 3, padding="same", name=f"stage{stage}")(x)
        x = layers.AveragePooling2D(2 if size // 2**stage else 1)(layers.Activation("silu")(x))
    x = layers.GlobalAveragePooling2D(name="features")(x)
    return keras.Model(image, layers.Dense(CLASSES, name="logits")(x), name=name)


# A loss with a trained projection on both sides, and a memory by example.


@registered
class RememberedDirection(DistillationLoss):
    """1 - cosine between the student's projection and the running mean of the teacher's."""

    adapts = "itself"
    needs = ("index", "training")

    def build(self, teacher_shape, student_shape):
        self.teacher_side, self.student_side = layers.Dense(5), layers.Dense(5)
        self.teacher_side.build(teacher_shape)
        self.student_side.build(student_shape)
        # Of the replicas' values the sum is assigned.
        self.memory = keras.Variable(
            np.eye(EXAMPLES, 5, dtype="float32"), trainable=False, aggregation="sum"
        )

    def call(self, teacher, student, index, training):
        taught, own = self.teacher_side(teacher), self.student_side(student)
        remembered = ops.take(self.memory, index, axis=0)
        if training:
            change = 0.5 * (tf.stop_gradient(taught) - remembered)
            shape = (EXAMPLES, 5)
            changes = tf.scatter_nd(tf.cast(index, "int32")[:, None], change, shape)
            replicas = tf.distribute.get_strategy().num_replicas_in_sync
            self.memory.assign(self.memory / replicas + changes)
        target = ops.normalize(remembered + taught, axis=-1)
        return 1.0 - ops.sum(target * ops.normalize(own, axis=-1), axis=-1)


# A loss over three taps a side with a chain of layers.


@registered
class ChainedStages(DistillationLoss):
    """The stages are fused from deep to shallow; each fusion is compared with the teacher's."""

    adapts = "itself"
    needs = ("training",)

    def build(self, teacher_shape, student_shape):
        self.mixers = [layers.Conv2D(shape[-1], 1) for shape in teacher_shape]
        self.norms = [layers.BatchNormalization(synchronized=True) for _ in teacher_shape]
        deeper = 0
        for mixer, norm, wanted, given in reversed(
            list(zip(self.mixers, self.norms, teacher_shape, student_shape, strict=True))
        ):
            mixer.build((None, None, None, given[-1] + deeper))
            norm.build((None, None, None, wanted[-1]))
            deeper = wanted[-1]

    def call(self, teacher, student, training):
        total, fused = 0.0, None
        for mixer, norm, wanted, given in reversed(
            list(zip(self.mixers, self.norms, teacher, student, strict=True))
        ):
            if fused is not None:
                up = tf.image.resize(fused, tf.shape(given)[1:3], method="nearest")
                given = ops.concatenate([given, up], axis=-1)
            fused = norm(mixer(given), training=training)
            total += ops.mean(ops.square(fused - wanted), axis=(1, 2, 3))
        return total


# Three teachers, weighed for each example by how right they are.


@registered
class ConfidentTeachers(Source):
    """The mean of the teachers' probabilities, each weighed by its probability of the label."""

    needs = ("labels",)

    def __init__(self, teachers):
        self.teachers = list(teachers)
        self.heads = {"output": tfkd.heads.Head("logits", "one_of_many")}

    def tap(self, names):
        for teacher in self.teachers:
            teacher.trainable = False

    def signature(self):
        return tfkd.taps.input_signature(self.teachers[0])

    def trace(self, signature):
        return {"output": (None, CLASSES)}

    def call(self, x, labels):
        answers = tf.stack([tf.nn.softmax(t(x, training=False)) for t in self.teachers])
        rows = tf.reshape(tf.cast(labels, tf.int32), (-1,))
        right = tf.gather(answers, tf.tile(rows[None], (len(self.teachers), 1)), batch_dims=2)
        weights = right / tf.reduce_sum(right, axis=0)
        return {"output": tf.math.log(tf.reduce_sum(weights[..., None] * answers, axis=0))}

    def models(self):
        return self.teachers

    def get_config(self):
        return {"teachers": [keras.saving.serialize_keras_object(t) for t in self.teachers]}

    @classmethod
    def from_config(cls, config):
        return cls([keras.saving.deserialize_keras_object(t) for t in config["teachers"]])

    def save(self, directory):
        for i, teacher in enumerate(self.teachers):
            teacher.save_weights(os.path.join(directory, f"{i}.weights.h5"))

    def load(self, directory):
        for i, teacher in enumerate(self.teachers):
            teacher.load_weights(os.path.join(directory, f"{i}.weights.h5"))


# A teacher that learns on, with an optimizer of its own.


@registered
class LearningTeacher(Source):
    """A teacher that takes a step on the labels after it has answered."""

    storable = False

    def __init__(self, model, learning_rate):
        self.model = model
        self.optimizer = keras.optimizers.SGD(learning_rate, momentum=0.9)
        self.optimizer.build(model.trainable_variables)
        self.learning_rate = learning_rate
        self.own_loss = keras.metrics.Mean(name="teacher_loss")
        self.metrics = [self.own_loss]
        self.heads = {"output": tfkd.heads.Head("logits", "one_of_many")}

    def signature(self):
        return tfkd.taps.input_signature(self.model)

    def trace(self, signature):
        return {"output": (None, CLASSES)}

    def call(self, x):
        return {"output": self.model(x, training=False)}

    def learn(self, x, labels, sample_weight):
        with tf.GradientTape() as tape:
            answer = self.call(x)
            each = keras.losses.sparse_categorical_crossentropy(labels, answer["output"], True)
            loss = tf.nn.compute_average_loss(each)

        def step(student):
            variables = self.model.trainable_variables
            gradients = tape.gradient(loss, variables)
            self.optimizer.apply_gradients(zip(gradients, variables, strict=True))
            self.own_loss.update_state(each)

        return answer, step

    def get_config(self):
        model = keras.saving.serialize_keras_object(self.model)
        return {"model": model, "learning_rate": self.learning_rate}

    @classmethod
    def from_config(cls, config):
        return cls(keras.saving.deserialize_keras_object(config["model"]), config["learning_rate"])

    def save(self, directory):
        self.model.save_weights(os.path.join(directory, "learning.weights.h5"))
        state = {"variables": [v.numpy().tolist() for v in self.optimizer.variables]}
        with open(os.path.join(directory, "learning.json"), "w") as file:
            json.dump(state, file)

    def load(self, directory):
        self.model.load_weights(os.path.join(directory, "learning.weights.h5"))
        with open(os.path.join(directory, "learning.json")) as file:
            for variable, value in zip(
                self.optimizer.variables, json.load(file)["variables"], strict=True
            ):
                variable.assign(value)


# Making each of them.


def remembered():
    loss = RememberedDirection("features", "features")
    return tfkd.Distiller(network(4, "teacher"), network(3, "student"), loss)


def chained():
    stages = ("stage1", "stage2", "stage3")
    return tfkd.Distiller(
        network(4, "teacher"), network(3, "student"), ChainedStages(stages, stages)
    )


def confident():
    source = ConfidentTeachers([network(4, f"teacher{i}") for i in range(3)])
    return tfkd.Distiller(source, network(3, "student"), LogitsDistillation(2.0))


def learning(learning_rate=0.1):
    source = LearningTeacher(network(4, "teacher"), learning_rate)
    return tfkd.Distiller(source, network(3, "student"), LogitsDistillation(2.0))


def dynamic():
    teacher = network(4, "teacher")
    source = tfkd.teachers.Learning(teacher, keras.optimizers.Adam(0.003), temperature=2.0)
    return tfkd.Distiller(source, network(3, "student"), LogitsDistillation(2.0))


def half_resolution():
    return tfkd.Distiller(
        network(4, "teacher"),
        network(3, "student", size=4),
        LogitsDistillation(2.0),
        separate_inputs=True,
    )


SYSTEMS = {
    "remembered": remembered,
    "chained": chained,
    "confident": confident,
    "learning": learning,
    "half resolution": half_resolution,
}
STORABLE = [name for name in SYSTEMS if name != "learning"]
# What else is true of the one that is tfkd's own is in tests/teachers/test_learning.py.
ON_REPLICAS = {**SYSTEMS, "dynamic": dynamic}


def compiled(made, **options):
    made.compile(
        keras.optimizers.SGD(0.05),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        **options,
    )
    return made


def arrays():
    random = np.random.default_rng(0)
    x = random.normal(size=(EXAMPLES, 8, 8, 3)).astype("float32")
    return x, random.integers(0, CLASSES, EXAMPLES)


def own_inputs(x):
    """The teacher's and the student's input of images: the student sees half the resolution."""
    return {"teacher": x, "student": tf.nn.avg_pool2d(x, 2, 2, "VALID")}


def examples(name):
    """Unbatched data of the system."""
    x, y = arrays()
    if name == "half resolution":
        x = {key: value.numpy() for key, value in own_inputs(tf.constant(x)).items()}
    return tf.data.Dataset.from_tensor_slices((x, y))


def batches(name, size=8):
    """Batched data of the system, with the examples' numbers."""
    numbered = tf.data.Dataset.zip(examples(name), tf.data.Dataset.range(EXAMPLES))
    return numbered.batch(size).map(
        lambda example, index: (*example, tf.ones_like(index, tf.float32), {"index": index})
    )
