"""What a request must fulfil before a model's process sees it; every refusal is the client's
mistake."""

import math

from tfkd.runtime.loader import MAXIMUM_RESULT_BYTES, NUMPY_TYPES, STRING
from tfkd.runtime.messages import INVALID_ARGUMENT
from tfkd.serving.hosted_models import ServingError

DEFAULT_SIGNATURE = "serving_default"
_SHOWN = 200  # characters of what a client sent that are sent back


def refusal(message):
    """A `ServingError` of the code INVALID_ARGUMENT."""
    return ServingError(INVALID_ARGUMENT, message)


def shown(value):
    """The beginning of a client's own words, for a message."""
    text = str(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def require_shape(given, expected, name):
    """Raise ServingError unless the shapes fit; -1 fits anything, None any rank."""
    if expected is None:
        return
    fits = len(given) == len(expected)
    if not fits or any(e not in (-1, g) for g, e in zip(given, expected, strict=True)):
        wanted = ["any" if size == -1 else size for size in expected]
        raise refusal(f'Input "{name}" has the shape {shown(list(given))}; expected {wanted}.')


def require_feeds(signatures, signature, feeds):
    """Raise ServingError unless a request's arrays can be run.

    Args:
        signatures: as `loader.SavedModel.signatures`.
        signature: name of the one that is asked for.
        feeds: {input name: array}, each of its input's dtype and shape.
    """
    inputs = signatures[signature]["inputs"]
    batched = [name for name in feeds if inputs[name][1] and inputs[name][1][0] == -1]
    sizes = {len(feeds[name]) for name in batched}
    if len(sizes) > 1 or 0 in sizes:
        raise refusal(
            f"Every input needs the same number of examples, at least one; given {sorted(sizes)}."
        )
    if sizes:
        _require_room(signatures, signature, *sizes)
    for name in feeds:
        if inputs[name][0] == STRING:
            for text in feeds[name].ravel():
                _require_still(text, name)


def _require_room(signatures, signature, count):
    """A few bytes can ask for gigabytes: a thousand tiny images become images of the model's size,
    and what is known to give results that cannot be sent need not be run."""
    tensors = [t for s in signatures.values() for t in s["inputs"].values()]
    largest = max(map(_example_bytes, tensors))
    results = sum(map(_example_bytes, signatures[signature].get("outputs", {}).values()))
    size = max(largest, results)
    if count * size > MAXIMUM_RESULT_BYTES:
        raise refusal(
            f"{count} examples make tensors of {count * size} bytes; at most "
            f"{MAXIMUM_RESULT_BYTES} are made. Send at most {MAXIMUM_RESULT_BYTES // size} "
            "examples at once."
        )


def _example_bytes(tensor):
    kind, shape = tensor
    if not shape or shape[0] != -1 or -1 in shape[1:] or kind not in NUMPY_TYPES:
        return 0
    return math.prod(shape[1:]) * NUMPY_TYPES[kind].itemsize


def _require_still(text, name):
    """TensorFlow's decoder corrupts its memory with animated WebP files, in graphs of other
    exporters too."""
    if text[:4] == b"RIFF" and text[8:16] == b"WEBPVP8X" and len(text) > 20 and text[20] & 2:
        raise refusal(f'Input "{name}": the WebP image is animated; send a single picture.')
