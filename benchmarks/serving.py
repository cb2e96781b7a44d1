"""Does publishing survive a killed exporter, and the local server its clients? Prints its figures.

    python -m benchmarks.serving [--rest 2000] [--grpc 1200] [--kills 20] [--seconds 60]
                                 [--clients 8]

1. Image files of many kinds and random bad requests, from one seed: none may end the server or a
   loader's process, or get a 5xx (over gRPC: INTERNAL, UNKNOWN or UNAVAILABLE) for what is the
   client's mistake.
2. One of two models' loaders is stopped (SIGSTOP) while clients ask for both.
3. Concurrent clients ask the local server while two versions are published.
4. An exporter is killed (SIGKILL) at random moments while a reader polls the base directory as
   TensorFlow Serving does and loads and runs every version that it ever sees.

All traffic stays on 127.0.0.1. Parts 1 and 2 end after ten minutes at the latest.
"""

import argparse
import base64
import contextlib
import functools
import gc
import http.client
import json
import multiprocessing
import os
import random
import signal
import statistics
import tempfile
import threading
import time
import urllib.request
from collections import Counter
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import grpc
import keras
import numpy as np
import psutil
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2

from benchmarks import bad_requests, image_kinds
from tfkd.export.checks import check_saved_model, checksums
from tfkd.export.saved_model import encode_png, export_saved_model
from tfkd.runtime import loader
from tfkd.serving.server import Server

SHAPE = (28, 28, 1)
PREDICT = "/v1/models/student:predict"
LONGEST = 600  # seconds of part 1


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
    sizes = []
    for process in loader_processes():
        with contextlib.suppress(psutil.NoSuchProcess):
            sizes.append(process.memory_info().rss)
    return psutil.Process().memory_info().rss / 1e6, sum(sizes) / 1e6


def loader_processes():
    """The loaders' processes of this one."""
    found = []
    for process in psutil.Process().children():
        with contextlib.suppress(psutil.NoSuchProcess):
            if loader.__file__ in process.cmdline():
                found.append(process)
    return found


@contextlib.contextmanager
def two_models(**options):
    """A server of the student and of a model of odder inputs and outputs."""
    with tempfile.TemporaryDirectory() as folder:
        bases = {name: Path(folder) / name for name in ("student", "odd")}
        export_saved_model(student(), bases["student"], features=["conv2d"], check=False)
        odd = Odd()
        signatures = odd.__call__.get_concrete_function()
        tf.saved_model.save(odd, str(bases["odd"] / "1"), signatures=signatures)
        with Server(bases, rest_port=0, grpc_port=0, **options) as server:
            yield server


class Odd(tf.Module):
    """Strings in rows, a scalar in and out, an unknown rank, results of two sizes."""

    @tf.function(
        input_signature=[
            tf.TensorSpec((None, 2), tf.string, name="words"),
            tf.TensorSpec((), tf.int64, name="step"),
            tf.TensorSpec(None, tf.float32, name="x"),
        ]
    )
    def __call__(self, words, step, x):
        return {"words": words, "step": step + 1, "x": x, "sum_bytes": tf.strings.as_string(x)}


def survive(rest_cases, grpc_cases):
    """Part 1."""
    chance, end = random.Random(0), time.monotonic() + LONGEST
    good = {"instances": np.zeros((1, *SHAPE)).tolist()}
    files = image_kinds.kinds()
    images = [content for content, _ in files.values() if len(content) < 20_000]
    with two_models(maximum_bytes=200_000, labels={"student": {"stable": 1}}) as server:
        before = loaders()
        channel = predict_call(server)
        for name, (content, served) in files.items():
            row = {"b64": base64.b64encode(content).decode()}
            body = json.dumps({"signature_name": "serve_bytes", "instances": [row]})
            status = post(server, "POST", PREDICT, {}, body)
            code = predict(channel, of_bytes(content))
            assert (status == 200) is served and status in (200, 400), (name, status)
            assert (code == "OK") is served and code in ("OK", "INVALID_ARGUMENT"), (name, code)
        print(f"kinds of images: {len(files)}, served: {sum(s for _, s in files.values())}")

        counts, done = Counter(), 0
        for case in range(rest_cases):
            method, path, headers, body = bad_requests.rest(chance, good, images)
            status = post(server, method, path, headers, body)
            counts[status] += 1
            if isinstance(status, int) and status >= 500:
                raise AssertionError(f"case {case}: {status} for {method} {path} {body[:300]}")
            if case % 50 == 0:
                assert post(server, "POST", PREDICT, {}, json.dumps(good)) == 200, "a good request"
                done = case + 1
            if time.monotonic() > end:
                break
        print(f"bad REST requests: {case + 1}, answers: {dict(sorted(counts.items(), key=str))}")
        assert case + 1 == rest_cases, f"only {done} cases within {LONGEST} s"

        counts, sound = Counter(), of_pixels()
        for case in range(grpc_cases):
            request = bad_requests.grpc(chance, images)
            code = predict(channel, request)
            counts[code] += 1
            # What is no message at all gRPC itself calls INTERNAL, in TensorFlow Serving too.
            allowed = ("INTERNAL",) if isinstance(request, bytes) else ()
            if code in {"INTERNAL", "UNKNOWN", "UNAVAILABLE", "DEADLINE_EXCEEDED"} - {*allowed}:
                raise AssertionError(f"case {case}: {code} for {str(request)[:300]}")
            if case % 50 == 0:
                assert predict(channel, sound) == "OK", "a good request failed"
            if time.monotonic() > end:
                break
        print(f"bad gRPC requests: {case + 1}, answers: {dict(sorted(counts.items()))}")
        assert case + 1 == grpc_cases, f"only {case + 1} cases within {LONGEST} s"
        assert loaders() == before, "a loader's process ended"
        print("MB at the end: server {:.0f}, loaders {:.0f}".format(*megabytes()))


def post(server, method, path, headers, body):
    """Status of one REST request, or "closed": the server may hang up on what is too large."""
    connection = http.client.HTTPConnection("127.0.0.1", server.rest_port, timeout=60)
    try:
        connection.request(method, path, body, headers)
        response = connection.getresponse()
        response.read()
        return response.status
    except (ConnectionError, http.client.HTTPException):
        return "closed"
    finally:
        connection.close()


def predict_call(server):
    """A call of Predict that takes messages or any bytes."""
    channel = grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}")
    return channel.unary_unary(
        "/tensorflow.serving.PredictionService/Predict",
        request_serializer=lambda r: r if isinstance(r, bytes) else r.SerializeToString(),
        response_deserializer=predict_pb2.PredictResponse.FromString,
    )


def predict(call, request):
    """The name of the status of one gRPC request."""
    try:
        call(request, timeout=60)
    except grpc.RpcError as error:
        return error.code().name
    return "OK"


def of_bytes(content):
    """A request of one encoded image."""
    request = predict_pb2.PredictRequest()
    request.model_spec.name, request.model_spec.signature_name = "student", "serve_bytes"
    request.inputs["image_bytes"].CopyFrom(tf.make_tensor_proto(np.array([content], object)))
    return request


def of_pixels(name="student"):
    """A request of one black image."""
    request = predict_pb2.PredictRequest()
    request.model_spec.name = name
    request.inputs["image"].CopyFrom(tf.make_tensor_proto(np.zeros((1, *SHAPE), "float32")))
    return request


def loaders():
    """{process id} of the loaders' processes."""
    return {process.pid for process in loader_processes()}


def stopped_loader(clients):
    """Part 2."""
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder) / "student"
        export_saved_model(student(), base, check=False)
        with Server({"stopped": base, "running": base}, rest_port=0, grpc_port=0) as server:
            body = json.dumps({"instances": np.zeros((1, *SHAPE)).tolist()})
            ask_running, ask_stopped = (
                functools.partial(post, server, "POST", f"/v1/models/{name}:predict", {}, body)
                for name in ("running", "stopped")
            )
            calm = timed(ask_running, 5.0)
            with server._models["stopped"].using() as version:
                process = version._worker.pid
            os.kill(process, signal.SIGSTOP)
            start = time.monotonic()
            with ThreadPoolExecutor(4 * clients) as pool:
                waiting = [pool.submit(ask_stopped) for _ in range(4 * clients)]
                disturbed = timed(ask_running, 5.0)
                statuses = Counter(future.result() for future in waiting)
            back = time.monotonic() - start
            assert ask_stopped() == 200
            assert process not in loaders()
    for name, times in (("before", calm), ("while the other is stopped", disturbed)):
        p50, p95 = np.percentile(np.array(times) * 1e3, (50, 95))
        print(
            f"running model, {name}: {len(times)} requests, p50 {p50:.1f} ms, p95 {p95:.1f} ms, "
            f"max {max(times) * 1e3:.0f} ms"
        )
    print(f"stopped model: {dict(statuses)} after {back:.1f} s, by another process")
    assert set(statuses) <= {200, 504} and max(disturbed) < 2.0


def timed(ask_once, seconds):
    """Durations of requests, one after another, each of which must be answered."""
    times, end = [], time.monotonic() + seconds
    while time.monotonic() < end:
        start = time.perf_counter()
        assert ask_once() == 200
        times.append(time.perf_counter() - start)
    return times


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    numbers = {"rest": 2000, "grpc": 1200, "kills": 20, "seconds": 60, "clients": 8}
    for name, default in numbers.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    options = parser.parse_args()
    print(f"{os.cpu_count()} CPUs")
    if options.rest and options.grpc:
        survive(options.rest, options.grpc)
    stopped_loader(options.clients)
    if options.seconds:
        load(options.seconds, options.clients)
    if options.kills:
        kill_exporters(options.kills)


if __name__ == "__main__":
    main()
