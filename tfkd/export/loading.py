"""A version in TensorFlow's C++ loader, and what must hold there whatever the model is for."""

import contextlib
import hashlib
from pathlib import Path

import numpy as np
import tensorflow as tf

from tfkd.export.errors import ExportCheckError
from tfkd.runtime import loader, warmup
from tfkd.runtime.worker import Worker, WorkerDied


@contextlib.contextmanager
def loaded(path, functions=None):
    """The `Worker` of a version whose signatures are such as TF Serving asks for.

    Args:
        path: version directory, perhaps not published yet.
        functions: {signature: concrete function} that were saved, for the expected names, shapes
            and dtypes.

    Raises:
        ExportCheckError: it does not load, or its signatures are others.
    """
    with attempt(f"loading {path}", Worker, path) as worker:
        _check_structure(worker, functions)
        yield worker


def checked(path, model, functions, compare):
    """What the check of a version found: dict.

    Args:
        path: version directory, perhaps not published yet.
        model: the `keras.Model` that it is of, whose variables alone it may store.
        functions: {signature: concrete function} that were saved.
        compare: function (`Worker`) -> dict of what the comparison with the model found.

    Returns:
        That of `compare`, "warmup_records" (how many were replayed) and "variables" (how many).

    Raises:
        ExportCheckError: says what is wrong.
    """
    variables = _require_own_variables(path, model)
    with loaded(path, functions) as worker:
        found = compare(worker)
        count = attempt("a warm-up record", warmup.replay, worker.run, path)
    return {**found, "warmup_records": count, "variables": variables}


def attempt(what, function, *arguments):
    """What a function returns; what it raises of the loader is an `ExportCheckError`."""
    try:
        return function(*arguments)
    except (loader.LoaderError, WorkerDied, TimeoutError, ValueError) as error:
        raise ExportCheckError(f"TensorFlow's C++ loader failed at {what}: {error}") from error


def checksums(directory):
    """{relative path: SHA-256} of every file of a version, its manifest excepted."""
    directory = Path(directory)
    return {
        file.relative_to(directory).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(directory.rglob("*"))
        if file.is_file() and file.name != "manifest.json"
    }


def _check_structure(worker, functions=None):
    signatures = {n: s for n, s in worker.signatures.items() if n != "__saved_model_init_op"}
    if worker.compiled_functions:
        raise ExportCheckError(
            f"The functions {worker.compiled_functions} demand XLA, which TF Serving has switched "
            "off on CPU."
        )
    if "serving_default" not in signatures:
        raise ExportCheckError(
            f'There is no signature "serving_default", only {sorted(signatures)}.'
        )
    for name, signature in signatures.items():
        if signature["method_name"] != loader.PREDICT_METHOD:
            raise ExportCheckError(
                f'Signature "{name}" has the method name {signature["method_name"]!r}.'
            )
        for kind in ("inputs", "outputs"):
            for key, (_, shape) in signature[kind].items():
                if not shape or shape[0] != -1:
                    raise ExportCheckError(
                        f'"{key}" of signature "{name}" has no free batch dimension: {shape}.'
                    )
    for name, function in (functions or {}).items():
        expected = {key: _plain(t) for key, t in function.structured_outputs.items()}
        found = signatures.get(name, {}).get("outputs")
        if found != expected:
            raise ExportCheckError(f'Signature "{name}" gives {found}; expected {expected}.')
        taken = function.structured_input_signature[1]
        if signatures[name]["inputs"] != {key: _plain(spec) for key, spec in taken.items()}:
            raise ExportCheckError(
                f'Signature "{name}" takes {signatures[name]["inputs"]}; expected {taken}.'
            )


def _plain(tensor):
    return tensor.dtype.as_datatype_enum, tuple(-1 if d is None else d for d in tensor.shape)


def _require_own_variables(path, model):
    """How many tensors a version stores, each of which must be one of the model's: a teacher, an
    adapter or an exit would show here."""
    try:
        reader = tf.train.load_checkpoint(str(Path(path) / "variables" / "variables"))
        names = [
            n for n in reader.get_variable_to_shape_map() if n != "_CHECKPOINTABLE_OBJECT_GRAPH"
        ]
        stored = {name: np.asarray(reader.get_tensor(name)) for name in names}
    except Exception as error:  # OpError, ValueError, IndexError: whatever is broken
        raise ExportCheckError(f"The stored variables cannot be read: {error}") from error
    reachable = tf.train.TrackableView(model).descendants()
    variables = [*model.variables, *(v for v in reachable if isinstance(v, tf.Variable))]
    own = {_fingerprint(np.asarray(variable)) for variable in variables}
    for name, value in stored.items():
        if _fingerprint(value) not in own:
            raise ExportCheckError(
                f"The SavedModel stores {name}, shape {value.shape}, that is not the student's."
            )
    return len(stored)


def _fingerprint(array):
    return array.shape, array.dtype.str, hashlib.sha256(np.ascontiguousarray(array)).digest()
