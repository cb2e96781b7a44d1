"""Random requests that a server must survive, over REST and gRPC; all from one seed."""

import base64
import gzip
import json
import zlib

import numpy as np
import tensorflow as tf
from tensorflow.core.framework.tensor_pb2 import TensorProto
from tensorflow_serving.apis import predict_pb2

_NAMES = ["image", "image_bytes", "words", "step", "x", "b64", "", "ä" * 50]
_SIGNATURES = ["", "serving_default", "serve_bytes", "features", "__saved_model_init_op", "x" * 999]


def rest(chance, good, images):
    """One random (method, path, headers, body).

    Args:
        chance: `random.Random`.
        good: a sound request, as JSON can hold it.
        images: bytes of image files.
    """
    method, path, headers = "POST", "/v1/models/student:predict", {}
    text = json.dumps(good).encode()
    kind = chance.randrange(14)
    if kind == 0:  # bytes that are no JSON
        text = chance.randbytes(chance.randrange(1, 2000))
    elif kind == 1:  # a good body with some bytes changed
        text = _damaged(chance, text)
    elif kind == 2:  # cut short
        text = text[: chance.randrange(len(text))]
    elif kind == 3:  # random JSON under the known keys
        keys = ["instances", "inputs", "signature_name", *_NAMES]
        text = json.dumps({chance.choice(keys): _json(chance) for _ in "ab"}).encode()
    elif kind == 4:  # paths and methods
        method, path = chance.choice(["GET", "POST", "PUT", "DELETE", "HEAD", "X"]), _path(chance)
    elif kind == 5:  # damaged images
        text = _of_images([_damaged(chance, chance.choice(images)) for _ in "ab"])
    elif kind == 6:  # too large, or deeply nested
        unit = chance.choice([b"[", b"1", b'{"a":', b"[],", b'{"instances":[['])
        text = unit * chance.randrange(1, 300_000 // len(unit))
    elif kind == 7:  # wrong shapes
        shape = [chance.randrange(0, 40) for _ in range(chance.randrange(0, 5))]
        text = json.dumps({"inputs": np.zeros(shape).tolist()})[:150_000].encode()
    elif kind == 8:  # packed, or said to be
        packed = [gzip.compress(text), zlib.compress(text), text, gzip.compress(b"1" * 10**7)]
        text = chance.choice(packed)
        if chance.random() < 0.5:
            text = _damaged(chance, text)
        encodings = ["gzip", "deflate", "br", "zstd", "identity", "gzip, gzip", "ä".encode()]
        headers["Content-Encoding"] = chance.choice(encodings)
    elif kind == 9:  # base64 of all sorts
        alphabet = "ABCxyz019+/-_=. \n\t*ä\0"
        words = ["".join(chance.choices(alphabet, k=chance.randrange(30))) for _ in "abc"]
        rows = [{"b64": word} for word in words]
        text = json.dumps({"signature_name": "serve_bytes", "instances": rows}).encode()
    elif kind == 10:  # numbers at the edges
        numbers = [
            "NaN",
            "Infinity",
            "1e999",
            "-0",
            str(2**24),
            str(10**400),
            "1e-400",
            "0x1",
            "1_0",
        ]
        row = ",".join(chance.choices(numbers, k=28))
        text = f'{{"instances": [[{row}]], "inputs": {chance.choice(numbers)}}}'.encode()
        text = chance.choice([text, f'{{"inputs": [[{row}]]}}'.encode()])
    elif kind == 11:  # the model of many kinds of inputs
        path = "/v1/models/odd:predict"
        inputs = {name: _json(chance) for name in ("words", "step", "x")}
        inputs |= chance.choice([{}, {"step": 1, "x": [1.5]}, {"words": [["a", "b"]], "step": 2}])
        key = chance.choice(["inputs", "instances"])
        text = json.dumps({key: inputs if key == "inputs" else [inputs] * 2}).encode()
    elif kind == 12:  # the same key twice, text in other encodings
        text = chance.choice(
            [text[:-1] + b"," + text[1:], text.decode().encode("utf-16"), b"\xef\xbb\xbf" + text]
        )
    else:  # examples without end
        rows = [{"b64": ""}] * chance.randrange(1, 9000)
        text = json.dumps({"signature_name": "serve_bytes", "instances": rows}).encode()
    return method, path, headers, text


def grpc(chance, images):
    """One random `PredictRequest`, or bytes that are none."""
    request = predict_pb2.PredictRequest()
    request.model_spec.name = chance.choice(["student"] * 6 + ["odd"] * 3 + ["", "x" * 5000])
    request.model_spec.signature_name = chance.choice(["", "", "", *_SIGNATURES])
    kind = chance.randrange(10)
    if kind == 0:
        request.model_spec.version.value = chance.choice([0, -1, 1, 2, 2**63 - 1])
    elif kind == 1:
        request.model_spec.version_label = chance.choice(["", "stable", "x", "ä" * 3000])
    if kind == 2:
        request.output_filter.extend(chance.choices(["logits", "label", "", "x" * 3000], k=2))
    if request.model_spec.name == "odd":
        request.inputs["words"].CopyFrom(tf.make_tensor_proto(np.array([[b"a", b"b"]], object)))
        request.inputs["step"].CopyFrom(tf.make_tensor_proto(np.int64(3)))
        request.inputs["x"].CopyFrom(tf.make_tensor_proto(np.float32([1.5])))
        name = chance.choice(["words", "step", "x"])
    else:
        name = "image_bytes" if request.model_spec.signature_name == "serve_bytes" else "image"
    if kind < 9:
        request.inputs[chance.choice([name] * 9 + _NAMES)].CopyFrom(_proto(chance, images))
    if kind == 9:
        return _damaged(chance, request.SerializeToString() or b"\0")
    return request


def _proto(chance, images):
    """A TensorProto whose dtype, shape, fields and content have little to do with each other."""
    proto = TensorProto(dtype=chance.choice([1] * 6 + [7] * 4 + [*range(25), 101]))
    shapes = [[1, 28, 28, 1], [2, 28, 28, 1], [1], [3], [], [0], [-1], [10**6], [2**40] * 2]
    shapes += [[1, 2], [10**12, 28, 28, 1], [1, 28, 28, 0], [1] * 300, [2**62, 2, 1]]
    for size in chance.choice(shapes):
        proto.tensor_shape.dim.add(size=size)
    proto.tensor_shape.unknown_rank = chance.random() < 0.02
    count = chance.choice([0, 1, 1, 1, 3, 784, 1568])
    fields = {
        "float_val": [1.5] * count,
        "double_val": [float("nan")] * count,
        "int_val": [chance.choice([1, 300, -(2**31)])] * count,
        "int64_val": [chance.choice([0, 2**63 - 1])] * count,
        "bool_val": [True] * count,
        "half_val": [chance.choice([15360, 2**31 - 1])] * count,
        "uint64_val": [2**64 - 1] * count,
        "string_val": [_damaged(chance, chance.choice(images)) for _ in range(min(count, 3))],
    }
    for name in chance.choices(list(fields), k=chance.randrange(3)):
        getattr(proto, name).extend(fields[name])
    if chance.random() < 0.4:
        size = chance.choice([0, 1, 4, 3136, 3137, 6272, 100_000])
        proto.tensor_content = chance.randbytes(size)
    return proto


def _damaged(chance, content):
    if not content or chance.random() < 0.1:
        return content
    damaged = bytearray(content)
    for _ in range(chance.choice([1, 1, 1, 3, 10, 50])):
        damaged[chance.randrange(min(len(damaged), chance.choice([40, 10**9])))] = chance.randrange(
            256
        )
    if chance.random() < 0.3:
        damaged = damaged[: chance.randrange(len(damaged))]
    return bytes(damaged)


def _of_images(files):
    rows = [{"b64": base64.b64encode(file).decode()} for file in files]
    return json.dumps({"signature_name": "serve_bytes", "instances": rows}).encode()


def _path(chance):
    parts = ["v1", "V1", "models", "student", "versions", "1", "99", str(10**30), "labels", ".."]
    parts += ["%00", "%2e%2e", "stable", "metadata", "student:predict", ":predict", "a:b:c", "?x=1"]
    return "/" + "/".join(chance.choices(parts, k=chance.randrange(1, 7)))


def _json(chance, depth=0):
    kind = chance.randrange(8 if depth < 4 else 6)
    if kind == 6:
        return [_json(chance, depth + 1) for _ in range(chance.randrange(4))]
    if kind == 7:
        return {chance.choice(["b64", "image", "x"]): _json(chance, depth + 1) for _ in "ab"}
    edges = [10 ** chance.randrange(30), -1, 2**63, 0.5, "\ud800", ""]
    return [None, True, chance.uniform(-1e40, 1e40), "text", chance.choice(edges), [["a", "b"]]][
        kind
    ]
