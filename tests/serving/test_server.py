import base64
import contextlib
import gzip
import http.client
import json
import os
import signal
import socket
import threading
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import quote

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.framework.tensor_pb2 import TensorProto
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    inference_pb2,
    model_management_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
    regression_pb2,
)

from tfkd.export.saved_model import encode_png, export_saved_model
from tfkd.serving.server import Server


@pytest.fixture(scope="module")
def server(version):
    ports = {"rest_port": 0, "grpc_port": 0}
    labels = {"student": {"stable": 1}}
    limits = {"maximum_bytes": 1_000_000, "timeout": 5.0}
    with Server(version.parent, labels=labels, **ports, **limits) as server:
        yield server


@pytest.fixture(scope="module")
def ask(server):
    """(status code, answer) of a REST call; `body` bytes, or anything JSON."""

    def call(path, body=None, method=None):
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
        url = f"http://127.0.0.1:{server.rest_port}{path}"
        request = urllib.request.Request(url, data=body, method=method)
        try:
            with urllib.request.urlopen(request, timeout=20) as response:
                return response.status, json.load(response)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)

    return call


@pytest.fixture(scope="module")
def channel(server):
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
        yield channel


@pytest.fixture(scope="module")
def predict(channel):
    """gRPC predict: {name: array} → {name: array}."""
    stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)

    def call(feeds, name="student", **spec):
        request = predict_pb2.PredictRequest()
        request.model_spec.name = name
        request.model_spec.signature_name = spec.get("signature", "")
        if "label" in spec:
            request.model_spec.version_label = spec["label"]
        if "version" in spec:
            request.model_spec.version.value = spec["version"]
        for key, value in feeds.items():
            if not isinstance(value, TensorProto):
                value = tf.make_tensor_proto(value)
            request.inputs[key].CopyFrom(value)
        request.output_filter.extend(spec.get("outputs", ()))
        response = stub.Predict(request, 10)
        assert response.model_spec.version.value == 1
        return {key: tf.make_ndarray(proto) for key, proto in response.outputs.items()}

    return call


PREDICT = "/v1/models/student:predict"


def test_rest_equals_keras_in_rows_and_columns_and_from_bytes(ask, student, images, labels):
    logits = student(images[:5].astype("float32"), training=False).numpy()
    status, answer = ask(PREDICT, {"instances": images[:5].tolist()})
    assert status == 200
    np.testing.assert_allclose([row["logits"] for row in answer["predictions"]], logits, atol=1e-5)
    assert [row["label"] for row in answer["predictions"]] == [labels[i] for i in logits.argmax(-1)]
    path = "/v1/models/student/versions/1:predict"
    status, answer = ask(path, {"inputs": {"image": images[:5].tolist()}})
    np.testing.assert_allclose(answer["outputs"]["logits"], logits, atol=1e-5)
    files = [{"b64": base64.b64encode(encode_png(image)).decode()} for image in images[:5]]
    body = {"signature_name": "serve_bytes", "instances": [{"image_bytes": f} for f in files]}
    status, answer = ask("/v1/models/student/labels/stable:predict", body)
    np.testing.assert_allclose([row["logits"] for row in answer["predictions"]], logits, atol=1e-5)
    body = {"signature_name": "features", "instances": images[:1].tolist()}
    status, answer = ask(PREDICT, body)
    assert np.shape(answer["predictions"]) == (1, 5, 5, 8)


def test_grpc_equals_keras(predict, student, images):
    logits = student(images.astype("float32"), training=False).numpy()
    found = predict({"image": images.astype("float32")})
    np.testing.assert_allclose(found["logits"], logits, atol=1e-5)
    files = np.array([encode_png(image) for image in images], object)
    found = predict({"image_bytes": files}, signature="serve_bytes", label="stable")
    np.testing.assert_allclose(found["logits"], logits, atol=1e-5)
    found = predict({"image": images.astype("float32")}, outputs=["label"], version=1)
    assert set(found) == {"label"} and found["label"].shape == (30,)
    repeated = tf.make_tensor_proto(7.0, shape=(2, 12, 12, 3))  # one value for the whole shape
    expected = student(np.full((2, 12, 12, 3), 7.0, "float32"))
    np.testing.assert_allclose(predict({"image": repeated})["logits"], expected, atol=1e-5)


def test_status_and_metadata_over_both(ask, channel):
    available = {"version": "1", "state": "AVAILABLE"}
    available["status"] = {"error_code": "OK", "error_message": ""}
    for path in ("", "/versions/1", "/labels/stable"):
        assert ask(f"/v1/models/student{path}") == (200, {"model_version_status": [available]})
    status, answer = ask("/v1/models/student/metadata")
    definitions = answer["metadata"]["signature_def"]["signature_def"]
    assert set(definitions) == {"serving_default", "serve_bytes", "features"}
    image = definitions["serving_default"]["inputs"]["image"]
    assert image["dtype"] == "DT_FLOAT"
    assert [d["size"] for d in image["tensor_shape"]["dim"]] == ["-1", "12", "12", "3"]

    request = get_model_status_pb2.GetModelStatusRequest()
    request.model_spec.name = "student"
    stub = model_service_pb2_grpc.ModelServiceStub(channel)
    (found,) = stub.GetModelStatus(request, 10).model_version_status
    assert (found.version, found.state) == (1, get_model_status_pb2.ModelVersionStatus.AVAILABLE)
    request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
    request.model_spec.name = "student"
    stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
    signatures = get_model_metadata_pb2.SignatureDefMap()
    stub.GetModelMetadata(request, 10).metadata["signature_def"].Unpack(signatures)
    assert set(signatures.signature_def) == set(definitions)


@pytest.mark.parametrize(
    "path, body, method, status, message",
    [
        # Statuses and first words as TensorFlow Serving's http_rest_api_handler.cc has them.
        ("/", None, None, 404, "nothing at /"),
        ("/v2/models/student", None, None, 404, "nothing at /v2"),
        ("/v1/models/other:predict", b"{}", None, 404, "Servable not found"),
        ("/v1/models/other", None, None, 404, "Could not find any versions of model other"),
        ("/v1/models/student/versions/2", None, None, 404, "Could not find version 2 of model"),
        ("/v1/models/student/versions/2:predict", b"{}", None, 404, "Specific(student, 2)"),
        ("/v1/models/student/versions/2x:predict", b"{}", None, 400, "Malformed request: POST"),
        (f"/v1/models/student/versions/{10**30}:predict", b"{}", None, 400, "convert version"),
        (f"/v1/models/student/versions/{2**63}", None, None, 400, "convert version"),
        ("/v1/models/student/labels/x:predict", b"{}", None, 400, "Unrecognized servable version"),
        ("/v1/models/student/labels/x", None, None, 400, "Unrecognized servable version label: x"),
        ("/v1/models/student/labels/a:b:predict", b"{}", None, 400, "Malformed request"),
        ("/v1/models/student:classify", b"{}", None, 400, "Expected classify signature"),
        ("/v1/models/student:guess", b"{}", None, 400, "Malformed request"),
        ("/v1/models", None, None, 400, "Malformed request: GET /v1/models"),
        (PREDICT, None, "GET", 400, "Malformed request: GET"),
        ("/v1/models/student", b"{}", "POST", 400, "Malformed request: POST"),
        ("/v1/models/student/metadata", None, "DELETE", 400, "Malformed request: DELETE"),
        (PREDICT + "?x=1", b"{}", None, 400, "Malformed request"),
        (PREDICT, b"", "POST", 400, "no JSON"),
        (PREDICT, {"signature_name": "nope", "instances": [1]}, None, 400, '"nope" not found'),
        (PREDICT, {"instances": [[[[1, 2, 3]] * 12] * 11]}, None, 400, "shape"),
        (PREDICT, {"instances": [[[["a"] * 3] * 12] * 12]}, None, 400, "numbers of the type"),
        (PREDICT, b"[" + b"1," * 600_000 + b"1]", None, 413, "larger than 1000000 bytes"),
    ],
)
def test_a_wrong_rest_request_gets_the_right_status(ask, path, body, method, status, message):
    found, answer = ask(path, body, method)
    assert found == status
    assert message in answer["error"]


@pytest.mark.parametrize(
    "content", [b"junk", b"", b"\x89PNG\r\n\x1a\n" + b"\xff" * 40, b"GIF89a" * 9]
)
def test_bytes_that_are_no_image_or_a_bomb_are_the_clients_mistake(ask, predict, content):
    row = {"b64": base64.b64encode(content).decode()}
    status, answer = ask(PREDICT, {"signature_name": "serve_bytes", "instances": [row]})
    assert status == 400 and ("image" in answer["error"] or "PNG" in answer["error"])
    with pytest.raises(grpc.RpcError) as caught:
        predict({"image_bytes": np.array([content], object)}, signature="serve_bytes")
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def huge():
    proto = tf.make_tensor_proto(np.zeros((1, 12, 12, 3), "float32"))
    proto.tensor_shape.dim[0].size = 10**12
    return proto


def mislabelled():
    proto = tf.make_tensor_proto(np.zeros((1, 12, 12, 3), "float32"))
    proto.tensor_content = proto.tensor_content[:-3]
    return proto


@pytest.mark.parametrize(
    "feeds, spec, code, message",
    [
        ({"image": np.zeros((1, 12, 12, 3))}, {}, "INVALID_ARGUMENT", "dtype number 2; expected 1"),
        ({"image": np.float32(1)}, {}, "INVALID_ARGUMENT", "shape"),
        ({"image": np.zeros((0, 12, 12, 3), "f4")}, {}, "INVALID_ARGUMENT", "at least one"),
        ({"image": np.zeros((1, 12, 0, 3), "f4")}, {}, "INVALID_ARGUMENT", "shape"),
        ({"image": huge()}, {}, "INVALID_ARGUMENT", "which is not the shape's number"),
        ({"image": mislabelled()}, {}, "INVALID_ARGUMENT", "image"),
        ({"image": np.array([b"x"], object)}, {}, "INVALID_ARGUMENT", "dtype number 7"),
        ({}, {}, "INVALID_ARGUMENT", "takes ['image']"),
        ({"image": np.zeros((1, 12, 12, 3), "f4")}, {"name": "x"}, "NOT_FOUND", "Servable"),
        ({"image": np.zeros((1, 12, 12, 3), "f4")}, {"version": 9}, "NOT_FOUND", "(student, 9)"),
        ({"image": np.zeros((1, 12, 12, 3), "f4")}, {"label": "x"}, "INVALID_ARGUMENT", "label: x"),
        ({}, {"signature": "x"}, "FAILED_PRECONDITION", 'signature key "x" not found'),
        (
            {"image": np.zeros((1, 12, 12, 3), "f4")},
            {"outputs": ["x"]},
            "INVALID_ARGUMENT",
            'no output "x"',
        ),
        ({"image": np.zeros((600, 12, 12, 3), "f4")}, {}, "RESOURCE_EXHAUSTED", "larger than max"),
    ],
)
def test_a_wrong_grpc_request_gets_the_right_status(predict, feeds, spec, code, message):
    with pytest.raises(grpc.RpcError) as caught:
        predict(feeds, **spec)
    assert caught.value.code() is grpc.StatusCode[code]
    assert message in caught.value.details()


def test_labels_and_names_of_any_letters_are_served(version, images):
    names = {"v1.2-rc": version.parent, "Kätzchen 2": version.parent}
    labels = {name: {"canary-eu": 1, "1.0": 1, "späť": 1} for name in names}
    body = json.dumps({"instances": images[:1].tolist()}).encode()
    with Server(names, rest_port=0, grpc_port=0, labels=labels) as server:
        for name, answers in labels.items():
            for label in answers:
                path = f"/v1/models/{quote(name)}/labels/{quote(label)}"
                for case in (str, lambda text: text.replace("/v1/models", "/V1/Models")):
                    url = f"http://127.0.0.1:{server.rest_port}{case(path)}"
                    with urllib.request.urlopen(f"{url}:predict", body, timeout=20) as response:
                        assert len(json.load(response)["predictions"]) == 1
                    with urllib.request.urlopen(url, timeout=20) as response:
                        assert response.status == 200


@pytest.mark.parametrize(
    "name, labels, message",
    [
        ("a/b", {}, "cannot be called 'a/b'"),
        ("..", {}, r"cannot be called '\.\.'"),
        ("", {}, "cannot be called ''"),
        ("a:b", {}, "cannot be called 'a:b'"),
        ("a", {"b": {"x": 1}}, r"Labels are given for \['b'\]"),
        ("a", {"a": {"x/y": 1}}, "cannot be 'x/y'"),
        ("a", {"a": {"x": "1"}}, "number of a version; given '1'"),
        ("a", {"a": {"x": 2**63}}, "number of a version"),
        ("a", {"a": {"x": True}}, "number of a version"),
    ],
)
def test_names_and_labels_that_no_request_could_hold_are_refused(version, name, labels, message):
    with pytest.raises(ValueError, match=message):
        Server({name: version.parent}, rest_port=0, grpc_port=0, labels=labels)


@pytest.mark.parametrize(
    "headers, body, status, message",
    [
        ({"Content-Encoding": "gzip"}, b"junk", 400, "no gzip"),
        ({"Content-Encoding": "deflate"}, b"junk", 400, "no deflate"),
        ({"Content-Encoding": "br"}, b"junk", 400, "is not read"),
        ({"Content-Encoding": "gzip"}, gzip.compress(b"1" * 10**7, mtime=0), 400, "unpacked"),
        ({"Content-Encoding": "gzip"}, gzip.compress(b"{}", mtime=0), 400, "(rows)"),
        (
            {"Transfer-Encoding": "chunked"},
            b"f4240\r\n" + b"1" * 10**6 + b"\r\n1\r\n1\r\n",
            413,
            "",
        ),
        ({"Content-Length": "-1"}, b"", 400, ""),
        ({"Content-Length": "99999999999"}, b"1" * 10**6, 413, "larger"),
    ],
)
def test_bodies_in_other_wrappings(server, headers, body, status, message):
    connection = http.client.HTTPConnection("127.0.0.1", server.rest_port, timeout=20)
    connection.putrequest("POST", PREDICT)
    for name, value in headers.items():
        connection.putheader(name, value)
    if not {"Transfer-Encoding", "Content-Length"} & set(headers):
        connection.putheader("Content-Length", str(len(body)))
    connection.endheaders()
    with contextlib.suppress(ConnectionError):  # it may hang up before it read everything
        connection.send(body)
    response = connection.getresponse()
    assert response.status == status
    assert message in response.read().decode()
    connection.close()


def test_a_chunk_that_is_none_is_the_clients_mistake(server):
    connection = http.client.HTTPConnection("127.0.0.1", server.rest_port, timeout=20)
    connection.putrequest("POST", PREDICT)
    connection.putheader("Transfer-Encoding", "chunked")
    connection.endheaders()
    connection.send(b"zz\r\njunk\r\n")
    # At once if it comes with the header; else no more is read, and the body is waited for.
    assert connection.getresponse().status in (400, 408)
    connection.close()


def test_one_grpc_string_does_not_fill_a_shape(predict):
    content = tf.make_tensor_proto(np.array([b"x" * 3400], object))
    content.tensor_shape.dim[0].size = 10**6
    with pytest.raises(grpc.RpcError, match="takes 3424000000 bytes") as caught:
        predict({"image_bytes": content}, signature="serve_bytes")
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_what_tensorflow_serving_refuses_over_grpc(channel):
    stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
    models = model_service_pb2_grpc.ModelServiceStub(channel)
    request = predict_pb2.PredictRequest()
    named = predict_pb2.PredictRequest()
    named.model_spec.name = "student"
    empty = predict_pb2.PredictRequest()
    empty.model_spec.signature_name = "x" * 100_000
    twice = predict_pb2.PredictRequest(output_filter=["label", "label"])
    twice.model_spec.name = "student"
    twice.inputs["image"].CopyFrom(tf.make_tensor_proto(np.zeros((1, 12, 12, 3), "f4")))
    long = predict_pb2.PredictRequest()
    long.model_spec.name = "student"
    long.model_spec.signature_name = "ä" * 100_000
    status = get_model_status_pb2.GetModelStatusRequest()
    metadata = get_model_metadata_pb2.GetModelMetadataRequest()
    metadata.model_spec.name = "student"
    classify = classification_pb2.ClassificationRequest(model_spec=named.model_spec)
    regress = regression_pb2.RegressionRequest(model_spec=named.model_spec)
    several = inference_pb2.MultiInferenceRequest()
    reload = model_management_pb2.ReloadConfigRequest()
    for call, argument, code, message in [
        (stub.Predict, request, "INVALID_ARGUMENT", "Missing ModelSpec"),
        (stub.Predict, empty, "INVALID_ARGUMENT", "no name specified"),
        (stub.Predict, twice, "INVALID_ARGUMENT", "an output twice"),
        (stub.Predict, long, "FAILED_PRECONDITION", "Serving signature key"),
        (stub.Classify, classify, "INVALID_ARGUMENT", "Expected classify signature"),
        (stub.Regress, regress, "INVALID_ARGUMENT", "Expected regress signature"),
        (stub.MultiInference, several, "INVALID_ARGUMENT", "Only Predict"),
        (models.GetModelStatus, status, "INVALID_ARGUMENT", "Missing ModelSpec"),
        (stub.GetModelMetadata, metadata, "INVALID_ARGUMENT", "metadata_field"),
        (models.HandleReloadConfigRequest, reload, "UNIMPLEMENTED", "fixed"),
    ]:
        with pytest.raises(grpc.RpcError, match=message) as caught:
            call(argument, 10)
        assert caught.value.code() is grpc.StatusCode[code]


def test_a_stopped_loader_delays_no_other_model(version, images):
    bases = {"stopped": version.parent, "running": version.parent}
    body = json.dumps({"instances": images[:1].tolist()}).encode()
    with Server(bases, rest_port=0, grpc_port=0, timeout=3.0, concurrency=4) as server:
        root = f"http://127.0.0.1:{server.rest_port}/v1/models"
        with server._models["stopped"].using() as chosen:
            first = chosen._worker.pid
        os.kill(first, signal.SIGSTOP)

        def ask(name):
            try:
                with urllib.request.urlopen(f"{root}/{name}:predict", body, timeout=60) as answer:
                    return answer.status
            except urllib.error.HTTPError as error:
                return error.code

        with ThreadPoolExecutor(8) as clients:
            waiting = [clients.submit(ask, "stopped") for _ in range(8)]
            seconds = []
            for _ in range(20):
                start = time.monotonic()
                assert ask("running") == 200
                seconds.append(time.monotonic() - start)
            assert not all(future.done() for future in waiting)
            assert np.median(seconds) < 1.0 and max(seconds) < 3.0
            assert {future.result() for future in waiting} <= {200, 504}
        assert ask("stopped") == 200  # by another process
        with server._models["stopped"].using() as chosen:
            assert chosen._worker.pid != first


def test_good_requests_are_answered_among_bad_ones(ask, images):
    bad = [b"junk", {"instances": []}, {"instances": [[1]]}, b"1" * 1_100_000]
    failures = []

    def disturb():
        for _ in range(5):
            failures.extend(status for body in bad if (status := ask(PREDICT, body)[0]) >= 500)

    thread = threading.Thread(target=disturb)
    thread.start()
    while thread.is_alive():
        assert ask(PREDICT, {"instances": images[:2].tolist()})[0] == 200
    assert failures == []


def test_a_client_that_stops_sending_is_let_go(version):
    options = {"rest_port": 0, "grpc_port": 0, "timeout": 0.5}
    with Server(version.parent, **options) as server:
        with socket.create_connection(("127.0.0.1", server.rest_port), timeout=10) as client:
            head = (
                b"POST /v1/models/student:predict HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\n\r\n"
            )
            client.sendall(head + b"{")
            start = time.monotonic()
            assert client.recv(100).startswith(b"HTTP/1.1 408")
            assert time.monotonic() - start < 5


def test_publishing_while_clients_ask_loses_no_request(student, version, images, tmp_path):
    base = tmp_path / "student"
    export_saved_model(student, base, check=False)
    body = json.dumps({"instances": images[:1].tolist()}).encode()
    statuses, stop = [], threading.Event()
    options = {"rest_port": 0, "grpc_port": 0, "poll_seconds": 0.05}
    with Server(base, **options) as server:
        root = f"http://127.0.0.1:{server.rest_port}/v1/models/student"

        def client():
            while not stop.wait(0.005):  # without a pause the new version would hardly be loaded
                with urllib.request.urlopen(f"{root}:predict", body, timeout=20) as response:
                    statuses.append(response.status)

        clients = [threading.Thread(target=client) for _ in range(2)]
        for thread in clients:
            thread.start()
        export_saved_model(student, base, check=False, keep=1)
        seen, deadline = None, time.monotonic() + 60
        while seen != "2" and time.monotonic() < deadline:
            with urllib.request.urlopen(root) as response:
                seen = json.load(response)["model_version_status"][0]["version"]
        assert seen == "2"
        stop.set()
        for thread in clients:
            thread.join()
    assert len(statuses) > 20 and set(statuses) == {200}


def test_what_cannot_be_served_is_refused_at_the_start(tmp_path, server, version):
    ports = {"rest_port": 0, "grpc_port": 0}
    with pytest.raises(ValueError, match="it holds no version"):
        Server(tmp_path, **ports)
    (tmp_path / "1").mkdir()
    with pytest.raises(ValueError, match="version 1: Could not find SavedModel"):
        Server(tmp_path, **ports)
    with pytest.raises(OSError, match="address already in use"):
        Server(version.parent, rest_port=server.rest_port, grpc_port=0)
    with pytest.raises(OSError, match="cannot be used"):
        Server(version.parent, rest_port=0, grpc_port=server.grpc_port)
