"""Where a step's time goes, kernel by kernel, and the least that this processor could take for it.

The least time of a kind of kernel is what its arithmetic takes at the speed of a large matrix
product, or what reading and writing its tensors once per pass takes at the speed of an elementwise
product of such a size, whichever is more; both come partly from the processor's cache. What the
kernels take is traced in a process of its own that runs one at a time, each on all processors,
for the times of kernels that run beside each other cannot be added.

python -m benchmarks.kernels STEPS     (the traced steps alone, in this process)
"""

import collections
import json
import math
import os
import pathlib
import sys
import tempfile
import time
from typing import NamedTuple

import tensorflow as tf
from keras import layers
from tensorflow.tsl.profiler.protobuf import xplane_pb2

from benchmarks import processes, record, timing
from benchmarks.constants import BATCH, HINTS
from benchmarks.setting import examples, student, teacher_of
from benchmarks.ways import cached, stock

STEPS = 20
CONVOLUTION, DEPTHWISE, NORMALISATION, REST = (
    "convolutions, 1 × 1 and stem",
    "depthwise convolutions",
    "BatchNorm and ReLU",
    "everything else",
)

# Operations of the graph that only call others.
_CALLS = ("PartitionedCall", "StatefulPartitionedCall", "PyFuncStateless")


class Work(NamedTuple):
    """What a kind of kernel has to do in one step at the least."""

    flops: int = 0
    bytes: int = 0


def main(options):
    """Profiles steps of the cached way; writes JSON and table."""
    steps = 5 if options.quick else STEPS
    with tempfile.TemporaryDirectory() as directory:
        dataset = examples(16 * BATCH)
        distiller, batches = cached(student(), teacher_of(1), HINTS, dataset, directory)
        alone, plain = stock(student(), None, {}, dataset, None)
        runs = {
            "stock": timing.fitting(alone, plain),
            "cached": timing.fitting(distiller, batches),
        }
        rounds = options.rounds or (2 if options.quick else 5)
        taken = timing.ratios(timing.race(runs, rounds, "stock"), "stock")
    measured = processes.run("benchmarks.kernels", steps)
    flops, bandwidth = _speed_of_products(), _speed_of_memory()
    work = _least_work(student())
    result = {
        "machine": timing.machine(),
        "flops_per_second": flops,
        "bytes_per_second": bandwidth,
        "steps": {name: taken[name] for name in runs},
        "kinds": {
            kind: {
                "seconds": measured[kind],
                "flops": work[kind].flops,
                "bytes": work[kind].bytes,
                "least_seconds": max(work[kind].flops / flops, work[kind].bytes / bandwidth),
            }
            for kind in measured
        },
    }
    record.write("kernels", result, options.quick)
    print(_table(result))
    if not options.quick:
        record.put("kernels", _table(result))


def _traced(steps):
    """{kind: seconds a step} of the kernels of the cached way, from TensorFlow's profiler."""
    tf.config.threading.set_inter_op_parallelism_threads(1)
    with tempfile.TemporaryDirectory() as directory:
        dataset = examples(2 * steps * BATCH)
        model, batches = cached(student(), teacher_of(1), HINTS, dataset, directory)
        model.fit(batches, steps_per_epoch=1, verbose=0)
        return _profiled(model, batches, steps)


def _profiled(model, batches, steps):
    step, iterator = model.train_function, iter(batches)
    for _ in range(3):
        step(iterator)
    with tempfile.TemporaryDirectory() as directory:
        with tf.profiler.experimental.Profile(directory):
            for _ in range(steps):
                step(iterator)
        seconds = collections.Counter()
        for path in pathlib.Path(directory).glob("**/*.xplane.pb"):
            for kind, duration in _events(path):
                seconds[kind] += duration
    return {kind: seconds[kind] / steps for kind in (CONVOLUTION, DEPTHWISE, NORMALISATION, REST)}


def _events(path):
    """(kind, seconds) of every operation that ran."""
    space = xplane_pb2.XSpace()
    space.ParseFromString(path.read_bytes())
    for plane in space.planes:
        for line in plane.lines:
            for event in line.events:
                name = plane.event_metadata[event.metadata_id].name
                # Operations are "name:Kind"; all else that is traced is not.
                operation = name.rpartition(":")[2]
                if "::" in name or ":" not in name or operation.strip() in _CALLS:
                    continue
                if not name.startswith(("Iterator", "Thread", "$", "tf.")) and "__" not in name:
                    yield _kind(operation), event.duration_ps / 1e12


def _kind(operation):
    for part, kind in {
        "Depthwise": DEPTHWISE,
        "Conv2D": CONVOLUTION,
        "BatchNorm": NORMALISATION,
        "Relu": NORMALISATION,
    }.items():
        if part in operation:
            return kind
    return REST


def _least_work(model):
    """{kind: `Work`} of one train step."""
    work = collections.defaultdict(Work)
    for layer in model.layers:
        kind, flops, moved = REST, 0, 0
        if isinstance(layer, layers.Conv2D | layers.DepthwiseConv2D):
            kind = DEPTHWISE if isinstance(layer, layers.DepthwiseConv2D) else CONVOLUTION
            # Forward, gradient of the filter, and of the input where that is not the image.
            passes = 2 if layer.name == "stem" else 3
            spatial = math.prod(layer.output.shape[1:3])
            flops = passes * 2 * BATCH * spatial * math.prod(layer.kernel.shape)
            moved = passes * (_bytes(layer.input) + _bytes(layer.output))
        elif isinstance(layer, layers.BatchNormalization):
            # Forward: read for the statistics, read, write. Back: gradient and input read for the
            # sums, both read again, one written. ReLU and its gradient cost nothing beside.
            kind, moved = NORMALISATION, 8 * _bytes(layer.output)
        work[kind] = Work(work[kind].flops + flops, work[kind].bytes + moved)
    return work


def _bytes(tensor):
    return 4 * BATCH * math.prod(tensor.shape[1:])


def _speed_of_products(size=2048):
    """FLOP/s of a large float32 matrix product."""
    matrix = tf.random.normal((size, size))
    return 2 * size**3 / _seconds(tf.function(lambda: matrix @ matrix))


def _speed_of_memory(numbers=2**22):
    """Bytes/s read and written by an elementwise product of 16 MiB, as most of the student's."""
    vector = tf.random.normal((numbers,))
    return 2 * 4 * numbers / _seconds(tf.function(lambda: vector * 2.0))


def _seconds(run, times=50):
    """The fastest of many times: what the processor can do."""
    run()
    taken = []
    for _ in range(times):
        start = time.perf_counter()
        run()
        taken.append(time.perf_counter() - start)
    return min(taken)


def _table(result):
    def milliseconds(seconds):
        return f"{1000 * seconds:.0f} ms"

    kinds = result["kinds"].values()
    rows = [
        [
            name,
            milliseconds(found["seconds"]),
            f"{found['flops'] / 1e9:.1f}",
            f"{found['bytes'] / 1e9:.2f}",
            milliseconds(found["least_seconds"]),
        ]
        for name, found in result["kinds"].items()
    ]
    base = result["steps"]["stock"]["seconds"]
    least = sum(found["least_seconds"] for found in kinds)
    rows += [
        [
            "together",
            milliseconds(sum(found["seconds"] for found in kinds)),
            f"{sum(found['flops'] for found in kinds) / 1e9:.1f}",
            f"{sum(found['bytes'] for found in kinds) / 1e9:.2f}",
            milliseconds(least),
        ],
        ["step", milliseconds(result["steps"]["cached"]["seconds"]), "", "", ""],
        [
            f"relative to stock `fit` ({milliseconds(base)})",
            f"{result['steps']['cached']['ratio']:.2f}",
            "",
            "",
            f"{least / base:.2f}",
        ],
    ]
    header = ["", "measured", "GFLOP", "GB moved at least", "least time"]
    return record.table(header, rows)


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    print(json.dumps(_traced(int(sys.argv[1]))))
