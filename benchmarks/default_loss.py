"""What the default `LogitsDistillation()` teaches: keras.distillation's and tfkd's, side by side.

    python -m benchmarks.default_loss

A student learns scikit-learn's digits from a teacher alone, without labels, through the public API
of each package with its defaults; three seeds; the figure is accuracy on the test split.
"""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import statistics
import warnings

import keras

import tfkd
from tfkd import data

SEEDS = (0, 1, 2)


def mlp(units, name):
    return keras.Sequential(
        [
            keras.layers.Input((8, 8, 1)),
            keras.layers.Rescaling(1 / 255),
            keras.layers.Flatten(),
            keras.layers.Dense(units, activation="relu"),
            keras.layers.Dense(10),
        ],
        name=name,
    )


def cross_entropy():
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def accuracy(model, dataset):
    model.compile(loss=cross_entropy(), metrics=["accuracy"])
    return 100 * model.evaluate(dataset, verbose=0, return_dict=True)["accuracy"]


def distilled(package, loss, seed, splits):
    keras.utils.set_random_seed(seed)
    teacher, student = mlp(256, "teacher"), mlp(32, "student")
    batches = data.batches(splits.train, 32, shuffle=True, seed=seed)
    teacher.compile("adam", cross_entropy())
    teacher.fit(batches, epochs=20, verbose=0)
    distiller = package.Distiller(teacher, student, loss, student_loss_weight=0.0)
    distiller.compile(optimizer="adam", loss=cross_entropy())
    distiller.fit(batches, epochs=20, verbose=0)
    test = data.batches(splits.test, 256)
    return accuracy(teacher, test), accuracy(student, test)


def main():
    warnings.simplefilter("ignore")
    splits = data.load("digits")
    keras_loss, tfkd_loss = keras.distillation.LogitsDistillation, tfkd.losses.LogitsDistillation
    rows = {
        "keras.distillation, LogitsDistillation()": (keras.distillation, keras_loss),
        "tfkd, LogitsDistillation()": (tfkd, tfkd_loss),
        "tfkd, given Keras's LogitsDistillation()": (tfkd, keras_loss),
    }
    print(f"keras {keras.__version__}, {len(SEEDS)} seeds, test accuracy in %")
    for name, (package, loss) in rows.items():
        pairs = [distilled(package, loss(), seed, splits) for seed in SEEDS]
        for role, figures in zip(("teacher", "student"), zip(*pairs, strict=True), strict=True):
            mean, spread = statistics.mean(figures), statistics.stdev(figures)
            print(f"{name:42} {role}: {mean:5.1f} ± {spread:.1f}", flush=True)


if __name__ == "__main__":
    main()
