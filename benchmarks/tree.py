"""Prediction by a hardened tree in NumPy beside keras.applications' ResNet50, on the same images.

python -m benchmarks.tree [--rounds N]

Both are given rod pump cards as uint8 (28, 28, 1); the ResNet50 resizes them itself, to the 224
pixels that it is made for and to the 32 that are its least. Neither is trained: that changes no
time. In every round each answers in turn; wall time and processor time, images a second.
"""

import argparse
import os
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import statistics

import keras
import numpy as np
import tensorflow as tf

from benchmarks import record, timing
from tfkd import models
from tfkd.data import rod_pump_cards

CLASSES = len(rod_pump_cards.CONDITIONS)
CARDS = 40  # of a condition
SIZES = {224: 16, 32: 64}  # pixels a side of the ResNet50 → images a batch
BATCHES = 2
TREE_IMAGES = 20_000


def tree(cards):
    """A tree whose splits go through the middle of the cards, as trained ones do: all are used."""
    model = models.build("oblique_tree", cards.shape[1:], CLASSES)
    own, pixels = model.layers[-1], cards.reshape(len(cards), -1) / 127.5 - 1
    own.norm.moving_mean.assign((pixels @ np.asarray(own.kernel)).mean(axis=0))
    return models.harden(model, rod_pump_cards.CONDITIONS)


def timed(predict, images):
    """(wall, processor) seconds an image."""
    wall, processor = time.perf_counter(), time.process_time()
    predict(images)
    count = len(images)
    return (time.perf_counter() - wall) / count, (time.process_time() - processor) / count


def in_batches(model, batch):
    """A function of images that runs a compiled model batch by batch."""
    shape = (batch, *model.input_shape[1:])
    call = tf.function(lambda x: model(x, training=False)).get_concrete_function(
        tf.TensorSpec(shape, tf.uint8)
    )

    def predict(images):
        for start in range(0, len(images), batch):
            call(tf.constant(images[start : start + batch])).numpy()

    return predict


def main():
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tree", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    keras.utils.set_random_seed(0)
    cards, _ = rod_pump_cards.cards(CARDS)
    own = tree(cards)
    ways = {"tree": (own.predict, np.resize(cards, (TREE_IMAGES, *cards.shape[1:])))}
    parameters = {"tree": own.parameters}
    for size, batch in SIZES.items():
        network = models.build("ResNet50", cards.shape[1:], CLASSES, image_size=size)
        ways[f"ResNet50 at {size} px"] = in_batches(network, batch), cards[: BATCHES * batch]
        parameters[f"ResNet50 at {size} px"] = network.count_params()
    for predict, images in ways.values():
        predict(images)
    rounds = {name: [] for name in ways}
    for _ in range(options.rounds):
        for name, way in ways.items():
            rounds[name].append(timed(*way))
    rows, figures = [], {}
    for name, seconds in rounds.items():
        wall, processor = zip(*seconds, strict=True)
        ratios = [
            [a / b for a, b in zip(own, base, strict=True)]
            for own, base in zip((wall, processor), zip(*rounds["tree"], strict=True), strict=True)
        ]
        figures[name] = {"wall": wall, "processor": processor, "parameters": parameters[name]}
        cells = [f"{1 / statistics.median(wall):,.0f}"]
        for values in ratios:
            low, middle, high = min(values), statistics.median(values), max(values)
            cells.append("1" if name == "tree" else f"{middle:,.0f} ({low:,.0f} to {high:,.0f})")
        rows.append([name, f"{parameters[name]:,}", *cells])
    record.write("tree", {"machine": timing.machine(), "ways": figures})
    header = ["", "parameters", "images a second", "times slower, wall", "times slower, processor"]
    print(record.table(header, rows))


if __name__ == "__main__":
    main()
