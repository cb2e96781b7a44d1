"""Does publishing survive a killed exporter, and the local server its clients? Prints its figures.

    python benchmarks/serving.py [--kills 20] [--seconds 60] [--clients 8] [--cases 1000]

1. An exporter is killed (SIGKILL) at random moments while a reader polls the base directory as
   TensorFlow Serving does and loads and runs every version that it ever sees.
2. Concurrent clients ask the local server while two versions are published.
3. Random bad requests: none may crash the server or get a 5xx.
"""

import argparse
import base64
import gc
import http.client
import json
import multiprocessing
import os
import random
import statistics
import tempfile
import threading
import time
import urllib.request
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import keras
import numpy as np
import psutil

from tfkd.export import loader
from tfkd.export.checks import check_saved_model, checksums
from tfkd.export.saved_model import encode_png, export_saved_model
from tfkd.export.server import Server

SHAPE = (28, 28, 1)


def student():
    """A small classifier; what it says does not matter here."""
    image = keras.Input(SHAPE, name="image")
    x = keras.layers.Rescaling(1 / 255)(image)
    for width in (16, 32):
        x = keras.layers.Conv2D(width, 3, strides=2, activation="relu")(x)
    x = keras.layers.Dense(10, name="logits")(keras.layers.GlobalAveragePooling2D()(x))
    return keras.Model(image, x, name="student")


def exporters():
    """The context of exporter processes, forked from one that has imported TensorFlow, not used
    it."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tfkd.export.saved_model", "tfkd.export.checks"])
    return context


def export_once(base):
    """One version, from a process of its own, as in life."""
    export_saved_model(student(), base)


def export_for_ever(base, check, ready):
    """What the killed process does."""
    model = student()
    ready.send("exporting")
    while True:
        export_saved_model(model, base, check=check)


class Reader:
    """Reads a base directory every 50 ms as TensorFlow Serving does, in a thread of its own. Every
    version is loaded with the C++ loader in a fresh process and run, as soon as it is seen."""

    def __init__(self, base):
        self._base = base
        self._seen = {}
        self._stop = threading.Event()
        self._loaders = ThreadPoolExecutor(2)
        self._thread = threading.Thread(target=self._poll)
        self._thread.start()

    def close(self):
        """Stop; returns ([version number], {number: what was wrong with it})."""
        self._stop.set()
        self._thread.join()
        self._look()
        broken = {}
        for number, (future, at_first_sight) in self._seen.items():
            if future.exception():
                broken[number] = str(future.exception())
            elif checksums(self._base / number) != at_first_sight:
                broken[number] = "it changed after it was seen"
        self._loaders.shutdown()
        return sorted(self._seen, key=int), broken

    def _poll(self):
        while not self._stop.wait(0.05):
            self._look()

    def _look(self):
        for number in os.listdir(self._base):
            if number.isdecimal() and number not in self._seen:
                path = self._base / number
                self._seen[number] = self._loaders.submit(check_saved_model, path), checksums(path)


def kill_exporters(kills):
    """Part 1. Exporters with and without checks in turn, killed at any moment of their first two
    exports."""
    chance, durations, moments = random.Random(0), {}, []
    context = exporters()
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder) / "student"
        base.mkdir()
        for check in (True, False):
            start = time.monotonic()
            export_saved_model(student(), Path(folder) / "timed", check=check)
            durations[check] = time.monotonic() - start
        reader, start = Reader(base), time.monotonic()
        for number in range(kills):
            check = number % 2 == 0
            ours, theirs = context.Pipe()
            exporter = context.Process(target=export_for_ever, args=(base, check, theirs))
            exporter.start()
            ours.recv()
            moments.append(2 * durations[check] * chance.random())
            time.sleep(moments[-1])
            assert exporter.is_alive()
            exporter.kill()
            exporter.join()
        seconds = time.monotonic() - start
        seen, broken = reader.close()
        abandoned = len([*base.glob(".tmp-*")])
        export_saved_model(student(), base, check=False)
        assert not [*base.glob(".tmp-*")], "what killed exporters left was not swept"
    print(f"one export: {durations[True]:.1f} s with checks, {durations[False]:.1f} s without")
    print(
        f"kills: {kills} in {seconds:.0f} s, {min(moments):.2f} to {max(moments):.2f} s after the "
        f"start; versions seen: {len(seen)}, broken: {len(broken)}, left half done: {abandoned}"
    )
    assert not broken, broken


def ask(port, bodies, clients, seconds):
    """Ask one request after another from so many threads; ([status or error], [seconds])."""
    statuses, times, end = [], [], time.monotonic() + seconds

    def client(turn):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        while time.monotonic() < end:
            start, body = time.perf_counter(), bodies[turn % len(bodies)]
            try:
                connection.request("POST", "/v1/models/student:predict", body)
                response = connection.getresponse()
                response.read()
                statuses.append(response.status)
            except (OSError, http.client.HTTPException) as error:
                connection.close()
                statuses.append(repr(error))
            times.append(time.perf_counter() - start)
            turn += 1

    threads = [threading.Thread(target=client, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return statuses, times


def load(seconds, clients):
    """Part 2."""
    pixels = np.random.default_rng(0).integers(0, 256, (8, *SHAPE))
    bodies = [json.dumps({"instances": pixels[:size].tolist()}) for size in (1, 8)]
    files = [{"b64": base64.b64encode(encode_png(p.astype("uint8"))).decode()} for p in pixels]
    bodies.append(json.dumps({"signature_name": "serve_bytes", "instances": files}))
    memory, publishers, context = [], [], exporters()
    with tempfile.TemporaryDirectory() as folder, ProcessPoolExecutor(1, context) as asking:
        base = Path(folder) / "student"
        export_saved_model(student(), base)
        with Server(base, rest_port=0, grpc_port=0) as server:
            gc.freeze()  # as `tfkd serve` does
            start = time.monotonic()
            asked = asking.submit(ask, server.rest_port, bodies, clients, seconds)
            while not asked.done():
                time.sleep(seconds / 60)
                memory.append(megabytes())
                if time.monotonic() > start + (len(publishers) + 1) * seconds / 3 < start + seconds:
                    publishers.append(context.Process(target=export_once, args=(base,)))
                    publishers[-1].start()
            statuses, times = asked.result()
            url = f"http://127.0.0.1:{server.rest_port}/v1/models/student"
            with urllib.request.urlopen(url) as answer:
                (state,) = json.load(answer)["model_version_status"]
    failed = sum(status != 200 for status in statuses)
    print(
        f"requests: {len(statuses)} in {seconds} s from {clients} clients, failed: {failed}, "
        f"versions published meanwhile: {len(publishers)}, now: version {state['version']}"
    )
    percentiles = np.percentile(np.array(times) * 1e3, (50, 95, 99))
    print("latency ms p50 {:.1f}, p95 {:.1f}, p99 {:.1f}".format(*percentiles))
    for place, name in enumerate(("server", "loaders")):
        values = [moment[place] for moment in memory]
        early, late = statistics.median(values[5:15]), statistics.median(values[-10:])
        print(f"{name} MB: early {early:.0f}, late {late:.0f}, peak {max(values):.0f}")
    assert failed == 0
    assert int(state["version"]) == 1 + len(publishers)


def megabytes():
    """Resident memory of this process (the server) and of its loaders' processes."""
    me, loaders = psutil.Process(), 0
    for process in me.children():
        try:
            if loader.__file__ in process.cmdline():
                loaders += process.memory_info().rss
        except psutil.NoSuchProcess:
            continue
    return me.memory_info().rss / 1e6, loaders / 1e6


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
    if options.kills:
        kill_exporters(options.kills)


if __name__ == "__main__":
    main()
