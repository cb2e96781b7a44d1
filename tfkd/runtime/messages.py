"""Requests and answers between a process and a loader's process: JSON and the arrays' own bytes.

No pickle: what a foreign model makes of its process cannot reach the process that asked. This file
imports nothing but NumPy, since loaders' processes import nothing else either."""

import json
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np

# TensorFlow's status codes, which are gRPC's too.
INVALID_ARGUMENT, DEADLINE_EXCEEDED, NOT_FOUND, RESOURCE_EXHAUSTED = 3, 4, 5, 8
FAILED_PRECONDITION, UNIMPLEMENTED, INTERNAL, UNAVAILABLE = 9, 12, 13, 14
CONCURRENCY = 4  # requests that a loader's process works on at once


class LoaderError(RuntimeError):
    """A TensorFlow status that is not OK; `code` is its number (3 = INVALID_ARGUMENT, 5 =
    NOT_FOUND, ...)."""

    def __init__(self, code, message):
        super().__init__(code, message)
        self.code = code
        self.message = message

    def __str__(self):
        return self.message


def pack(head, arrays):
    """A message as a list of buffers.

    Args:
        head: anything JSON.
        arrays: {name: array}; arrays of objects hold bytes.

    Raises:
        TypeError, ValueError: arrays of other objects, or ragged lists.
    """
    described, parts = [], []
    for name, value in arrays.items():
        array = np.asarray(value)
        described.append([name, array.dtype.str, array.shape])
        if array.dtype == object:
            texts = array.ravel().tolist()
            if not all(isinstance(text, bytes) for text in texts):
                raise TypeError(f'"{name}" must hold bytes.')
            parts += [np.array([len(text) for text in texts], np.int64), b"".join(texts)]
        else:
            parts.append(np.ascontiguousarray(array).reshape(-1).view(np.uint8))
    return [json.dumps([head, described]).encode(), *parts]


def send(connection, buffers):
    """Send what `pack` gave."""
    for buffer in buffers:
        connection.send_bytes(buffer)


def receive(connection):
    """(head, {name: array}) of the next message; arrays are read-only."""
    head, described = json.loads(connection.recv_bytes())
    arrays = {}
    for name, kind, shape in described:
        raw = connection.recv_bytes()
        if np.dtype(kind) == object:
            ends = np.frombuffer(raw, np.int64).cumsum().tolist()
            text = connection.recv_bytes()
            array = np.empty(len(ends), object)
            array[:] = [text[a:b] for a, b in zip([0, *ends], ends, strict=False)]
        else:
            array = np.frombuffer(raw, np.dtype(kind))
        arrays[name] = array.reshape(shape)
    return head, arrays


def serve_connection(connection, load):
    """Call `load()`, say what the model offers, answer requests until the other end closes, then
    end this process, whatever it is still working on.

    A request's head is {"number", "signature", "repeats", "seconds"}, its arrays are the inputs.
    With 0 repeats the answer holds what `run` gives, else the seconds that so many runs took; after
    "seconds" nobody waits for it any more. A head {"ping": number} is answered at once.
    """
    try:
        model = load()
    except LoaderError as error:
        send(connection, pack({"problem": [error.code, error.message]}, {}))
        return
    offer = {"signatures": model.signatures(), "compiled_functions": model.compiled_functions()}
    send(connection, pack({"problem": None, **offer}, {}))
    lock = threading.Lock()

    def reply(head, arrays):
        buffers = pack(head, arrays)
        with lock:
            send(connection, buffers)

    def answer(head, feeds, received):
        found, seconds, problem = {}, [], None
        try:
            left = head["seconds"] and head["seconds"] - (time.monotonic() - received)
            if left is not None and left <= 0:
                raise LoaderError(DEADLINE_EXCEEDED, "The request waited too long for its turn.")
            if head["repeats"]:
                runs = range(head["repeats"])
                seconds = [_seconds(model, head["signature"], feeds) for _ in runs]
            else:
                found = model.run(head["signature"], feeds, left)
        except LoaderError as error:
            problem = [error.code, error.message]
        except MemoryError:
            problem = [RESOURCE_EXHAUSTED, "There is not enough memory for the answer."]
        except Exception as error:  # a feed that NumPy cannot convert is the caller's mistake
            problem = [INVALID_ARGUMENT, f"{type(error).__name__}: {error}"]
        reply({"number": head["number"], "seconds": seconds, "problem": problem}, found)

    pool = ThreadPoolExecutor(CONCURRENCY)
    while True:
        try:
            head, feeds = receive(connection)
        except (EOFError, OSError):
            os._exit(0)  # nobody waits for what is still running
        if "ping" in head:
            reply(head, {})
        else:
            pool.submit(answer, head, feeds, time.monotonic())


def _seconds(model, signature, feeds):
    start = time.perf_counter()
    model.run(signature, feeds)
    return time.perf_counter() - start
