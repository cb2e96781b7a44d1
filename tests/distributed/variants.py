"""Small trainings that workers and one process can both run."""

import contextlib
import json

import keras
import numpy as np
import tensorflow as tf
from keras import layers

import tfkd
from tfkd import _keras

CLASSES, EXAMPLES, BATCH, EPOCHS = 3, 23, 8, 2  # the last batch, of 7, is not cut evenly
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
    return tfkd.data.batches(
        examples(),
        BATCH,
        shuffle=True,
        augment=tfkd.data.augmentation("crop_flip"),
        seed=1,
        input_context=context,
    )


def distributed(strategy, make):
    return strategy.distribute_datasets_from_function(make) if strategy else make()


# Each gives (distiller, arguments of fit).


def no_labels(strategy, directory):
    """A live teacher, and batches that each worker makes its own rows of."""

    def unlabelled(context=None):
        return batches(context).map(lambda images, labels: images)

    return distiller(strategy, labels=False), {"x": distributed(strategy, unlabelled)}


def everything(strategy, directory):
    """Stored knowledge, hints, class weights and synchronized BatchNormalization at once."""
    made = distiller(strategy, hints=True, normalized=True)
    validation = {"validation_data": (IMAGES[:13], LABELS[:13]), "validation_batch_size": 5}
    cache = tfkd.TeacherCache(f"{directory}/cache")
    stored = cache.dataset(examples(), BATCH)
    return made, {"x": stored, "class_weight": WEIGHTS, **validation}


VARIANTS = {own.__name__: own for own in (everything, no_labels)}


def train(name, strategy, directory, callbacks=()):
    """(the Distiller, its history) after a training."""
    made, arguments = VARIANTS[name](strategy, directory)
    fitted = made.fit(**arguments, epochs=EPOCHS, verbose=0, callbacks=list(callbacks))
    return made, fitted.history


def weights(made):
    return [w.numpy() for w in (*made.student.weights, *made.adapters.trainable_variables)]


def build_cache(directory):
    made = distiller(None, hints=True)
    augment = tfkd.data.augmentation("crop_flip")
    tfkd.TeacherCache.build(f"{directory}/cache", made, examples(), augment, views=2, verbose=0)


def work(directory, index):
    """What a worker does and finds.

    It has a TF_CONFIG, and writes `worker INDEX.npz` and `.json` into the directory.
    """
    strategy = tf.distribute.MultiWorkerMirroredStrategy()
    arrays, said = {}, {"over workers": _keras.over_workers(strategy)}
    written = [
        keras.callbacks.ModelCheckpoint(f"{directory}/kept/{{epoch}}.keras"),
        keras.callbacks.BackupAndRestore(f"{directory}/backup", delete_checkpoint=False),
        keras.callbacks.CSVLogger(f"{directory}/log.csv"),
    ]
    for name, callbacks in (("everything", written), ("no_labels", [])):
        made, said[name] = train(name, strategy, directory, callbacks=callbacks)
        arrays |= {f"{name} {i}": value for i, value in enumerate(weights(made))}
        if name == "everything":
            made.student.save(f"{directory}/student.keras")
            made.save_weights(f"{directory}/distiller.weights.h5")
            arrays["predicted"] = made.predict(IMAGES, batch_size=BATCH, verbose=0)
            resumed, _ = VARIANTS[name](strategy, directory)
            callbacks = [keras.callbacks.BackupAndRestore(f"{directory}/backup")]
            fitted = resumed.fit(batches(), epochs=EPOCHS, verbose=0, callbacks=callbacks)
            said["resumed"] = fitted.epoch  # none is left
            arrays |= {f"resumed {i}": value for i, value in enumerate(weights(resumed))}
    for name, refused in REFUSED.items():
        try:
            refused(made, strategy, index)
            said[name] = "no error"
        except ValueError as error:
            said[name] = str(error)
    np.savez(f"{directory}/worker {index}.npz", **arrays)
    with open(f"{directory}/worker {index}.json", "w") as file:
        json.dump(said, file)


def one_left(made, strategy, index):
    made.fit(tf.data.Dataset.from_tensor_slices(IMAGES[:17]).batch(BATCH), verbose=0)


def cut_twice(made, strategy, index):
    made.fit(batches(tf.distribute.InputContext(2, index, 2)), verbose=0)


def shuffled_arrays(made, strategy, index):
    made.fit(IMAGES, verbose=0)


def other_settings(made, strategy, index):
    made.distillation_loss_weights = [1.0 + index]
    keras.utils.set_random_seed(index)
    made.fit(batches(), verbose=0)


def compiled(made, strategy, scope=True, **settings):
    with strategy.scope() if scope else contextlib.nullcontext():
        made.compile(**{"optimizer": "sgd", **settings})
    made.fit(batches(), verbose=0)


def outside(made, strategy, index):
    compiled(made, strategy, scope=False)


def several_steps(made, strategy, index):
    compiled(made, strategy, steps_per_execution=2)


def xla(made, strategy, index):
    compiled(made, strategy, jit_compile=True)


def with_optimizer(made, strategy, **settings):
    with strategy.scope():
        optimizer = keras.optimizers.SGD(0.1, **settings)
    compiled(made, strategy, optimizer=optimizer)


def clipped(made, strategy, index):
    with_optimizer(made, strategy, global_clipnorm=1.0)


def accumulating(made, strategy, index):
    with_optimizer(made, strategy, gradient_accumulation_steps=2)


def averaging(made, strategy, index):
    with_optimizer(made, strategy, use_ema=True, ema_overwrite_frequency=5)


REFUSALS = (
    one_left,
    cut_twice,
    shuffled_arrays,
    other_settings,
    outside,
    several_steps,
    xla,
    clipped,
    accumulating,
    averaging,
)
REFUSED = {own.__name__: own for own in REFUSALS}
