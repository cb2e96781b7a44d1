"""TensorFlow Serving's JSON: requests to arrays, arrays to responses. Pure functions, no
network."""

import base64
import binascii
import json

import numpy as np

from tfkd.export.hosting import INVALID_ARGUMENT, ServingError
from tfkd.export.loader import NUMPY_TYPES, STRING

DEFAULT_SIGNATURE = "serving_default"


def parse(body, signatures):
    """Read the body of a predict request.

    Args:
        body: bytes of `{"signature_name": …, "instances": […]}` (row format) or `{"inputs": …}`
            (columns). Bytes stand as `{"b64": "…"}`; a signature's only input needs no name.
        signatures: as `loader.SavedModel.signatures`.

    Returns:
        (signature name, {input name: array}, whether the answer goes by rows).

    Raises:
        ServingError: INVALID_ARGUMENT, with what was expected.
    """
    try:
        request = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise _refusal(f"The body is no JSON: {error}") from None
    if not isinstance(request, dict):
        raise _refusal("The body must be a JSON object.")
    name = request.get("signature_name", DEFAULT_SIGNATURE) or DEFAULT_SIGNATURE
    if not isinstance(name, str) or name not in signatures:
        raise _refusal(
            f"Signature {name!r} not found. Signatures: {', '.join(sorted(signatures))}."
        )
    if ("instances" in request) == ("inputs" in request):
        raise _refusal('The body must hold either "instances" (rows) or "inputs" (columns).')
    inputs = signatures[name]["inputs"]
    by_rows = "instances" in request
    columns = (
        _columns(request["instances"], inputs) if by_rows else _named(request["inputs"], inputs)
    )
    if set(columns) != set(inputs):
        raise _refusal(f'Inputs {sorted(columns)} were given; "{name}" takes {sorted(inputs)}.')
    feeds = {key: to_array(value, *inputs[key], key) for key, value in columns.items()}
    sizes = {len(array) for array in feeds.values()}
    if len(sizes) > 1 or 0 in sizes:
        raise _refusal(
            f"Every input needs the same number of examples, at least one; given {sizes}."
        )
    return name, feeds, by_rows


def format_answer(outputs, by_rows):
    """{output name: array} as the bytes of a response."""
    columns = {name: _to_json(name, array) for name, array in outputs.items()}
    only = next(iter(columns.values())) if len(columns) == 1 else None
    if by_rows:
        rows = only or [
            dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)
        ]
        return json.dumps({"predictions": rows}).encode()
    return json.dumps({"outputs": only or columns}).encode()


def to_array(value, data_type, shape, name):
    """Nested lists as an array of TensorFlow dtype number `data_type`; -1 in `shape` fits
    anything."""
    if data_type == STRING:
        array = _strings(value, len(shape), name)
    else:
        array = _numbers(value, NUMPY_TYPES[data_type], name)
    check_shape(array.shape, shape, name)
    return array


def check_shape(given, expected, name):
    """Raise ServingError unless the shapes fit."""
    fits = len(given) == len(expected)
    if not fits or any(e not in (-1, g) for g, e in zip(given, expected, strict=True)):
        wanted = ["any" if size == -1 else size for size in expected]
        raise _refusal(f'Input "{name}" has the shape {list(given)}; expected {wanted}.')


def _columns(rows, inputs):
    if not isinstance(rows, list) or not rows:
        raise _refusal('"instances" must be a list of at least one example.')
    named = [isinstance(row, dict) and set(row) != {"b64"} for row in rows]
    if not any(named):
        return {_only(inputs): rows}
    if not all(named) or any(set(row) != set(rows[0]) for row in rows):
        raise _refusal('All "instances" must name the same inputs.')
    return {key: [row[key] for row in rows] for key in rows[0]}


def _named(value, inputs):
    if isinstance(value, dict) and set(value) != {"b64"}:
        return value
    return {_only(inputs): value}


def _only(inputs):
    if len(inputs) != 1:
        raise _refusal(f"The inputs must be named: {sorted(inputs)}.")
    return next(iter(inputs))


def _numbers(value, dtype, name):
    try:
        array = np.asarray(value)
    except ValueError:
        raise _refusal(f'Input "{name}" is ragged: its lists differ in length.') from None
    kinds = "iuf" if dtype.kind == "f" else "b" if dtype.kind == "b" else "iu"
    if array.size and array.dtype.kind not in kinds:
        raise _refusal(f'Input "{name}" must hold numbers of the type {dtype.name}.')
    if dtype.kind in "iu" and array.size:
        limits = np.iinfo(dtype)
        if array.min() < limits.min or array.max() > limits.max:
            raise _refusal(f'Input "{name}" must hold numbers of the type {dtype.name}.')
    with np.errstate(over="ignore"):
        return array.astype(dtype)


def _strings(value, rank, name):
    def decode(item):
        if isinstance(item, str):
            return item.encode()
        if isinstance(item, dict) and set(item) == {"b64"} and isinstance(item["b64"], str):
            try:
                return base64.b64decode(item["b64"], validate=True)
            except (binascii.Error, ValueError):
                raise _refusal(f'Input "{name}" holds "b64" that is no base64.') from None
        raise _refusal(f'Input "{name}" must hold strings or {{"b64": "…"}}.')

    if rank != 1 or not isinstance(value, list):
        raise _refusal(f'Input "{name}" must be a list of strings or {{"b64": "…"}}.')
    array = np.empty(len(value), object)
    array[:] = [decode(item) for item in value]
    return array


def _to_json(name, array):
    if array.dtype != object:
        return array.tolist()
    if name.endswith("_bytes"):  # TensorFlow Serving's rule
        return [{"b64": base64.b64encode(item).decode()} for item in array]
    return [item.decode("utf-8", "replace") for item in array]


def _refusal(message):
    return ServingError(INVALID_ARGUMENT, message)
