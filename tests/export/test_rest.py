import base64
import json

import numpy as np
import pytest

from tfkd.export.hosting import ServingError
from tfkd.export.rest import format_answer, parse

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
