import base64
import gzip
import json
import zlib

import numpy as np
import pytest

from tfkd.serving.hosted_models import ServingError
from tfkd.serving.rest import decode_base64, decompress, format_answer, parse

SIGNATURES = {
    "serving_default": {"inputs": {"image": (1, (-1, 2, 1))}},
    "serve_bytes": {"inputs": {"image_bytes": (7, (-1,))}},
    "pixels": {"inputs": {"image": (4, (-1, 2, 1))}},
    "pair": {"inputs": {"left": (1, (-1, 1)), "right": (3, (-1,))}},
}
IMAGES = [[[1], [2.5]], [[3], [4]]]


def parsed(request):
    return parse(json.dumps(request).encode(), SIGNATURES)


@pytest.mark.parametrize(
    "request_body, by_rows",
    [
        ({"instances": IMAGES}, True),
        ({"instances": [{"image": image} for image in IMAGES]}, True),
        ({"inputs": IMAGES}, False),
        ({"inputs": {"image": IMAGES}, "signature_name": ""}, False),
    ],
)
def test_rows_and_columns_named_or_not_give_the_same_array(request_body, by_rows):
    name, feeds, rows = parsed(request_body)
    assert (name, rows) == ("serving_default", by_rows)
    np.testing.assert_array_equal(feeds["image"], np.float32(IMAGES))
    assert feeds["image"].dtype == np.float32


def test_bytes_come_as_base64_or_as_text():
    encoded = {"b64": base64.b64encode(b"\0\xff").decode()}
    for instances in ([encoded, "text"], [{"image_bytes": encoded}, {"image_bytes": "text"}]):
        _, feeds, _ = parsed({"signature_name": "serve_bytes", "instances": instances})
        assert feeds["image_bytes"].tolist() == [b"\0\xff", b"text"]
    _, feeds, _ = parsed({"signature_name": "serve_bytes", "inputs": [encoded]})
    assert feeds["image_bytes"].tolist() == [b"\0\xff"]


def test_several_inputs():
    rows = [{"left": [1], "right": 2}, {"left": [3], "right": 4}]
    _, feeds, _ = parsed({"signature_name": "pair", "instances": rows})
    np.testing.assert_array_equal(feeds["left"], [[1], [3]])
    np.testing.assert_array_equal(feeds["right"], [2, 4])


@pytest.mark.parametrize(
    "request_body, message",
    [
        ([], "must be a JSON object"),
        ({}, 'either "instances"'),
        ({"instances": IMAGES, "inputs": IMAGES}, 'either "instances"'),
        ({"instances": []}, "at least one example"),
        ({"instances": {}}, "at least one example"),
        ({"inputs": []}, r"shape \[0\]"),
        ({"instances": [[[1]]]}, r"shape \[1, 1, 1\]; expected \['any', 2, 1\]"),
        ({"instances": [[[1], [2]], [[1]]]}, "ragged"),
        ({"instances": [[["1"], ["2"]]]}, "numbers of the type float32"),
        ({"instances": [[[None], [1]]]}, "numbers of the type float32"),
        ({"instances": [[[True], [False]]]}, "numbers of the type float32"),
        ({"instances": [[[10**400], [1]]]}, "numbers of the type float32"),
        ({"instances": [{"image": IMAGES[0]}, IMAGES[1]]}, "must name the same inputs"),
        ({"instances": [{"picture": IMAGES[0]}]}, r"Inputs \['picture'\] were given"),
        ({"inputs": {"image": IMAGES, "more": 1}}, r"Inputs \['image', 'more'\] were given"),
        ({"inputs": {}}, r"Inputs \[\] were given"),
        ({"signature_name": "nothing", "instances": IMAGES}, 'name: "nothing" not found'),
        ({"signature_name": ["x"], "instances": IMAGES}, '"signature_name" must be a string'),
        ({"signature_name": "serve_bytes", "instances": [1]}, "must hold strings"),
        ({"signature_name": "serve_bytes", "instances": [{"b64": "*"}]}, "no base64"),
        ({"signature_name": "serve_bytes", "instances": [{"b64": 3}]}, "must hold strings"),
        ({"signature_name": "serve_bytes", "inputs": {"b64": "AAAA"}}, r"shape \[\]"),
        ({"signature_name": "pixels", "instances": [[[256], [0]]]}, "of the type uint8"),
        ({"signature_name": "pixels", "instances": [[[-1], [0]]]}, "of the type uint8"),
        ({"signature_name": "pixels", "instances": [[[0.5], [0]]]}, "of the type uint8"),
        ({"signature_name": "pair", "instances": [1]}, "inputs must be named"),
        (
            {"signature_name": "pair", "inputs": {"left": [[1]], "right": [1, 2]}},
            "the same number of examples",
        ),
    ],
)
def test_a_request_that_does_not_fit_is_refused(request_body, message):
    with pytest.raises(ServingError, match=message) as caught:
        parsed(request_body)
    assert caught.value.code == 3


@pytest.mark.parametrize("body", [b"", b"junk", b"\xff\xfe", b"[" * 100_000, b'{"a":' * 100_000])
def test_what_is_no_json_is_refused(body):
    with pytest.raises(ServingError, match="no JSON"):
        parse(body, SIGNATURES)


PAYLOAD = bytes(range(256)) + b"?>~"  # holds "+" and "/" in the standard alphabet


@pytest.mark.parametrize("length", [0, 1, 2, 3, 255, 256, 259])
@pytest.mark.parametrize(
    "write",
    [
        lambda payload: base64.b64encode(payload),
        lambda payload: base64.encodebytes(payload),
        lambda payload: base64.encodebytes(payload).replace(b"\n", b"\r\n"),
        lambda payload: b" \t\v\f".join(base64.b64encode(payload).partition(b"B")),
        lambda payload: base64.b64encode(payload).rstrip(b"="),
        lambda payload: base64.b64encode(payload).replace(b"=", b"."),
        lambda payload: base64.b64encode(payload).replace(b"=", b" = "),
        lambda payload: base64.urlsafe_b64encode(payload),
        lambda payload: base64.urlsafe_b64encode(payload).rstrip(b"="),
    ],
)
def test_base64_is_read_in_all_its_forms(write, length):
    assert decode_base64(write(PAYLOAD[:length]).decode()) == PAYLOAD[:length]


@pytest.mark.parametrize(
    "text",
    ["A", "AAAAA", "AA=", "AAA==", "AAAA=", "=", "AA==AA==", "A*==", "AAÄ=", "AA\0A", "\ud800"],
)
def test_what_is_no_base64_is_refused(text):
    with pytest.raises(ValueError):
        decode_base64(text)


STRINGS = {
    "words": {"inputs": {"words": (7, (-1, 2))}},
    "any": {"inputs": {"words": (7, None)}},
    "one": {"inputs": {"word": (7, ())}},
    "half": {"inputs": {"x": (19, (-1,))}},
    "double": {"inputs": {"x": (2, (-1,))}},
    "free": {"inputs": {"x": (1, None)}},
    "step": {"inputs": {"image": (1, (-1, 1)), "step": (9, ())}},
    "complex": {"inputs": {"x": (8, (-1,))}},
}


def read(signature, **request):
    body = json.dumps({"signature_name": signature, **request}).encode()
    return parse(body, STRINGS)[1]


def test_inputs_of_every_rank():
    words = [["a", {"b64": "AA=="}], ["ä", ""]]
    assert read("words", instances=words)["words"].tolist() == [[b"a", b"\0"], ["ä".encode(), b""]]
    assert read("any", inputs=words)["words"].shape == (2, 2)
    assert read("one", inputs="alone")["word"].tolist() == b"alone"
    assert read("free", inputs=[[[1]], [[2.5]]])["x"].shape == (2, 1, 1)
    assert read("free", inputs=3)["x"].shape == ()
    found = read("step", inputs={"image": [[1], [2]], "step": 7})
    assert found["step"] == 7 and found["step"].dtype == np.int64


def test_numbers_that_a_float_cannot_hold_are_refused_as_tensorflow_serving_does():
    assert read("free", inputs=[2**24 - 1])["x"] == 2**24 - 1
    assert read("double", inputs=[2**53 - 1])["x"] == 2**53 - 1
    assert np.isnan(read("free", inputs=[float("nan")])["x"])
    assert read("free", inputs=[float("-inf")])["x"] == -np.inf
    for signature, value in [
        ("free", 2**24),
        ("free", -(2**24) - 1),
        ("free", 1e39),
        ("free", -1e39),
        ("double", 2**53 + 1),
        ("half", 70_000.0),
        ("half", 4097),
        ("complex", 1),
    ]:
        with pytest.raises(ServingError, match="type|served"):
            read(signature, inputs=[0.5, value] if value != 1 else [value])
    with pytest.raises(ServingError, match="1e999 is too large"):
        parse(b'{"signature_name": "free", "inputs": [1e999]}', STRINGS)


@pytest.mark.parametrize(
    "inputs, message",
    [
        ([[1, [2]], [3]], "ragged"),
        ([1, [2]], "ragged"),
        ([[], [1]], "ragged"),
        ([{"b64": "AA=="}], "numbers of the type"),
        ([["x" * 10_000], *[[""]] * 10_000], "numbers of the type"),
    ],
)
def test_ragged_and_foreign_values_are_refused_before_an_array_is_made(inputs, message):
    with pytest.raises(ServingError, match=message):
        read("free", inputs=inputs)


def test_a_lone_surrogate_is_refused():
    with pytest.raises(ServingError, match="lone surrogate"):
        parse(b'{"signature_name": "one", "inputs": "\\ud800"}', STRINGS)
    with pytest.raises(ServingError, match="not found"):
        parse(b'{"signature_name": "\\ud800", "inputs": "x"}', STRINGS)


def test_many_small_examples_that_make_large_tensors_are_refused():
    signatures = {
        "serving_default": {"inputs": {"image": (1, (-1, 1000, 1000, 3))}, "outputs": {}},
        "serve_bytes": {"inputs": {"image_bytes": (7, (-1,))}, "outputs": {"y": (1, (-1, 9))}},
    }
    for count, fits in ((178, True), (179, False)):
        rows = [{"b64": "AA=="}] * count
        body = json.dumps({"signature_name": "serve_bytes", "instances": rows}).encode()
        if fits:
            assert len(parse(body, signatures)[1]["image_bytes"]) == count
        else:
            with pytest.raises(ServingError, match="Send at most 178 examples at once"):
                parse(body, signatures)


def test_an_animated_webp_is_refused_whatever_the_graph_does_with_it():
    animated = b"RIFF\0\0\0\0WEBPVP8X\x0a\0\0\0\x02"
    for text, fits in ((animated, False), (animated[:-1] + b"\x10", True), (animated[:20], True)):
        row = {"b64": base64.b64encode(text).decode()}
        body = {"signature_name": "serve_bytes", "instances": [row]}
        if fits:
            assert parsed(body)[1]["image_bytes"].tolist() == [text]
        else:
            with pytest.raises(ServingError, match="WebP image is animated"):
                parsed(body)


BODY = json.dumps({"instances": IMAGES}).encode()
BARE = zlib.compressobj(wbits=-15)
PACKED = {
    "gzip": gzip.compress(BODY, mtime=0),
    "x-gzip": gzip.compress(BODY, mtime=0),
    "GZIP ": gzip.compress(BODY, mtime=0),
    "deflate": zlib.compress(BODY),
    " deflate": BARE.compress(BODY) + BARE.flush(),
    "identity": BODY,
    "": BODY,
}


@pytest.mark.parametrize("encoding", PACKED)
def test_bodies_are_unpacked(encoding):
    assert decompress(PACKED[encoding], encoding, len(BODY)) == BODY
    if PACKED[encoding] != BODY:
        with pytest.raises(ServingError, match="larger than"):
            decompress(PACKED[encoding], encoding, len(BODY) - 1)


@pytest.mark.parametrize(
    "body, encoding, message",
    [
        (b"junk" * 9, "gzip", "no gzip: "),
        (b"junk" * 9, "deflate", "no deflate: "),
        (b"", "gzip", "cut short"),
        (b"", "deflate", "cut short"),
        (PACKED["gzip"][:-1], "gzip", "cut short"),
        (PACKED["deflate"][:-1], "deflate", "cut short"),
        (PACKED["gzip"][:20] + b"\xff" * 9 + PACKED["gzip"][29:], "gzip", "no gzip"),
        (PACKED["gzip"] * 2, "gzip", "followed by something else"),
        (PACKED["deflate"], "gzip", "no gzip"),
        (BODY, "br", "is not read: use gzip"),
        (BODY, "zstd", "is not read: use gzip"),
        (gzip.compress(PACKED["gzip"], mtime=0), "gzip, gzip", "is not read: use gzip"),
        (
            gzip.compress(b"1" * 10**8, mtime=0),
            "gzip",
            "larger than 1000000 bytes when it is unpacked",
        ),
    ],
)
def test_what_cannot_be_unpacked_is_the_clients_mistake(body, encoding, message):
    with pytest.raises(ServingError, match=message) as caught:
        decompress(body, encoding, 1_000_000)
    assert caught.value.code == 3


def test_answers_of_every_rank_and_their_limits():
    words = {"word_bytes": np.array([[b"\0"], [b"a"]], object)}
    assert json.loads(format_answer(words, True)) == {
        "predictions": [[{"b64": "AA=="}], [{"b64": "YQ=="}]]
    }
    assert json.loads(format_answer({"x": np.zeros((2, 0))}, True)) == {"predictions": [[], []]}
    assert json.loads(format_answer({"x": np.zeros(0)}, False)) == {"outputs": []}
    assert json.loads(format_answer({"x": np.float32(0.5)}, False)) == {"outputs": 0.5}
    for outputs in ({"x": np.float32(1)}, {"x": np.zeros(2), "y": np.zeros(3)}):
        with pytest.raises(ServingError, match="no batch size in common"):
            format_answer(outputs, True)
    with pytest.raises(ServingError, match="2147483648 bytes; at most 134217728 are sent as JSON"):
        format_answer({"x": np.broadcast_to(np.uint8(0), (1, 2**31))}, True)


def test_answers_by_rows_and_by_columns():
    outputs = {"label": np.array([b"cat", b"dog"], object), "id": np.array([0, 1], "int32")}
    rows = json.loads(format_answer(outputs, True))
    assert rows == {"predictions": [{"label": "cat", "id": 0}, {"label": "dog", "id": 1}]}
    columns = json.loads(format_answer(outputs, False))
    assert columns == {"outputs": {"label": ["cat", "dog"], "id": [0, 1]}}
    single = {"image_bytes": np.array([b"\0"], object)}
    assert json.loads(format_answer(single, True)) == {"predictions": [{"b64": "AA=="}]}
    assert json.loads(format_answer(single, False)) == {"outputs": [{"b64": "AA=="}]}
    assert format_answer({"x": np.array([np.nan])}, True) == b'{"predictions": [NaN]}'
