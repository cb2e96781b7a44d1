"""Which task distils, is cached and is saved: the README's table of tasks, one tiny model for each.

Exports of the same tasks: tests/export/test_tasks.py.
"""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import tfkd
from tfkd.losses import FeatureDistillation, LogitsDistillation

RANDOM = np.random.default_rng(3)
COUNT = 8
VECTORS = RANDOM.normal(size=(COUNT, 6)).astype("float32")
IMAGES = RANDOM.normal(size=(COUNT, 4, 4, 2)).astype("float32")
TOKENS = np.array([[3, 1, 4, 0, 0], [2, 7, 0, 0, 0], [5, 5, 5, 5, 5], [1, 9, 0, 0, 0]] * 2, "int32")
TEXTS = np.array([["good film"], ["bad"], ["so bad"], ["unheard of"]] * 2)
CLASSES = RANDOM.integers(0, 3, COUNT)
SPARSE = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
BINARY = keras.losses.BinaryCrossentropy(from_logits=True)


def dense(units, activation=None):
    return layers.Dense(
        units, activation, kernel_initializer=keras.initializers.RandomNormal(stddev=1.0)
    )


def vectors(units, activation=None):
    given = keras.Input((6,))
    return keras.Model(given, dense(units, activation)(layers.Dense(5, "tanh")(given)))


def tokens(given, ids, mask):
    hidden = layers.Embedding(12, 4, mask_zero=mask)(ids)
    return keras.Model(given, dense(3)(layers.GlobalAveragePooling1D()(hidden)))


def text():
    given = keras.Input((1,), dtype="string", name="text")
    words = layers.TextVectorization(output_sequence_length=4)
    words.adapt(["good bad film so of"])
    return tokens(given, words(given), mask=False)


def labelling():
    given = keras.Input((5,), dtype="int32")
    return keras.Model(given, dense(3)(layers.Embedding(12, 4, mask_zero=True)(given)))


def segmentation():
    given = keras.Input((4, 4, 2))
    return keras.Model(given, layers.Conv2D(3, 1)(layers.Conv2D(4, 3, padding="same")(given)))


def two_inputs():
    a, b = keras.Input((6,), name="a"), keras.Input((2,), name="b")
    return keras.Model({"a": a, "b": b}, dense(3)(layers.Concatenate()([a, b])))


def two_outputs():
    given = keras.Input((6,))
    return keras.Model(given, {"kind": dense(3)(given), "sure": dense(2)(given)})


def subclassed():
    class Own(keras.Model):
        def __init__(self):
            super().__init__()
            self.head = dense(3)

        def call(self, x):
            return self.head(x)

    return Own()


def listed():
    given = keras.Input((6,))
    return keras.Model([given], dense(3)(given))


TWO = {"a": VECTORS, "b": VECTORS[:, :2]}
KIND = LogitsDistillation(2.0, loss={"kind": "kl_divergence", "sure": "kl_divergence"})
OUTPUT = FeatureDistillation("mse", "output", "output")
LABELS = RANDOM.integers(0, 2, (COUNT, 3)).astype("float32")
# task: (model, inputs, labels, loss on the labels, distillation loss or None for logits)
TASKS = {
    "classification": (lambda: vectors(3), VECTORS, CLASSES, SPARSE, None),
    "classification, softmax": (
        lambda: vectors(3, "softmax"),
        VECTORS,
        CLASSES,
        "sparse_categorical_crossentropy",
        None,
    ),
    "binary": (lambda: vectors(1), VECTORS, CLASSES % 2, BINARY, None),
    "multi-label": (
        lambda: vectors(3, "sigmoid"),
        VECTORS,
        LABELS,
        "binary_crossentropy",
        None,
    ),
    "regression": (lambda: vectors(1), VECTORS, VECTORS[:, 0], "mse", OUTPUT),
    "text as tokens": (
        lambda: (lambda given: tokens(given, given, True))(keras.Input((5,), dtype="int32")),
        TOKENS,
        CLASSES,
        SPARSE,
        None,
    ),
    "text as strings": (text, TEXTS, CLASSES, SPARSE, None),
    "sequence labelling": (labelling, TOKENS, RANDOM.integers(0, 3, (COUNT, 5)), SPARSE, None),
    "segmentation": (segmentation, IMAGES, RANDOM.integers(0, 3, (COUNT, 4, 4)), SPARSE, None),
    "several inputs": (two_inputs, TWO, CLASSES, SPARSE, None),
    "several outputs": (
        two_outputs,
        VECTORS,
        {"kind": CLASSES, "sure": CLASSES % 2},
        {"kind": SPARSE, "sure": SPARSE},
        KIND,
    ),
    "a model of your own class": (subclassed, VECTORS, CLASSES, SPARSE, None),
    "a list of one input": (listed, VECTORS, CLASSES, SPARSE, None),
}


def distiller(task):
    make, _, _, loss, distillation = TASKS[task]
    keras.utils.set_random_seed(1)
    teacher = vectors(3) if task == "a model of your own class" else make()
    made = tfkd.Distiller(teacher, make(), distillation or LogitsDistillation(2.0))
    made.compile(keras.optimizers.SGD(0.05), loss)
    return made


def weights(made):
    return [w.numpy() for w in made.student.weights]


@pytest.mark.parametrize("task", TASKS)
def test_it_distils_is_cached_and_saved(task, tmp_path):
    _, x, y, _, _ = TASKS[task]
    examples = tf.data.Dataset.from_tensor_slices((x, y))
    live = distiller(task)
    name = live.distillation_losses[0].name
    live.student_loss_weight = 0.0
    history = live.fit(examples.batch(4), epochs=3, verbose=0).history
    assert history[name][2] < history[name][0]

    cached = distiller(task)
    tfkd.TeacherCache.build(
        tmp_path / "cache", cached, examples, batch_size=4, dtype="float32", verbose=0
    )
    stored = tfkd.TeacherCache(tmp_path / "cache").dataset(examples, 4, shuffle=False)
    cached.student_loss_weight = 0.0
    cached.fit(stored, epochs=3, shuffle=False, verbose=0)
    for first, second in zip(weights(live), weights(cached), strict=True):
        if first.dtype.kind == "f":
            np.testing.assert_allclose(first, second, atol=1e-5)

    if task == "a model of your own class":
        return  # Keras loads classes that are registered
    live.student_loss_weight = 0.5
    live.save(tmp_path / "made.keras")
    again = keras.models.load_model(tmp_path / "made.keras")
    for made in (live, again):
        made.fit(examples.batch(4), verbose=0)
    for first, second in zip(weights(live), weights(again), strict=True):
        if first.dtype.kind == "f":
            np.testing.assert_allclose(first, second, atol=1e-6)


def test_a_saved_distiller_holds_nothing_of_the_teacher_s_optimizer(tmp_path):
    teacher = vectors(3)
    teacher.compile("adam", SPARSE)
    teacher.fit(VECTORS, CLASSES, verbose=0)
    sizes = {}
    for name in ("trained", "bare"):
        made = tfkd.Distiller(teacher, vectors(3), LogitsDistillation())
        made.compile("sgd", SPARSE)
        made.save(tmp_path / f"{name}.keras")
        sizes[name] = (tmp_path / f"{name}.keras").stat().st_size
        assert teacher.optimizer is not None if name == "trained" else True
        again = keras.models.load_model(tmp_path / f"{name}.keras")
        assert getattr(again.teacher, "optimizer", None) is None
        bare = vectors(3)
        bare.set_weights(teacher.get_weights())
        teacher = bare
    assert sizes["trained"] <= sizes["bare"] + 200
