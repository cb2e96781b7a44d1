"""A plan on paper for a store a thousand times larger, computed from what is measured here.

    python -m benchmarks.scale measure [--sizes N ...] [--check N]     builds and reads stores
    python -m benchmarks.scale plan [--examples N] [--views V] ...     computes; measures nothing

Records are those of the plan (the ten largest logits: 50 bytes), examples a function of their
number, the teacher is small: what is measured is the store. Time is processor time, which other
jobs on the machine change little; the clock's time is written down beside it.
"""

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks import record

SIZES, PROCESSES, CHECK = (10_000, 100_000, 1_000_000), (1, 2, 4), 10_000_000
CHECKED_BY = 2  # processes
BATCH, CLASSES, TOP_K = 512, 100, 10
DOCS = record.HERE.parent / "docs" / "scale.md"

PAGE = 4096  # bytes that a disk reads for one record
GET_BYTES, GETS, GET_COST = 1_000, 5_500, 0.4e-6  # of a request; a second and prefix; dollars
DISK_READS = {"NVMe disk": 400_000, "network file system": 8_000, "hard disk": 150}  # a second


# Measuring.


class Workers:
    """Processes that have loaded everything and wait for what to do."""

    def __init__(self, count):
        command = [sys.executable, "-m", "benchmarks.scale", "work"]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self._processes = [subprocess.Popen(command, **pipes) for _ in range(count)]
        for process in self._processes:
            process.stdout.readline()

    def run(self, count, *words):
        """(seconds by the clock, what each of some workers found) of one task."""
        begin, chosen = time.perf_counter(), self._processes[:count]
        for process in chosen:
            process.stdin.write(" ".join(map(str, words)) + "\n")
            process.stdin.flush()
        found = [process.stdout.readline() for process in chosen]
        if not all(found):
            raise RuntimeError("A worker ended; what it said stands above.")
        return time.perf_counter() - begin, [json.loads(line) for line in found]

    def end(self):
        for process in self._processes:
            process.stdin.close()
            process.wait()


def measure(options):
    """Builds and reads stores; writes JSON and tables."""
    from benchmarks import timing

    workers = Workers(max(PROCESSES))
    result = {"machine": timing.machine(), "batch": BATCH, "builds": [], "reads": []}
    for size in options.sizes:
        sums = [_built(workers, size, count, result) for count in PROCESSES]
        if len(set(sums)) > 1:
            raise RuntimeError(f"{size} examples: the bytes depend on the number of processes.")
    result["model"] = fitted(result)
    predicted = build_processor_seconds(result["model"], options.check, CHECKED_BY)
    print(f"predicted for {options.check}: {predicted:.1f} s of processors")
    _built(workers, options.check, CHECKED_BY, result)
    found = result["builds"].pop()
    result["check"] = {**found, "predicted": predicted, "read": result["reads"].pop()}
    result["check"]["read_predicted"] = read_processor_seconds(result["model"], options.check)
    workers.end()
    record.write("scale", result, options.quick)
    if not options.quick:
        _put_tables(result)


def _built(workers, size, count, result):
    """Builds a store by some processes, reads it by one; returns a checksum of it."""
    with tempfile.TemporaryDirectory(dir=os.environ.get("TFKD_SCALE_DIR")) as directory:
        path = Path(directory) / "store"
        seconds, found = workers.run(count, "build", size, path)
        result["builds"].append(
            {
                "examples": size,
                "processes": count,
                "seconds": seconds,
                "processor_seconds": sum(own["processor_seconds"] for own in found),
                "bytes": sum(own.stat().st_size for own in path.iterdir()),
            }
        )
        print(result["builds"][-1], flush=True)
        if count == CHECKED_BY:
            result["reads"].append({"examples": size, **workers.run(1, "read", size, path)[1][0]})
            print(result["reads"][-1], flush=True)
        return hashlib.sha256((path / "manifest.json").read_bytes()).hexdigest()


def work():
    """Does what the lines of stdin say, and answers with a line of JSON each."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import keras

    import tfkd
    from benchmarks.cache import SHAPE, _dataset

    def model(name):
        image = keras.Input(SHAPE, name="image")
        x = keras.layers.Flatten()(keras.layers.Rescaling(1 / 255)(image))
        return keras.Model(image, keras.layers.Dense(CLASSES)(x), name=name)

    keras.utils.set_random_seed(0)
    teacher = model("teacher")

    def build(size, path):
        losses = [tfkd.losses.LogitsDistillation()]
        asking = tfkd.Distiller(teacher, model("student"), losses)
        options = {"batch_size": BATCH, "top_k": TOP_K, "verbose": 0}
        tfkd.TeacherCache.build(path, asking, _dataset(int(size)), **options)
        return {}

    def read(size, path):
        begin, at = time.perf_counter(), time.process_time()
        cache = tfkd.TeacherCache(path)
        opened = {"open_seconds": time.process_time() - at}
        opened["open_clock"] = time.perf_counter() - begin
        alone = _epoch(tfkd.data.batches(_dataset(int(size)), BATCH, shuffle=True))
        whole = _epoch(cache.dataset(_dataset(int(size)), BATCH))
        return {**opened, "read_seconds": whole - alone, "images_alone": alone}

    print("ready", flush=True)
    for line in sys.stdin:
        what, *words = line.split()
        begin = time.process_time()
        found = {"build": build, "read": read}[what](*words)
        found["processor_seconds"] = time.process_time() - begin
        print(json.dumps(found), flush=True)


def _epoch(batches):
    """Seconds of processors for one epoch."""
    begin = time.process_time()
    for _ in batches.map(lambda images, *rest: images[0, 0, 0, 0]).batch(1000):
        pass
    return time.process_time() - begin


# The model.


def fitted(result):
    """What a builder takes by itself and for each record; what each record takes to be read, and
    each byte to be checked. Least squares of relative errors."""
    own = result["builds"]
    rows = np.array([[build["processes"], build["examples"]] for build in own], float)
    taken = np.array([build["processor_seconds"] for build in own])
    per_builder, per_record = np.linalg.lstsq(rows / taken[:, None], np.ones(len(own)))[0]
    largest = max(result["reads"], key=lambda read: read["examples"])
    size = next(b["bytes"] for b in own if b["examples"] == largest["examples"])
    return {
        "per_builder": per_builder,
        "per_record": per_record,
        "read_per_record": largest["read_seconds"] / largest["examples"],
        "open_per_byte": largest["open_seconds"] / size,
    }


def build_processor_seconds(model, records, processes):
    return model["per_builder"] * processes + model["per_record"] * records


def read_processor_seconds(model, examples):
    return model["read_per_record"] * examples


def record_bytes(top_k):
    """Of an example's fingerprint, k logits and their classes (below 65,536), and the others'."""
    return 8 + top_k * (2 + 2) + 2


def planned(model, options):
    """{what: (figure, how it is computed)} of the plan."""
    records = options.examples * options.views
    size = records * record_bytes(options.top_k)
    teacher_hours = records / options.teacher_speed / 3600
    store_hours = model["per_record"] * records / 3600
    epoch = options.examples / options.student_speed
    opened = model["open_per_byte"] * size
    rows = {
        "records": (f"{records:.3g}", "examples × views"),
        "bytes": (f"{size / 1e9:,.3g} GB", f"{record_bytes(options.top_k)} bytes a record"),
        "teacher": (
            f"{teacher_hours:,.0f} hours of an accelerator",
            f"assumed: {options.teacher_speed:,} images a second",
        ),
        f"by {options.builders} builders": (
            f"{teacher_hours / options.builders:,.0f} hours",
            "shares of equal size; nothing but the last step is done together",
        ),
        "the store's own work": (
            f"{store_hours:,.1f} hours of a processor",
            f"measured: {1e6 * model['per_record']:.2f} µs a record (the small teacher's too)",
        ),
        "written by all builders": (
            f"{size / teacher_hours / 3600 * options.builders / 1e6:,.2f} MB a second",
            "bytes / (hours / builders)",
        ),
        "a builder that is killed loses": (
            f"{teacher_hours / options.shards:,.1f} hours at most",
            f"one of {options.shards} shards of {size / options.shards / 1e9:,.2f} GB",
        ),
        "last step, and opening with checksums": (
            f"{opened / 60:,.1f} minutes of a processor",
            f"measured: {1e-9 / model['open_per_byte']:.2f} GB a second and processor",
        ),
        "an epoch of the student": (
            f"{epoch / 60:,.0f} minutes",
            f"assumed: {options.student_speed:,} images a second",
        ),
        "reading its records": (
            f"{read_processor_seconds(model, options.examples) / 60:,.1f} minutes of a processor",
            f"measured: {1e6 * model['read_per_record']:.2f} µs a record, from memory",
        ),
        "reads": (f"{options.student_speed:,} a second", "one record an image"),
        "read from a disk": (
            f"{options.examples * PAGE / 1e9:,.0f} GB an epoch, "
            f"{options.student_speed * PAGE / 1e6:,.0f} MB a second",
            f"a page of {PAGE} bytes for every record, as they do not fit in memory",
        ),
    }
    for disk, rate in DISK_READS.items():
        rows[f"an epoch's reads, {disk}"] = (
            f"{options.examples / rate / 60:,.1f} minutes",
            f"assumed: {rate:,} reads a second",
        )
    rows |= {
        "an epoch's reads, object store": (
            f"{options.examples / GETS / 60:,.0f} minutes at least",
            f"{GETS:,} requests a second and prefix; a request a record",
        ),
        "its price": (
            f"${options.examples * GET_COST:,.2f} an epoch",
            f"${GET_COST * 1e6:.2f} a million requests",
        ),
        "network": (
            f"{options.student_speed * (record_bytes(options.top_k) + GET_BYTES) / 1e6:,.1f} MB a "
            "second from an object store",
            f"{GET_BYTES:,} bytes around each record",
        ),
        "copying it once": (
            f"{size / 1.25e9 / 60:,.0f} minutes",
            "at 10 Gb a second; then the disk's figures hold",
        ),
    }
    return rows


# Tables.


def _put_tables(result):
    record.put("scale", _measured_table(result))
    record.put("scale measured", _measured_table(result), DOCS)
    record.put("scale check", _check_table(result), DOCS)
    options = _parser().parse_args(["plan"])
    record.put("scale plan", _plan_table(result["model"], options), DOCS)


def _measured_table(result):
    header = ["examples", "processes", "processors", "by the clock", "records / s and processor"]
    rows = [
        [
            f"{own['examples']:,}",
            own["processes"],
            f"{own['processor_seconds']:.1f} s",
            f"{own['seconds']:.1f} s",
            f"{own['examples'] / own['processor_seconds']:,.0f}",
        ]
        for own in result["builds"]
    ]
    return record.table(header, rows)


def _check_table(result):
    own = result["check"]
    pairs = {
        f"building {own['examples']:,} records by {own['processes']} processes": (
            *(own["predicted"], own["processor_seconds"]),
        ),
        "reading them in a new order": (own["read_predicted"], own["read"]["read_seconds"]),
    }
    rows = [
        [what, f"{expected:.1f} s", f"{found:.1f} s", f"{100 * (found / expected - 1):+.0f} %"]
        for what, (expected, found) in pairs.items()
    ]
    return record.table(["processor time", "predicted", "measured", "difference"], rows)


def _plan_table(model, options):
    rows = [[what, *words] for what, words in planned(model, options).items()]
    return record.table(["", "figure", "from"], rows)


def _parser():
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale", description=__doc__)
    tasks = parser.add_subparsers(dest="task", required=True)
    own = tasks.add_parser("measure", help="build and read stores, and put down what it took")
    own.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    own.add_argument("--check", type=int, default=CHECK, help="the size that is predicted")
    own.add_argument("--quick", action="store_true", help="does it run at all? tables stay")
    own = tasks.add_parser("plan", help="compute a plan from what was measured")
    own.add_argument("--examples", type=int, default=14_197_122, help="of ImageNet-21k")
    own.add_argument("--views", type=int, default=300)
    own.add_argument("--top-k", type=int, default=10)
    own.add_argument("--teacher-speed", type=int, default=1_000, help="images a second")
    own.add_argument("--student-speed", type=int, default=2_500, help="images a second")
    own.add_argument("--builders", type=int, default=8)
    own.add_argument("--shards", type=int, default=512)
    tasks.add_parser("work", help="(what the measuring starts)")
    return parser


def main():
    options = _parser().parse_args()
    if options.task == "work":
        return work()
    if options.task == "measure":
        return measure(options)
    print(_plan_table(record.read("scale")["model"], options))


if __name__ == "__main__":
    main()
