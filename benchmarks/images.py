"""Photos at 224 px: Keras's folder reader, tfkd's, and tfkd's from a store of decoded images.

Processor time is that of the whole process, all threads: what is left of it trains. Every way gives
shuffled batches of 32; Keras's are float32, tfkd's uint8, as its models take them. The photos are
synthetic (fields of several scales and noise, JPEG of quality 90, 500 × 375), each linked under
several names, for an epoch of thousands; their files are in the system's cache after the first
round, which is not counted.

python -m benchmarks.images [--quick]
"""

import argparse
import io
import os
import statistics
import tempfile
import time
import warnings
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf
from array_record.python.array_record_module import ArrayRecordReader, ArrayRecordWriter
from PIL import Image

from benchmarks import record, timing
from tfkd import data
from tfkd.data import folder

SIZE, BATCH, ROUNDS = 224, 32, 5
HEIGHT, WIDTH = 375, 500
SCALES = {4: 60, 12: 40, 40: 25, 125: 12}  # {columns of a field: its strength}
NOISE = 16
KERAS, FILES, STORE = "image_dataset_from_directory", "tfkd, files", "tfkd, store"


def main():
    parser = argparse.ArgumentParser(prog="python -m benchmarks.images")
    parser.add_argument("--quick", action="store_true", help="few photos: does it run at all?")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    folder.MEMORY_LIMIT = 0  # stream, as a large folder is
    rounds = 2 if options.quick else ROUNDS
    with tempfile.TemporaryDirectory() as directory:
        directory = Path(directory)
        root = write_photos(directory / "photos", 100 if options.quick else 1000)
        ways, found = made(root, directory)
        result = {"machine": timing.machine(), **found, "ways": read(ways, rounds)}
        result["formats"] = formats(directory, 96 if options.quick else 512, rounds)
    record.write("images", result, options.quick)
    tables = {"images": _ways_table(result), "image formats": _formats_table(result)}
    for name, text in tables.items():
        print(text)
        if not options.quick:
            record.put(name, text)


def write_photos(root, count, names=4):
    """Writes `count` JPEG photos in four classes, a tenth of them as test split; the folder.

    Args:
        names: under how many names each photo stands.
    """
    random = np.random.default_rng(0)
    for number in range(count):
        split = "test" if number % 10 == 9 else "train"
        path = root / split / f"class{number // 10 % 4}" / f"{number:05d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        photo(random).save(path, quality=90)
        os.utime(path, (10**9, 10**9))
        for again in range(1, names):
            os.link(path, path.with_stem(f"{path.stem}_{again}"))
    return root


def photo(random):
    pixels = np.full((HEIGHT, WIDTH, 3), 128.0)
    for columns, strength in SCALES.items():
        field = random.normal(size=(columns * 3 // 4 + 1, columns, 3)) * 40 + 128
        field = Image.fromarray(field.clip(0, 255).astype("uint8"))
        pixels += (np.asarray(field.resize((WIDTH, HEIGHT), Image.BICUBIC)) - 128.0) / 40 * strength
    pixels += random.normal(size=(HEIGHT, WIDTH, 1)) * NOISE
    return Image.fromarray(pixels.clip(0, 255).astype("uint8"))


def made(root, directory):
    """({way: batches of the train split}, figures of the files and of the store)."""

    def batches(**options):
        splits = data.load(root, image_size=SIZE, cache_dir=directory / "listings", **options)
        return data.batches(splits.train, BATCH, shuffle=True)

    by_keras = keras.utils.image_dataset_from_directory(
        root / "train", image_size=(SIZE, SIZE), batch_size=BATCH, seed=0, verbose=False
    )
    files = batches()
    started, cpu = time.perf_counter(), time.process_time()
    stored = batches(store=directory / "stores")
    seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
    images = sum(1 for _ in root.rglob("*.jpg"))
    found = {
        "images": images,
        "file bytes": sum(path.stat().st_size for path in root.rglob("*.jpg")) / images,
        "store bytes": _bytes(directory / "stores") / images,
        "building": {"seconds": seconds, "cpu_ms": 1000 * cpu / images},
    }
    return {KERAS: by_keras, FILES: files, STORE: stored}, found


def _bytes(directory):
    return sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())


def read(ways, rounds):
    """{way: {"cpu_ms", "wall_ms": an image's, by rounds; "images"}}, whole epochs in turns."""
    taken = {way: {"cpu_ms": [], "wall_ms": []} for way in ways}
    for number in range(rounds + 1):
        for way in ways if number % 2 else reversed(ways):
            wall, cpu, images = time.perf_counter(), time.process_time(), 0
            for batch, _ in ways[way]:
                images += len(batch)
            if number:
                taken[way]["cpu_ms"].append(1000 * (time.process_time() - cpu) / images)
                taken[way]["wall_ms"].append(1000 * (time.perf_counter() - wall) / images)
            taken[way]["images"] = images
    return taken


# How a store could be written: records of one image each, read at random, 32 at a time.


def formats(directory, count, rounds):
    """{format: {"bytes": an image's, of its pixels', "cpu_ms": to read one, by rounds}}."""
    random = np.random.default_rng(1)
    photos = [photo(random).resize((SIZE, SIZE), Image.BILINEAR) for _ in range(64)]
    pixels = np.stack([np.asarray(own) for own in photos])[np.arange(count) % 64]
    offered = {"NumPy's .npy by pread, no checksum": _npy(directory, pixels)}
    for how in ("uncompressed", "zstd:1"):
        offered[f"ArrayRecord, {how}"] = _array_record(directory, pixels, how)
    offered["TFRecord by offset"] = _tfrecord(directory, pixels)
    offered["TFRecord in order"] = _tfrecord(directory, pixels, in_order=True)
    offered["PNG, level 1, decoded"] = _png(photos, count)
    taken = {name: [] for name in offered}
    order = random.permutation(count)
    for number in range(rounds + 1):
        for name, (_, function) in offered.items():
            cpu = time.process_time()
            for start in range(0, count, BATCH):
                function(order[start : start + BATCH])
            if number:
                taken[name].append(1000 * (time.process_time() - cpu) / count)
    each = pixels[0].nbytes
    return {
        name: {"bytes": size / count / each, "cpu_ms": taken[name]}
        for name, (size, _) in offered.items()
    }


def _npy(directory, pixels):
    path = directory / "pixels.npy"
    np.save(path, pixels)
    file, size = os.open(path, os.O_RDONLY), pixels[0].nbytes
    start = path.stat().st_size - pixels.nbytes

    def function(indices):
        images = np.empty((len(indices), size), np.uint8)
        for row, index in zip(images, indices.tolist(), strict=True):
            os.preadv(file, [row], start + index * size)

    return path.stat().st_size, function


def _array_record(directory, pixels, how):
    path = directory / f"{how.partition(':')[0]}.array_record"
    writer = ArrayRecordWriter(str(path), f"group_size:1,{how}")
    for image in pixels:
        writer.write(image.tobytes())
    writer.close()
    reader = ArrayRecordReader(str(path), "readahead_buffer_size:0,max_parallelism:0")

    def function(indices):
        images = np.empty((len(indices), pixels[0].nbytes), np.uint8)
        for row, record_ in zip(images, reader.read(indices.tolist()), strict=True):
            row[:] = np.frombuffer(record_, np.uint8)

    return path.stat().st_size, function


def _tfrecord(directory, pixels, in_order=False):
    path, size = str(directory / "pixels.tfrecord"), pixels[0].nbytes + 16  # two lengths, two sums
    with tf.io.TFRecordWriter(path) as writer:
        for image in pixels:
            writer.write(image.tobytes())

    def one(offset):
        variant = tf.raw_ops.TFRecordDatasetV2(
            filenames=[path],
            compression_type="",
            buffer_size=tf.constant(0, tf.int64),
            byte_offsets=offset[tf.newaxis],
            metadata="",
        )
        spec = tf.TensorSpec((), tf.string)
        return tf.data.experimental.from_variant(variant, spec).take(1)

    @tf.function(input_signature=[tf.TensorSpec((None,), tf.int64)])
    def at_random(indices):
        records = tf.data.Dataset.from_tensor_slices(indices * size).flat_map(one)
        together = records.batch(tf.size(indices, tf.int64)).get_single_element()
        return tf.io.decode_raw(together, tf.uint8)

    read_on = iter(tf.data.TFRecordDataset(path).repeat().batch(BATCH))
    function = at_random
    if in_order:

        def function(indices):
            tf.io.decode_raw(next(read_on), tf.uint8)

    return os.path.getsize(path), function


def _png(photos, count):
    encoded = []
    for own in photos:
        file = io.BytesIO()
        own.save(file, "PNG", compress_level=1)
        encoded.append(file.getvalue())

    def function(indices):
        for index in indices:
            tf.io.decode_png(encoded[index % len(encoded)])

    return sum(map(len, encoded)) / len(encoded) * count, function


# Tables.


def _ways_table(result):
    ways, rows = result["ways"], []
    for name, own in ways.items():
        cpu = statistics.median(own["cpu_ms"])
        times = [
            base / this for base, this in zip(ways[KERAS]["cpu_ms"], own["cpu_ms"], strict=True)
        ]
        spread = f"{statistics.median(times):.2f} ({min(times):.2f} to {max(times):.2f})"
        rows.append([name, f"{cpu:.3f}", f"{1000 / cpu:,.0f}", spread])
    header = ["", "CPU ms an image", "images a CPU second", "× Keras"]
    return record.table(header, rows)


def _formats_table(result):
    rows = [
        [name, f"{own['bytes']:.2f}", f"{statistics.median(own['cpu_ms']):.3f}"]
        for name, own in result["formats"].items()
    ]
    return record.table(["", "bytes, of the pixels'", "CPU ms an image"], rows)


if __name__ == "__main__":
    main()
