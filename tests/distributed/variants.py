"""Small trainings that workers and one process can both run: `python variants.py DIRECTORY INDEX`.

Run as a worker it has a TF_CONFIG, and writes `worker INDEX.npz` and `.json` into the directory.
"""

import contextlib
import json
import os
import sys

import keras
import numpy as np
import tensorflow as tf
from keras import layers

import tfkd

CLASSES, EXAMPLES, BATCH = 3, 23, 8  # the last batch, of 7, is not cut evenly
RANDOM = np.random.default_rng(0)
IMAGES = RANDOM.integers(0, 256, (EXAMPLES, 6, 6, 1)).astype("uint8")
LABELS = RANDOM.integers(0, CLASSES, EXAMPLES)
WEIGHTS = {0: 2.0, 1: 0.5, 2: 1.0}


def network(width, normalized=False):
    image = keras.Input((6, 6, 1))
    x = layers.Flatten()(layers.Rescaling(1 / 255)(image))
    x = layers.Dense(width, kernel_regularizer="l2", name="hidden")(x)
    if normalized:
        x = layers.BatchNormalization(synchronized=True)(x)
    return keras.Model(image, layers.Dense(CLASSES, name="logits")(layers.ReLU()(x)))


def distiller(strategy, hints=False, labels=True, normalized=False):
    keras.utils.set_random_seed(0)
    losses = [tfkd.losses.LogitsDistillation(2.0)]
    if hints:
        losses.append(tfkd.losses.FeatureDistillation("mse", "hidden", "hidden"))
    with strategy.scope() if strategy else contextlib.nullcontext():
        weight = 0.3 if labels else 0.0
        student = network(4, normalized)
        made = tfkd.Distiller(network(6), student, losses, student_loss_weight=weight)
        loss = keras.losses.SparseCategoricalCrossentropy(True) if labels else None
        metrics = ["accuracy"] if labels else None
        made.compile(keras.optimizers.SGD(0.1, momentum=0.9), loss, metrics=metrics)
    return made


def examples():
    return tfkd.data.pipeline.from_arrays(IMAGES, LABELS)


def batches(context=None):
    """Half-size batches on the way, to see that the views are those of one process."""
    return tfkd.data.batches(
        examples(),
        BATCH,
        shuffle=True,
        augment=tfkd.data.augmentation("crop_flip"),
        seed=1,
        input_context=context,
    )


def cached(directory, context=None):
    cache = tfkd.TeacherCache(f"{directory}/cache")
    return cache.dataset(examples(), BATCH, input_context=context)


def distributed(strategy, make):
    return strategy.distribute_datasets_from_function(make) if strategy else make()


# Each gives (distiller, arguments of fit).


def plain(strategy, directory):
    return distiller(strategy), {
        "x": distributed(strategy, batches),
        "validation_data": (IMAGES[:13], LABELS[:13]),
        "validation_batch_size": 5,
    }


def hints(strategy, directory):
    return distiller(strategy, hints=True), {"x": batches()}


def stored(strategy, directory):
    made = distiller(strategy, hints=True)
    return made, {"x": distributed(strategy, lambda context=None: cached(directory, context))}


def class_weights(strategy, directory):
    return distiller(strategy), {"x": batches(), "class_weight": WEIGHTS}


def no_labels(strategy, directory):
    return distiller(strategy, labels=False), {"x": IMAGES, "shuffle": False, "batch_size": 8}


def normalized(strategy, directory):
    return distiller(strategy, normalized=True), {"x": batches()}


def everything(strategy, directory):
    """Stored knowledge, hints, class weights and synchronized BatchNormalization at once."""
    made = distiller(strategy, hints=True, normalized=True)
    validation = {"validation_data": (IMAGES[:13], LABELS[:13]), "validation_batch_size": 5}
    return made, {"x": cached(directory), "class_weight": WEIGHTS, **validation}


VARIANTS = {
    own.__name__: own
    for own in (plain, hints, stored, class_weights, no_labels, normalized, everything)
}


def train(name, strategy, directory, epochs=2, callbacks=()):
    """(the Distiller, its history) after a training."""
    made, arguments = VARIANTS[name](strategy, directory)
    fitted = made.fit(**arguments, epochs=epochs, verbose=0, callbacks=list(callbacks))
    return made, fitted.history


def weights(made):
    return [w.numpy() for w in (*made.student.weights, *made.adapters.trainable_variables)]


def build_cache(directory):
    made = distiller(None, hints=True)
    augment = tfkd.data.augmentation("crop_flip")
    tfkd.TeacherCache.build(f"{directory}/cache", made, examples(), augment, views=2, verbose=0)


def work(directory, index, names):
    """What a worker does; only its parts of the outcome are kept by the chief."""
    strategy = tf.distribute.MultiWorkerMirroredStrategy()
    arrays, said = {}, {}
    for name in names:
        made, history = train(name, strategy, directory)
        arrays |= {f"{name} {i}": value for i, value in enumerate(weights(made))}
        said[name] = history
    np.savez(f"{directory}/worker {index}.npz", **arrays)
    with open(f"{directory}/worker {index}.json", "w") as file:
        json.dump(said, file)


if __name__ == "__main__":
    work(sys.argv[1], os.environ["WORKER"], sys.argv[2:])
