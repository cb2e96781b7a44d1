"""Models and data that the tests of the teacher cache share.

Imported before TensorFlow may have run anything: no tensor is made at import.
"""

import keras
import numpy as np
import tensorflow as tf

import tfkd
from tfkd import data
from tfkd.data.pipeline import from_arrays
from tfkd.losses import FeatureDistillation, LogitsDistillation

layers = keras.layers
CLASSES, SIZE = 4, 8
CROP_FLIP = data.augmentation("crop_flip")


def network(width, name=None, classes=CLASSES):
    image = keras.Input((SIZE, SIZE, 3), name="image")
    x = layers.Rescaling(1 / 255)(image)
    x = layers.Conv2D(width, 3, strides=2, padding="same", use_bias=False)(x)
    x = layers.ReLU(name="stage1_out")(layers.BatchNormalization()(x))
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(image, layers.Dense(classes, name="logits")(x), name=name)


def hint():
    return FeatureDistillation("mse", "stage1_out", "stage1_out")


def distiller(teacher="make", losses=None, classes=CLASSES, run_eagerly=False):
    teacher = network(6, classes=classes) if isinstance(teacher, str) else teacher
    losses = losses or [LogitsDistillation(2.0), hint()]
    made = tfkd.Distiller(teacher, network(3, classes=classes), losses)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    made.compile(keras.optimizers.SGD(0.1), loss, run_eagerly=run_eagerly)
    return made


def examples(count=40, seed=0):
    generator = np.random.default_rng(seed)
    images = generator.integers(0, 256, (count, SIZE, SIZE, 3), dtype=np.uint8)
    return images, generator.integers(0, CLASSES, count)


def dataset(count=40, seed=0):
    """With random access, as `tfkd.data.load` gives it."""
    return from_arrays(*examples(count, seed))


def foreign(count=40, seed=0):
    """A reader's own dataset, which is read in order."""
    return tf.data.Dataset.from_tensor_slices(examples(count, seed))


def files(directory):
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def live(made, images):
    """What the losses read of the teacher, by a plain Keras model of the same layers."""
    teacher = made.teacher
    names = {"output": teacher.output, "stage1_out": teacher.get_layer("stage1_out").output}
    return {n: t.numpy() for n, t in keras.Model(teacher.input, names)(images).items()}
