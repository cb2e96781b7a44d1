"""What the pages of docs/ take for granted: small models and data under the names that they use."""

import re
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from keras import layers

ROOT = Path(__file__).parents[1]
COUNT = 32


def blocks(page, languages):
    """The code blocks of a Markdown page in these languages, each with the number of its line."""
    found = re.finditer(r"^```(\w*)\n(.*?)^```", page, re.M | re.S)
    return [
        (page[: block.start(2)].count("\n"), block[2]) for block in found if block[1] in languages
    ]


def run(page, names, change=lambda code: code):
    """Runs the Python blocks of a page, one after the other, in one namespace.

    A block that fails names its page and its line.
    """
    for line, code in blocks(page.read_text("utf-8"), ("python",)):
        name = f"{page.relative_to(ROOT)}"
        exec(compile("\n" * line + change(code), name, "exec"), names)  # noqa: S102
    return names


def network(width, backbone=False):
    """Images of 16 × 16 × 3 to three logits; the teacher's layers stand in a nested model."""
    image = keras.Input((16, 16, 3))
    x = layers.Rescaling(1 / 255)(image)
    if backbone:
        inner = keras.Input((16, 16, 3))
        y = layers.Conv2D(width, 3, strides=2, activation="relu", name="block1")(inner)
        y = layers.Conv2D(width, 3, activation="relu", name="block2")(y)
        x = keras.Model(inner, y, name="backbone")(x)
    else:
        x = layers.Conv2D(width, 3, strides=2, activation="relu", name="stage1")(x)
    x = layers.GlobalAveragePooling2D()(x)
    # Far apart, so that a class is found again after quantisation.
    spread = keras.initializers.RandomNormal(stddev=3.0)
    return keras.Model(image, layers.Dense(3, kernel_initializer=spread)(x))


def names(directory):
    """The names of every page; `directory` is the current one, where pages leave their files."""
    random = np.random.default_rng(0)
    small = random.integers(0, 256, (COUNT, 4, 4, 3))
    images = np.kron(small, np.ones((1, 4, 4, 1), int)).astype("uint8")
    labels = random.integers(0, 3, COUNT)
    examples = tf.data.Dataset.from_tensor_slices((images, labels))
    keras.utils.set_random_seed(0)
    teacher = network(8, backbone=True)
    teacher.save(directory / "teacher.keras")
    measurements = random.normal(size=(COUNT, 6)).astype("float32")
    kernel = random.normal(size=(3, 3)).astype("float32")
    return {
        "images": images,
        "labels": labels,
        "examples": examples,
        "train": examples.batch(16),
        "validation": examples.batch(16),
        "teacher": teacher,
        "student": network(4),
        "make_student": lambda: network(4),
        "torch_model": lambda pixels: 9 * pixels.mean((2, 3)) @ kernel,
        "tokens": random.integers(0, 50, (COUNT, 7)).astype("int32"),
        "sentiment": random.integers(0, 2, COUNT),
        "masks": random.integers(0, 3, (COUNT, 16, 16)),
        "tags": random.integers(0, 2, (COUNT, 5)).astype("float32"),
        "measurements": measurements,
        "prices": measurements[:, :1],
        "kinds": labels,
    }


def photos(directory):
    """The folder of the page on photos."""
    random = np.random.default_rng(0)
    for split, count in (("train", 8), ("test", 2)):
        for label in ("cat", "dog", "fish"):
            folder = directory / "photos" / split / label
            folder.mkdir(parents=True)
            for number in range(count):
                pixels = random.integers(0, 256, (20, 24, 3), dtype="uint8")
                keras.utils.save_img(folder / f"{number}.png", pixels, scale=False)
