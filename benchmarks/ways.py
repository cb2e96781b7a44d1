"""The ways of training that are compared: each makes a model to `fit` and the batches to fit it on.

A way is a function of (student, teacher, hints, dataset, directory, seed) to (model, batches):

    student, teacher: fresh Keras models, the teacher with its weights.
    hints: {teacher's layer: student's layer}, empty for logits alone.
    dataset: unbatched examples, as `tfkd.data.load` gives them.
    directory: where a way may keep files.
    seed: of the order of the examples.

All train with Adam on batches of 128 of the same uint8 images, drawn by the same `tf.data`
pipeline; losses and their weights are the same in all ways that distil.
"""

import keras
import tensorflow as tf

import tfkd
from benchmarks.constants import BATCH, STUDENT_LOSS_WEIGHT, TEMPERATURE
from benchmarks.setting import cross_entropy
from tfkd import data


def batches(dataset, seed):
    return data.batches(dataset, BATCH, shuffle=True, seed=seed)


def compiled(model):
    model.compile(optimizer=keras.optimizers.Adam(), loss=cross_entropy(), metrics=["accuracy"])
    return model


def stock(student, teacher, hints, dataset, directory, seed=0):
    """`student.fit`: labels only, nothing distilled."""
    return compiled(student), batches(dataset, seed)


def keras_distillation(student, teacher, hints, dataset, directory, seed=0):
    """`keras.distillation.Distiller`."""
    package = keras.distillation
    return compiled(distiller_of(package, teacher, student, hints)), batches(dataset, seed)


def keras_example(student, teacher, hints, dataset, directory, seed=0):
    """A `train_step` of one's own, in the manner of keras.io's distillation example."""
    return compiled(ExampleDistiller(student, teacher, hints)), batches(dataset, seed)


def live(student, teacher, hints, dataset, directory, seed=0):
    """`tfkd.Distiller`, the teacher run on every batch."""
    return compiled(distiller_of(tfkd, teacher, student, hints)), batches(dataset, seed)


def cached(student, teacher, hints, dataset, directory, seed=0):
    """`tfkd.Distiller` without a teacher, on knowledge stored before (here, where not yet done)."""
    build_cache(student, teacher, hints, dataset, directory)
    return read_cache(student, hints, dataset, directory, seed)


def build_cache(student, teacher, hints, dataset, directory):
    writer = distiller_of(tfkd, teacher, student, hints)
    tfkd.TeacherCache.build(directory, writer, dataset, verbose=0)


def read_cache(student, hints, dataset, directory, seed=0):
    batches = tfkd.TeacherCache(directory).dataset(dataset, BATCH, shuffle=True, seed=seed)
    return compiled(distiller_of(tfkd, None, student, hints)), batches


WAYS = {
    "stock": stock,
    "keras.distillation": keras_distillation,
    "keras.io example": keras_example,
    "tfkd live": live,
    "tfkd cached": cached,
}


def distiller_of(package, teacher, student, hints, **options):
    """The package's Distiller with the losses that all ways share."""
    losses = tfkd.losses if package is tfkd else package
    terms = [losses.LogitsDistillation(temperature=TEMPERATURE)]
    terms += [
        losses.FeatureDistillation("mse", teacher_layer_name=of, student_layer_name=into)
        for of, into in hints.items()
    ]
    return package.Distiller(
        teacher, student, terms, student_loss_weight=STUDENT_LOSS_WEIGHT, **options
    )


class ExampleDistiller(keras.Model):
    """What keras.io's example does, extended by hints in the usual way: models of many outputs."""

    def __init__(self, student, teacher, hints):
        super().__init__()
        self.student, self.teacher = student, teacher
        teacher.trainable = False
        self.teacher_outputs = _with_layers(teacher, hints.keys())
        self.student_outputs = _with_layers(student, hints.values())
        self.divergence = keras.losses.KLDivergence()
        self.squared_error = keras.losses.MeanSquaredError()
        self.distillation_tracker = keras.metrics.Mean(name="distillation_loss")

    def call(self, inputs, training=None):
        return self.student(inputs, training=training)

    def train_step(self, batch):
        x, y = batch
        taught, *taught_features = keras.tree.flatten(self.teacher_outputs(x, training=False))
        with tf.GradientTape() as tape:
            learnt, *learnt_features = keras.tree.flatten(self.student_outputs(x, training=True))
            student_loss = self.compute_loss(x, y, learnt)
            distillation_loss = TEMPERATURE**2 * self.divergence(
                tf.nn.softmax(taught / TEMPERATURE), tf.nn.softmax(learnt / TEMPERATURE)
            )
            for of, into in zip(taught_features, learnt_features, strict=True):
                distillation_loss += self.squared_error(of, into)
            share = STUDENT_LOSS_WEIGHT
            loss = share * student_loss + (1 - share) * distillation_loss
        weights = self.student.trainable_variables
        self.optimizer.apply_gradients(zip(tape.gradient(loss, weights), weights, strict=True))
        self.distillation_tracker.update_state(distillation_loss)
        return self.compute_metrics(x, y, learnt)


def _with_layers(model, names):
    features = [model.get_layer(name).output for name in names]
    return keras.Model(model.inputs, [model.output, *features])
