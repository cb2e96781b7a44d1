"""What layers return, recorded in a pass that runs anyway.

The `call` of a layer is wrapped on the instance, which is what Keras invokes in Functional,
Sequential, nested and subclassed models alike; the wrapper stores what it returns only while a pass
is recorded in its own thread, so that replicas stay apart and nothing is left in saved or exported
models.
"""

import contextlib
import functools
import threading

_local = threading.local()


@contextlib.contextmanager
def recording(layers):
    """Gives {id of a layer: what it returned last, None before} of what this thread runs meanwhile.

    Args:
        layers: that are `make_tappable`.
    """
    outer = getattr(_local, "seen", None)
    seen = _local.seen = {id(layer): None for layer in layers}
    try:
        yield seen
    finally:
        _local.seen = outer


def make_tappable(layer):
    """Wraps the layer's `call`, once."""
    call = layer.call
    while call is not None:
        if getattr(call, "records_for_taps", False):
            return
        call = getattr(call, "inner", None)

    @functools.wraps(layer.call, updated=())
    def recorded(*args, **kwargs):
        outputs = recorded.inner(*args, **kwargs)
        seen = getattr(_local, "seen", None)
        if seen is not None and id(layer) in seen:
            seen[id(layer)] = outputs
        return outputs

    # A chain of wrappers: what is wrapped may itself be replaced later (see tfkd.fused).
    recorded.inner = layer.call
    recorded.records_for_taps = True
    # Past Keras's attribute tracking: a plain function on the instance, saved with nothing.
    object.__setattr__(layer, "call", recorded)
