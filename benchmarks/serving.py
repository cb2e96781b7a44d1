"""Does publishing survive a killed exporter, and the local server its clients? Prints its figures.

    python benchmarks/serving.py [--kills 20] [--seconds 60] [--clients 8] [--cases 1000]

1. An exporter is killed (SIGKILL) at random moments while a reader polls the base directory as
   TensorFlow Serving does, loads every version it sees with the C++ loader and runs it.
2. Concurrent clients ask the local server while two versions are published.
3. Random bad requests: none may crash the server or get a 5xx.
"""

import argparse
import base64
import http.client
import json
import multiprocessing
import os
import random
import statistics
import tempfile
import threading
import time
from pathlib import Path

import keras
import numpy as np
import psutil

from tfkd.export.checks import check_saved_model
from tfkd.export.saved_model import encode_png, export_saved_model
from tfkd.export.server import Server
from tfkd.export.versions import list_versions

SHAPE = (28, 28, 1)


def student():
    """A small classifier; what it says does not matter here."""
    image = keras.Input(SHAPE, name="image")
    x = keras.layers.Rescaling(1 / 255)(image)
    for width in (16, 32):
        x = keras.layers.Conv2D(width, 3, strides=2, activation="relu")(x)
    x = keras.layers.Dense(10, name="logits")(keras.layers.GlobalAveragePooling2D()(x))
    return keras.Model(image, x, name="student")


def export_for_ever(base):
    """What the killed process does."""
    model = student()
    while True:
        export_saved_model(model, base, check=False)


def kill_exporters(kills):
    """Part 1; returns how many versions were seen, all of them whole."""
    moments, checked = random.Random(0), set()
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder) / "student"
        for _ in range(kills):
            before = len(list_versions(base))
            exporter = context.Process(target=export_for_ever, args=(base,), daemon=True)
            exporter.start()
            deadline = None
            while deadline is None or time.monotonic() < deadline:
                versions = list_versions(base)
                if deadline is None and len(versions) > before:  # it works: now pick the moment
                    deadline = time.monotonic() + 2 * moments.random()
                for number in sorted(set(versions) - checked):
                    check_saved_model(versions[number])  # raises unless it is whole and runs
                    checked.add(number)
                    break
            exporter.kill()
            exporter.join()
        for number, path in list_versions(base).items():
            if number not in checked:
                check_saved_model(path)
                checked.add(number)
        abandoned = len([*base.glob(".tmp-*")])
    print(f"kills: {kills}, versions seen: {len(checked)}, broken: 0, left half done: {abandoned}")


def load(seconds, clients):
    """Part 2."""
    model, pixels = student(), np.random.default_rng(0).integers(0, 256, (8, *SHAPE))
    bodies = [json.dumps({"instances": pixels[:size].tolist()}) for size in (1, 8)]
    files = [{"b64": base64.b64encode(encode_png(p.astype("uint8"))).decode()} for p in pixels]
    bodies.append(json.dumps({"signature_name": "serve_bytes", "instances": files}))
    statuses, times, memory, stop = [], [], [], threading.Event()
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder) / "student"
        export_saved_model(model, base)
        with Server(base, rest_port=0, grpc_port=0) as server:
            address = "127.0.0.1", server.rest_port

            def client(number):
                connection, turn = http.client.HTTPConnection(*address, timeout=30), number
                while not stop.is_set():
                    start = time.perf_counter()
                    connection.request(
                        "POST", "/v1/models/student:predict", bodies[turn % len(bodies)]
                    )
                    response = connection.getresponse()
                    response.read()
                    times.append(time.perf_counter() - start)
                    statuses.append(response.status)
                    turn += 1

            threads = [threading.Thread(target=client, args=(n,)) for n in range(clients)]
            for thread in threads:
                thread.start()
            start, published = time.monotonic(), 0
            while time.monotonic() < start + seconds:
                time.sleep(seconds / 60)
                memory.append(loader_memory())
                if published < 2 and time.monotonic() > start + (published + 1) * seconds / 3:
                    export_saved_model(model, base)
                    published += 1
            stop.set()
            for thread in threads:
                thread.join()
    failed = sum(status != 200 for status in statuses)
    early, late = statistics.median(memory[5:15]), statistics.median(memory[-10:])
    print(f"requests: {len(statuses)}, failed: {failed}, versions published: {published}")
    percentiles = np.percentile(np.array(times) * 1e3, (50, 95, 99))
    print("latency ms p50 {:.1f}, p95 {:.1f}, p99 {:.1f}".format(*percentiles))
    print(f"server + loader MB: early {early:.0f}, late {late:.0f}, peak {max(memory):.0f}")
    assert failed == 0


def loader_memory():
    """Resident megabytes of this process (the server) and its children (the loaders)."""
    me = psutil.Process()
    total = 0
    for process in (me, *me.children()):
        try:
            total += process.memory_info().rss
        except psutil.NoSuchProcess:
            continue
    return total / 1e6


def fuzz(cases):
    """Part 3."""
    chance = random.Random(0)
    good = {"instances": np.zeros((1, *SHAPE)).tolist()}
    png = encode_png(np.zeros(SHAPE, "uint8"))
    counts = {}
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder) / "student"
        export_saved_model(student(), base)
        with Server(base, rest_port=0, grpc_port=0, maximum_bytes=200_000) as server:

            def ask(method, path, body):
                connection = http.client.HTTPConnection("127.0.0.1", server.rest_port, timeout=30)
                try:
                    connection.request(method, path, body)
                    return connection.getresponse().status
                finally:
                    connection.close()

            for case in range(cases):
                method, path, body = bad_request(chance, good, png)
                try:
                    status = ask(method, path, body)
                except (ConnectionError, http.client.HTTPException):
                    status = "closed"  # the server may hang up on a body that is too large
                counts[status] = counts.get(status, 0) + 1
                if isinstance(status, int) and status >= 500 and status != 501:
                    raise AssertionError(f"case {case}: {status} for {method} {path} {body[:200]}")
                if case % 50 == 0:
                    answer = ask("POST", "/v1/models/student:predict", json.dumps(good))
                    assert answer == 200, "a good request failed"
    print(f"bad requests: {cases}, answers: {dict(sorted(counts.items(), key=str))}")


def bad_request(chance, good, png):
    """One random (method, path, body)."""
    kind = chance.randrange(8)
    method, path = "POST", "/v1/models/student:predict"
    text = json.dumps(good).encode()
    if kind == 0:  # bytes that are no JSON
        return method, path, chance.randbytes(chance.randrange(1, 2000))
    if kind == 1:  # a good body with some bytes changed
        changed = bytearray(text)
        for _ in range(chance.randrange(1, 20)):
            changed[chance.randrange(len(changed))] = chance.randrange(256)
        return method, path, bytes(changed)
    if kind == 2:  # cut short
        return method, path, text[: chance.randrange(len(text))]
    if kind == 3:  # random JSON under the known keys
        keys = ["instances", "inputs", "signature_name", "image", "image_bytes", "b64"]
        return method, path, json.dumps({chance.choice(keys): random_json(chance) for _ in "ab"})
    if kind == 4:  # paths and methods
        parts = [
            "v1",
            "models",
            "student",
            "versions",
            "1",
            "99",
            "labels",
            "..",
            "%00",
            ":predict",
        ]
        path = "/" + "/".join(chance.choices(parts, k=chance.randrange(1, 7)))
        return chance.choice(["GET", "POST", "PUT", "DELETE", "PATCH"]), path, text
    if kind == 5:  # damaged images
        damaged = bytearray(png)
        for _ in range(chance.randrange(1, 10)):
            damaged[chance.randrange(len(damaged))] = chance.randrange(256)
        row = {"b64": base64.b64encode(damaged[: chance.randrange(len(damaged))]).decode()}
        return method, path, json.dumps({"signature_name": "serve_bytes", "instances": [row]})
    if kind == 6:  # too large, or deeply nested
        return method, path, chance.choice([b"[", b"1", b'{"a":']) * chance.randrange(1, 300_000)
    shape = [chance.randrange(0, 40) for _ in range(chance.randrange(0, 5))]  # wrong shapes
    return method, path, json.dumps({"inputs": np.zeros(shape).tolist()})[:150_000]


def random_json(chance, depth=0):
    kind = chance.randrange(7 if depth < 4 else 5)
    if kind == 5:
        return [random_json(chance, depth + 1) for _ in range(chance.randrange(4))]
    if kind == 6:
        return {chance.choice(["b64", "image", "x"]): random_json(chance, depth + 1) for _ in "ab"}
    return [None, True, chance.uniform(-1e40, 1e40), "text", 10 ** chance.randrange(30)][kind]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, default in (("kills", 20), ("seconds", 60), ("clients", 8), ("cases", 1000)):
        parser.add_argument(f"--{name}", type=int, default=default)
    options = parser.parse_args()
    print(f"{os.cpu_count()} CPUs")
    fuzz(options.cases)
    load(options.seconds, options.clients)
    kill_exporters(options.kills)


if __name__ == "__main__":
    main()
