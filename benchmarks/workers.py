"""python -m benchmarks.workers: one training in 2 and 4 processes against one process.

First the weights after 50 steps, for each way to train; then what a step costs. Processes are on
this machine and find each other over the loopback interface. With other jobs beside, wall time says
little: the processor's time, of all processes together, is noted as well.
"""

import argparse
import contextlib
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

from benchmarks import record

STEPS, BATCH = 50, 64
TIMED = 10  # steps of a timed epoch
OUTCOME = "outcome"


# Processes.


def run(directory, count, *task, threads=None):
    """Runs a task in so many processes of one cluster; 0 is one process without a strategy.

    Returns:
        [what each process has found: a dict].

    Raises:
        RuntimeError: one failed; the end of what it said.
    """
    bound = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    cluster = {"worker": [f"127.0.0.1:{own.getsockname()[1]}" for own in bound]}
    for own in bound:
        own.close()
    processes, logs = [], []
    for index in range(max(count, 1)):
        environment = dict(os.environ)
        if count:
            place = {"type": "worker", "index": index}
            environment["TF_CONFIG"] = json.dumps({"cluster": cluster, "task": place})
        command = [sys.executable, "-m", "benchmarks.workers", "--task", *map(str, task)]
        command += ["--directory", str(directory), "--index", str(index)]
        command += [] if threads is None else ["--threads", str(threads)]
        logs.append(open(Path(directory) / f"{index}.log", "w"))
        processes.append(
            subprocess.Popen(command, env=environment, stdout=logs[-1], stderr=logs[-1])
        )
    try:
        codes = [process.wait(timeout=1200) for process in processes]
    finally:
        for process, log in zip(processes, logs, strict=True):
            process.kill()
            log.close()
    if any(codes):
        said = [Path(log.name).read_text()[-2000:] for log in logs]
        raise RuntimeError(f"workers ended with {codes}:\n" + "\n".join(said))
    found = [Path(directory) / f"{OUTCOME} {index}.json" for index in range(len(processes))]
    return [json.loads(path.read_text()) for path in found]


# What a worker does.


def network(width, size=8, channels=1, classes=10, normalized=False):
    import keras
    from keras import layers

    image = keras.Input((size, size, channels))
    x = layers.Conv2D(width, 3, padding="same")(layers.Rescaling(1 / 16)(image))
    if normalized:
        x = layers.BatchNormalization(synchronized=True)(x)
    # Smooth: where a flat patch of pixels crosses a ReLU's kink, a rounding error becomes 1e-4.
    smooth = layers.Activation("silu")
    x = layers.Conv2D(width, 3, padding="same", name="inner")(smooth(x))
    x = layers.GlobalAveragePooling2D()(smooth(x))
    return keras.Model(image, layers.Dense(classes, kernel_regularizer="l2")(x))


def distiller(strategy, size=8, channels=1, width=16, hints=False, labels=True, normalized=False):
    import keras

    import tfkd

    keras.utils.set_random_seed(0)
    losses = [tfkd.losses.LogitsDistillation(4.0)]
    if hints:
        losses.append(tfkd.losses.FeatureDistillation("mse", "inner", "inner"))
    with strategy.scope() if strategy else contextlib.nullcontext():
        made = tfkd.Distiller(
            network(2 * width, size, channels),
            network(width, size, channels, normalized=normalized),
            losses,
            student_loss_weight=0.5 if labels else 0.0,
        )
        loss = keras.losses.SparseCategoricalCrossentropy(True) if labels else None
        made.compile(keras.optimizers.SGD(0.1, momentum=0.9), loss)
    return made


def digits():
    import tfkd

    return tfkd.data.load("digits").train


def ways(directory):
    """{name: (settings of the Distiller, function of an input context to data, class weights)}"""
    import tfkd

    def batches(context=None):
        augment = tfkd.data.augmentation("crop_flip")
        return tfkd.data.batches(
            digits(), BATCH, shuffle=True, seed=1, augment=augment, input_context=context
        )

    def stored(context=None):
        cache = tfkd.TeacherCache(Path(directory) / "cache")
        return cache.dataset(digits(), BATCH, input_context=context)

    def images(context=None):
        return batches(context).map(lambda image, label: image)

    weights = {digit: 0.5 + digit / 9 for digit in range(10)}
    return {
        "plain": ({}, batches, None),
        "hints": ({"hints": True}, batches, None),
        "cached, hints": ({"hints": True}, stored, None),
        "class weights": ({}, batches, weights),
        "no labels": ({"labels": False}, images, None),
        "SyncBN": ({"normalized": True}, batches, None),
    }


def build_cache(directory):
    import tfkd

    made = distiller(None, hints=True)
    augment = tfkd.data.augmentation("crop_flip")
    path = Path(directory) / "cache"
    tfkd.TeacherCache.build(path, made, digits(), augment, views=3, verbose=0)


def equality(strategy, directory, index):
    """Trains each way for 50 steps and writes the weights."""
    arrays = {}
    for name, (settings, data, weights) in ways(directory).items():
        made = distiller(strategy, **settings)

        # Read on from epoch to epoch, of 21 steps, the last with 14 examples.
        def repeated(context=None, data=data):
            return data(context).repeat()

        if strategy is None or weights:  # fit shares out whole batches, and weighs classes
            given = repeated()
        else:
            given = strategy.distribute_datasets_from_function(repeated)
        made.fit(given, epochs=2, steps_per_epoch=STEPS // 2, verbose=0, class_weight=weights)
        trained = [*made.student.weights, *made.adapters.trainable_variables]
        arrays |= {f"{name}/{i}": w.numpy() for i, w in enumerate(trained)}
    np.savez(Path(directory) / f"weights {index}.npz", **arrays)
    return {}


def speed(strategy, directory, index):
    """Seconds of an epoch of a larger student, by the clock and of this process's processors."""
    import keras

    import tfkd

    random = np.random.default_rng(0)
    size = (TIMED * BATCH, 64, 64, 3)
    images = random.integers(0, 256, size).astype("uint8")
    examples = tfkd.data.pipeline.from_arrays(images, random.integers(0, 10, len(images)))

    def data(context=None):
        return tfkd.data.batches(examples, BATCH, shuffle=True, input_context=context)

    many = strategy is not None and strategy.num_replicas_in_sync > 1
    given = strategy.distribute_datasets_from_function(data) if many else data()
    wall, processor = [], []

    class Clock(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            self.begun = time.perf_counter(), time.process_time()

        def on_epoch_end(self, epoch, logs=None):
            wall.append(time.perf_counter() - self.begun[0])
            processor.append(time.process_time() - self.begun[1])

    made = distiller(strategy, size=64, channels=3, width=32)
    made.fit(given, epochs=4, verbose=0, callbacks=[Clock()])
    return {"wall": wall[1:], "processor": processor[1:]}  # the first traces


def work(options):
    import tensorflow as tf

    if options.threads:
        tf.config.threading.set_intra_op_parallelism_threads(options.threads)
        tf.config.threading.set_inter_op_parallelism_threads(options.threads)
    strategy = None
    if "TF_CONFIG" in os.environ:
        strategy = tf.distribute.MultiWorkerMirroredStrategy()
    task = {"equality": equality, "speed": speed}[options.task]
    found = task(strategy, options.directory, options.index)
    (Path(options.directory) / f"{OUTCOME} {options.index}.json").write_text(json.dumps(found))


# The two measurements.


def compare(counts):
    """[{"way", "processes", "one", "workers"}]: largest differences of the weights."""
    rows = []
    with tempfile.TemporaryDirectory() as directory:
        build_cache(directory)
        run(directory, 0, "equality")
        one = dict(np.load(Path(directory) / "weights 0.npz"))
        for count in counts:
            run(directory, count, "equality", threads=1)
            own = [dict(np.load(Path(directory) / f"weights {i}.npz")) for i in range(count)]
            for way in ways(directory):
                names = [name for name in one if name.startswith(f"{way}/")]
                apart = {"one": _apart([one], own[:1], names)}
                apart["workers"] = _apart(own[:1] * (count - 1), own[1:], names)
                rows.append({"way": way, "processes": count, **apart})
                print(rows[-1], flush=True)
    return rows


def _apart(some, others, names):
    pairs = [(a[n], b[n]) for a, b in zip(some, others, strict=True) for n in names]
    return max(float(np.abs(a - b).max()) for a, b in pairs)


def measure(rounds):
    """{way: {"wall", "processor", ...}}: seconds of an epoch, in turns."""
    settings = {"one process": (0, None), "1 worker": (1, None), "2 workers": (2, 1)}
    taken = {name: [] for name in settings}
    with tempfile.TemporaryDirectory() as directory:
        for _ in range(rounds):
            for name, (count, threads) in settings.items():
                found = run(directory, count, "speed", threads=threads)
                epochs = {kind: np.array([f[kind] for f in found]) for kind in found[0]}
                wall = float(np.median(epochs["wall"].max(axis=0)))
                processor = float(np.median(epochs["processor"].sum(axis=0)))
                taken[name].append({"wall": wall, "processor": processor})
                print(name, taken[name][-1], flush=True)
    return summary(taken)


def summary(taken):
    base = taken["one process"]
    return {
        name: {
            "rounds": found,
            **{
                kind: {
                    "step": statistics.median(f[kind] for f in found) / TIMED,
                    "ratios": sorted(f[kind] / b[kind] for f, b in zip(found, base, strict=True)),
                }
                for kind in ("wall", "processor")
            },
        }
        for name, found in taken.items()
    }


def main():
    parser = argparse.ArgumentParser(prog="python -m benchmarks.workers", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="2 processes, one round")
    parser.add_argument("--rounds", type=int, default=3)
    for name in ("--task", "--directory"):
        parser.add_argument(name, help=argparse.SUPPRESS)
    for name in ("--index", "--threads"):
        parser.add_argument(name, type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.task:
        work(options)
        return
    equal = compare([2] if options.quick else [2, 4])
    times = measure(1 if options.quick else options.rounds)
    record.write("workers", {"equality": equal, "speed": times}, options.quick)
    if not options.quick:
        put(equal, times)


def put(equal, times):
    """Puts both tables into the README."""
    by_way = {}
    for row in equal:
        by_way.setdefault(row["way"], []).append(row)
    rows = [
        [way, *(f"{r['one']:.1e}" for r in found), *(f"{r['workers']:.0e}" for r in found)]
        for way, found in by_way.items()
    ]
    header = ["way", "2 processes", "4 processes", "among the 2", "among the 4"]
    record.put("workers equality", record.table(header, rows))
    rows = [
        [name, *(_cell(found[kind]) for kind in ("wall", "processor"))]
        for name, found in times.items()
    ]
    header = ["an epoch's step", "wall time", "processor time, all processes"]
    record.put("workers speed", record.table(header, rows))


def _cell(found):
    least, most = found["ratios"][0], found["ratios"][-1]
    middle = statistics.median(found["ratios"])
    step = f"{1000 * found['step']:.0f} ms"
    return step if least == most == 1 else f"{step}, × {middle:.2f} ({least:.2f} to {most:.2f})"


if __name__ == "__main__":
    main()
