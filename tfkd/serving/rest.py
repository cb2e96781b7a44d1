"""TensorFlow Serving's JSON: requests to arrays, arrays to responses. Pure functions, no
network."""

import base64
import binascii
import contextlib
import gc
import itertools
import json
import logging
import re
import threading
import zlib

import numpy as np

from tfkd.runtime.loader import NUMPY_TYPES, STRING
from tfkd.serving.request_checks import (
    DEFAULT_SIGNATURE,
    refusal,
    require_feeds,
    require_shape,
    shown,
)

logger = logging.getLogger(__name__)

MAXIMUM_ANSWER_BYTES = 2**27  # of arrays; as JSON and Python's objects they take twenty times that
_parsing = threading.Lock()
_SPACE = re.compile(r"[ \t\n\v\f\r]+")


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
    with _alone():
        request = _load(body)
        if not isinstance(request, dict):
            raise refusal("The body must be a JSON object.")
        name = request.get("signature_name", "")
        if not isinstance(name, str):
            raise refusal('"signature_name" must be a string.')
        name = name or DEFAULT_SIGNATURE
        if name not in signatures:
            known = ", ".join(sorted(signatures))
            raise refusal(
                f'Serving signature name: "{shown(name)}" not found in signature def. Signatures: '
                f"{known}."
            )
        if ("instances" in request) == ("inputs" in request):
            raise refusal('The body must hold either "instances" (rows) or "inputs" (columns).')
        inputs = signatures[name]["inputs"]
        by_rows = "instances" in request
        read = _columns if by_rows else _named
        columns = read(request["instances" if by_rows else "inputs"], inputs)
        if set(columns) != set(inputs):
            given = shown(sorted(columns))
            raise refusal(f'Inputs {given} were given; "{name}" takes {sorted(inputs)}.')
        feeds = {key: to_array(value, *inputs[key], key) for key, value in columns.items()}
        del request, columns
    require_feeds(signatures, name, feeds)
    if any(array.dtype.kind == "f" and np.isinf(array).any() for array in feeds.values()):
        _load(body, parse_float=_finite)  # "Infinity" is meant, 1e999 is a mistake
    return name, feeds, by_rows


def decompress(body, encoding, maximum_bytes):
    """The content of a body with the header `Content-Encoding`: gzip, deflate or none.

    Raises:
        ServingError: INVALID_ARGUMENT, it is no such content, or larger than `maximum_bytes`.
    """
    encoding = encoding.strip().lower()
    if encoding in ("", "identity"):
        return body
    if encoding not in ("gzip", "x-gzip", "deflate"):
        raise refusal(f'Content-Encoding "{shown(encoding)}" is not read: use gzip, or none.')
    window = 31  # gzip
    if encoding == "deflate":  # with zlib's header, as the standard says, or bare
        window = 15 if len(body) > 1 and not int.from_bytes(body[:2]) % 31 else -15
    reader = zlib.decompressobj(window)
    try:
        content = reader.decompress(body, maximum_bytes + 1)
    except zlib.error as error:
        raise refusal(f"The body is no {encoding}: {error}.") from None
    if len(content) > maximum_bytes:
        raise refusal(f"The body is larger than {maximum_bytes} bytes when it is unpacked.")
    if not reader.eof or reader.unused_data:
        raise refusal(f"The body is no {encoding}: it is cut short, or followed by something else.")
    return content


def format_answer(outputs, by_rows):
    """{output name: array} as the bytes of a response.

    Raises:
        ServingError: the outputs do not go by rows, or are too large for JSON.
    """
    size = sum(array.nbytes for array in outputs.values())
    if size > MAXIMUM_ANSWER_BYTES:
        raise refusal(
            f"The results take {size} bytes; at most {MAXIMUM_ANSWER_BYTES} are sent as JSON. Ask "
            "for fewer examples at once, or over gRPC."
        )
    if by_rows:
        _require_rows(outputs)
    columns = {name: _to_json(name, array) for name, array in outputs.items()}
    only = next(iter(columns.values())) if len(columns) == 1 else None
    if not by_rows:
        return json.dumps({"outputs": columns if only is None else only}).encode()
    if only is None:
        rows = zip(*columns.values(), strict=True)
        only = [dict(zip(columns, row, strict=True)) for row in rows]
    return json.dumps({"predictions": only}).encode()


def to_array(value, data_type, shape, name):
    """Nested lists as an array of TensorFlow dtype number `data_type`; -1 in `shape` fits
    anything, and the shape None too."""
    if data_type not in NUMPY_TYPES:
        raise refusal(f'Input "{name}" is of the dtype number {data_type}, which is not served.')
    leaves, given = _flatten(value, shape, name)
    require_shape(given, shape, name)
    if data_type == STRING:
        array = np.empty(len(leaves), object)
        array[:] = [_decode(leaf, name) for leaf in leaves]
    else:
        array = _numbers(leaves, NUMPY_TYPES[data_type], name)
    return array.reshape(given)


def decode_base64(text):
    """Bytes of base64 as TensorFlow Serving reads it: white space anywhere, the padding complete or
    left out, also of dots. The URL-safe alphabet is read as well, which TensorFlow Serving refuses.

    Raises:
        ValueError: it is no base64.
    """
    text = _SPACE.sub("", text)
    bare = text.rstrip("=.")
    padding = -len(bare) % 4
    if len(text) - len(bare) not in (0, padding) or padding == 3:
        raise ValueError("wrong padding")
    if "-" in bare or "_" in bare:
        logger.warning("A client sends URL-safe base64, which TensorFlow Serving refuses.")
        bare = bare.replace("-", "+").replace("_", "/")
    return base64.b64decode(bare + "=" * padding, validate=True)


@contextlib.contextmanager
def _alone():
    """For reading bodies: their lists and numbers take up to twenty times the bodies' size, so one
    is read at a time, which costs no speed, since the interpreter's lock is held all the while.
    Garbage collections, which millions of new lists would start, find nothing in them."""
    with _parsing:
        collecting = gc.isenabled()
        gc.disable()
        try:
            yield
        finally:
            if collecting:
                gc.enable()


def _load(body, **options):
    try:
        return json.loads(body, **options)
    except (ValueError, RecursionError) as error:
        raise refusal(f"The body is no JSON: {shown(error)}") from None


def _finite(text):
    number = float(text)
    if number in (float("inf"), float("-inf")):
        raise ValueError(f"{shown(text)} is too large for a number")
    return number


def _columns(rows, inputs):
    if not isinstance(rows, list) or not rows:
        raise refusal('"instances" must be a list of at least one example.')
    named = [isinstance(row, dict) and set(row) != {"b64"} for row in rows]
    if not any(named):
        return {_only(inputs): rows}
    if not all(named) or any(row.keys() != rows[0].keys() for row in rows):
        raise refusal('All "instances" must name the same inputs.')
    return {key: [row[key] for row in rows] for key in rows[0]}


def _named(value, inputs):
    if isinstance(value, dict) and set(value) != {"b64"}:
        return value
    return {_only(inputs): value}


def _only(inputs):
    if len(inputs) != 1:
        raise refusal(f"The inputs must be named: {sorted(inputs)}.")
    return next(iter(inputs))


def _flatten(value, shape, name):
    """(leaves, shape) of nested lists, found before an array is made."""
    leaves, given = [value], []
    while leaves and (shape is None or len(given) <= len(shape)):
        kinds = set(map(type, leaves))
        if list not in kinds:
            break
        sizes = set(map(len, leaves)) if kinds == {list} else ()
        if len(sizes) != 1:
            raise refusal(f'Input "{name}" is ragged: its lists differ in length or depth.')
        given += sizes
        leaves = list(itertools.chain.from_iterable(leaves))
    return leaves, given


def _numbers(leaves, dtype, name):
    expected = {"f": {int, float}, "b": {bool}}.get(dtype.kind, {int})
    kinds = set(map(type, leaves))
    if not kinds <= expected or not all(_fits(leaves, kind, dtype) for kind in kinds):
        raise refusal(
            f'Input "{name}" must hold numbers of the type {dtype.name}, none of them too large '
            "for it."
        )
    return np.array(leaves, dtype)


def _fits(leaves, kind, dtype):
    """Whether all leaves of one Python type can be of the dtype, as TensorFlow Serving judges."""
    if dtype.kind == "b":
        return True
    same = [leaf for leaf in leaves if type(leaf) is kind]
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        return limits.min <= min(same) and max(same) <= limits.max
    limits = np.finfo(dtype)
    if kind is int:
        largest = 2 ** (limits.nmant + 1) - 1  # above, not every whole number is a float
        return -largest <= min(same) and max(same) <= largest
    wide = np.array(same, np.float64)
    return bool(np.all((np.abs(wide) <= float(limits.max)) | ~np.isfinite(wide)))


def _decode(leaf, name):
    if isinstance(leaf, str):
        try:
            return leaf.encode()
        except UnicodeEncodeError:
            raise refusal(f'Input "{name}" holds half a character (a lone surrogate).') from None
    if isinstance(leaf, dict) and set(leaf) == {"b64"} and isinstance(leaf["b64"], str):
        try:
            return decode_base64(leaf["b64"])
        except (binascii.Error, ValueError):
            raise refusal(f'Input "{name}" holds "b64" that is no base64.') from None
    raise refusal(f'Input "{name}" must hold strings or {{"b64": "…"}}.')


def _require_rows(outputs):
    sizes = {name: array.shape[:1] for name, array in outputs.items()}
    if () in sizes.values() or len(set(sizes.values())) > 1:
        raise refusal(
            f"The outputs have no batch size in common: {sizes}. Ask by columns, with "
            '"inputs" instead of "instances".'
        )


def _to_json(name, array):
    if array.dtype != object:
        return array.tolist()
    if name.endswith("_bytes"):  # TensorFlow Serving's rule
        return _each(array.tolist(), lambda item: {"b64": base64.b64encode(item).decode()})
    return _each(array.tolist(), lambda item: item.decode("utf-8", "replace"))


def _each(nested, function):
    if isinstance(nested, list):
        return [_each(item, function) for item in nested]
    return function(nested)
