"""Building and reading a teacher cache of 10^4, 10^5 and 10^6 examples: speed, bytes, memory.

    python -m benchmarks.cache build|read EXAMPLES DIRECTORY     (one phase, in this process)

Images are made from their index as they are asked for, so that the data set itself takes no
memory, and cost little; the teacher is small for the same reason. What is measured is the cache.
"""

import json
import os
import sys
import tempfile
import time
from pathlib import Path

from benchmarks import processes, record, timing

SIZES = (10_000, 100_000, 1_000_000)
SHAPE = (8, 8, 1)
BATCH = 128


def main(options):
    """Each size: builds, then reads an epoch in a new order; writes JSON and table."""
    sizes = (1_000, 10_000) if options.quick else SIZES
    result = {"machine": timing.machine(), "image": SHAPE, "batch": BATCH, "sizes": {}}
    for size in sizes:
        with tempfile.TemporaryDirectory() as directory:
            phases = {
                phase: processes.run("benchmarks.cache", phase, size, directory)
                for phase in ("build", "read")
            }
        result["sizes"][size] = phases
        print(size, phases)
    record.write("cache", result, options.quick)
    if not options.quick:
        record.put("cache", _table(result))


def _table(result):
    rows = [
        [
            f"{int(size):,}",
            f"{phases['build']['examples_per_second']:,.0f}",
            f"{phases['build']['peak_megabytes']:,.0f} MB",
            f"{phases['build']['bytes_per_example']:.0f}",
            f"{phases['read']['open_seconds']:.2f} s",
            f"{phases['read']['examples_per_second']:,.0f}",
            f"{phases['read']['without_knowledge_per_second']:,.0f}",
            f"{phases['read']['peak_megabytes']:,.0f} MB",
        ]
        for size, phases in result["sizes"].items()
    ]
    header = ["examples", "built / s", "peak", "bytes an example", "open, all checksums"]
    return record.table([*header, "read / s", "images alone / s", "peak"], rows)


def build(size, directory):
    import tfkd

    start = time.perf_counter()
    tfkd.TeacherCache.build(directory, _distiller(), _dataset(size), batch_size=BATCH, verbose=0)
    seconds = time.perf_counter() - start
    stored = sum(path.stat().st_size for path in Path(directory).iterdir())
    return {
        "seconds": seconds,
        "examples_per_second": size / seconds,
        "bytes_per_example": stored / size,
        "peak_megabytes": processes.peak_megabytes(),
    }


def read(size, directory):
    import tfkd
    from tfkd import data

    start = time.perf_counter()
    cache = tfkd.TeacherCache(directory)
    opened = time.perf_counter() - start
    seconds = _iterated(cache.dataset(_dataset(size), BATCH, shuffle=True, seed=0))
    alone = _iterated(data.batches(_dataset(size), BATCH, shuffle=True, seed=0))
    return {
        "open_seconds": opened,
        "seconds": seconds,
        "examples_per_second": size / seconds,
        "without_knowledge_per_second": size / alone,
        "peak_megabytes": processes.peak_megabytes(),
    }


def _iterated(batches):
    """Seconds of one epoch, the batches thrown away in C++."""
    start = time.perf_counter()
    for _ in batches.map(lambda images, *rest: images[0, 0, 0, 0]).batch(1000):
        pass
    return time.perf_counter() - start


def _dataset(size):
    """Examples that are a pure function of their index."""
    import tensorflow as tf

    from tfkd.data.pipeline import Source, from_source

    places = tf.range(SHAPE[0] * SHAPE[1] * SHAPE[2], dtype=tf.int64)

    def gather(indices):
        mixed = (indices[:, tf.newaxis] * 2654435761 + places * 40503) // 977 % 256
        images = tf.reshape(tf.cast(mixed, tf.uint8), (-1, *SHAPE))
        return tf.ensure_shape(images, (None, *SHAPE)), indices % 10

    return from_source(Source(size, gather))


def _distiller():
    import keras

    import tfkd

    def model(name):
        image = keras.Input(SHAPE, name="image")
        x = keras.layers.Rescaling(1 / 255)(image)
        x = keras.layers.Conv2D(8, 3, 2, "same", activation="relu", name="features")(x)
        x = keras.layers.Dense(10)(keras.layers.GlobalAveragePooling2D()(x))
        return keras.Model(image, x, name=name)

    keras.utils.set_random_seed(0)
    losses = [
        tfkd.losses.LogitsDistillation(),
        tfkd.losses.FeatureDistillation("mse", *["features"] * 2),
    ]
    return tfkd.Distiller(model("teacher"), model("student"), losses)


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    phase, size, directory = sys.argv[1:]
    print(json.dumps({"build": build, "read": read}[phase](int(size), directory)))
