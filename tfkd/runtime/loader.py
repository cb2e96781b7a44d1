"""TensorFlow's C++ SavedModel loader, called through its C API: the function that TF Serving calls.

Python's `tf.saved_model.load` runs SavedModels that no server can run, so it proves nothing about
serving. This file runs as a script in a fresh process (see `worker.py`), beside `messages.py`. It
imports neither Keras, nor tfkd, nor TensorFlow's Python code: only the shared library and the
generated protocol buffers. The library is opened with RTLD_LOCAL, because its BoringSSL symbols
crash `hashlib` if they become global."""

import ctypes
import importlib.util
import os
import sys
import types
from multiprocessing.connection import Connection

import numpy as np

if not __package__:  # run as a script: `messages.py` lies beside
    sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
    import messages

    del sys.path[0]
else:
    from tfkd.runtime import messages

INVALID_ARGUMENT, LoaderError = messages.INVALID_ARGUMENT, messages.LoaderError
FAILED_PRECONDITION, UNIMPLEMENTED = messages.FAILED_PRECONDITION, messages.UNIMPLEMENTED

PREDICT_METHOD = "tensorflow/serving/predict"
STRING = 7  # DT_STRING
STRING_BYTES = 24  # sizeof(TF_TString)
NUMPY_TYPES = {
    1: np.dtype(np.float32),
    2: np.dtype(np.float64),
    3: np.dtype(np.int32),
    4: np.dtype(np.uint8),
    6: np.dtype(np.int8),
    9: np.dtype(np.int64),
    10: np.dtype(np.bool_),
    STRING: np.dtype(object),
    5: np.dtype(np.int16),
    17: np.dtype(np.uint16),
    19: np.dtype(np.float16),
    22: np.dtype(np.uint32),
    23: np.dtype(np.uint64),
}
MAXIMUM_RESULT_BYTES = 2**31 - 2**20  # a protocol buffer holds 2**31 - 1, names included


class _Output(ctypes.Structure):
    _fields_ = [("operation", ctypes.c_void_p), ("index", ctypes.c_int)]


class _Buffer(ctypes.Structure):
    _fields_ = [
        ("data", ctypes.c_void_p),
        ("length", ctypes.c_size_t),
        ("deallocator", ctypes.c_void_p),
    ]


def _protocol_buffers(folder):
    """Import two generated proto modules without running `tensorflow/__init__.py` (which would
    import Keras)."""
    if "tensorflow" not in sys.modules:
        sys.modules["tensorflow"] = types.ModuleType("tensorflow")
        sys.modules["tensorflow"].__path__ = [folder]
    from tensorflow.core.protobuf import config_pb2, meta_graph_pb2

    return config_pb2, meta_graph_pb2


def _library(folder):
    library = ctypes.CDLL(os.path.join(folder, "libtensorflow_cc.so.2"), mode=ctypes.RTLD_LOCAL)
    for name in (
        "TF_NewStatus TF_NewSessionOptions TF_NewGraph TF_LoadSessionFromSavedModel TF_NewBuffer "
        "TF_GraphOperationByName TF_AllocateTensor TF_TensorData TF_StringGetDataPointer "
        "TF_NewBufferFromString"
    ).split():
        getattr(library, name).restype = ctypes.c_void_p
    library.TF_Message.restype = ctypes.c_char_p
    library.TF_TensorByteSize.restype = ctypes.c_size_t
    library.TF_StringGetSize.restype = ctypes.c_size_t
    library.TF_Dim.restype = ctypes.c_int64
    return library


class SavedModel:
    """One loaded version directory.

    Args:
        path: the version directory (it holds `saved_model.pb`).
        threads: size of the session's own thread pools; None leaves the choice to TensorFlow.

    Raises:
        LoaderError: the loader refused the directory.
    """

    def __init__(self, path, threads=None):
        folder = importlib.util.find_spec("tensorflow").submodule_search_locations[0]
        config_pb2, meta_graph_pb2 = _protocol_buffers(folder)
        self._run_options = config_pb2.RunOptions
        self._library = library = _library(folder)
        options = ctypes.c_void_p(library.TF_NewSessionOptions())
        status = ctypes.c_void_p(library.TF_NewStatus())
        if threads is not None:
            config = config_pb2.ConfigProto(
                intra_op_parallelism_threads=threads,
                inter_op_parallelism_threads=threads,
                use_per_session_threads=True,
            ).SerializeToString()
            library.TF_SetConfig(options, config, ctypes.c_size_t(len(config)), status)
            self._raise_for(status)
        self._graph = ctypes.c_void_p(library.TF_NewGraph())
        buffer = ctypes.c_void_p(library.TF_NewBuffer())
        tags = (ctypes.c_char_p * 1)(b"serve")
        session = library.TF_LoadSessionFromSavedModel(
            options, None, os.fsencode(path), tags, 1, self._graph, buffer, status
        )
        self._raise_for(status)
        self._session = ctypes.c_void_p(session)
        meta = ctypes.cast(buffer, ctypes.POINTER(_Buffer)).contents
        self._meta = meta_graph_pb2.MetaGraphDef.FromString(
            ctypes.string_at(meta.data, meta.length)
        )
        library.TF_DeleteBuffer(buffer)
        library.TF_DeleteSessionOptions(options)
        library.TF_DeleteStatus(status)

    def signatures(self):
        """Describe every signature: {name: {"method_name", "inputs", "outputs"}}; tensors as (dtype
        number, shape), with the shape None if not even the rank is known."""

        def tensors(infos):
            return {key: (info.dtype, shape(info.tensor_shape)) for key, info in infos.items()}

        def shape(proto):
            return None if proto.unknown_rank else tuple(side.size for side in proto.dim)

        return {
            name: {
                "method_name": signature.method_name,
                "inputs": tensors(signature.inputs),
                "outputs": tensors(signature.outputs),
            }
            for name, signature in self._meta.signature_def.items()
        }

    def compiled_functions(self):
        """Names of functions that demand XLA, which TF Serving has switched off on CPU."""
        return [
            function.signature.name
            for function in self._meta.graph_def.library.function
            if function.attr["_XlaMustCompile"].b
        ]

    def run(self, signature, feeds, seconds=None):
        """Run one signature. `feeds`: {input name: array}; bytes come as object arrays. Returns
        {output name: array}.

        Raises:
            LoaderError: unknown signature, inputs that are not the signature's, results too large
                to be sent, no end within `seconds`, or another TensorFlow error.
        """
        definition = self._definition(signature, feeds)
        library = self._library
        names = list(definition.outputs)
        inputs = [self._endpoint(definition.inputs[name].name) for name in feeds]
        outputs = [self._endpoint(definition.outputs[name].name) for name in names]
        tensors = [self._to_tensor(v, definition.inputs[k].dtype) for k, v in feeds.items()]
        results = (ctypes.c_void_p * len(names))()
        status = ctypes.c_void_p(library.TF_NewStatus())
        options = self._options(seconds)
        try:
            library.TF_SessionRun(
                *(self._session, options, (_Output * len(inputs))(*inputs)),
                *((ctypes.c_void_p * len(tensors))(*tensors), len(tensors)),
                *((_Output * len(outputs))(*outputs), results, len(names), None, 0, None, status),
            )
        finally:
            library.TF_DeleteBuffer(options)
            for tensor in tensors:
                library.TF_DeleteTensor(tensor)
        self._raise_for(status)
        library.TF_DeleteStatus(status)
        found = [ctypes.c_void_p(tensor) for tensor in results]
        try:
            self._require_sendable(found)
            return {n: self._to_numpy(tensor) for n, tensor in zip(names, found, strict=True)}
        finally:
            for tensor in found:
                library.TF_DeleteTensor(tensor)

    def _definition(self, signature, feeds):
        definitions = self._meta.signature_def
        if signature not in definitions:
            known = ", ".join(sorted(definitions))
            message = f'Serving signature key "{signature}" not found. Signatures: {known}.'
            raise LoaderError(FAILED_PRECONDITION, message)
        definition = definitions[signature]
        if set(feeds) != set(definition.inputs):
            message = (
                f'Inputs {sorted(feeds)} were given; signature "{signature}" takes '
                f"{sorted(definition.inputs)}."
            )
            raise LoaderError(INVALID_ARGUMENT, message)
        return definition

    def _options(self, seconds):
        milliseconds = 0 if seconds is None else max(1, int(seconds * 1000))
        options = self._run_options(timeout_in_ms=milliseconds).SerializeToString()
        return ctypes.c_void_p(
            self._library.TF_NewBufferFromString(options, ctypes.c_size_t(len(options)))
        )

    def _require_sendable(self, tensors):
        library = self._library
        size = sum(library.TF_TensorByteSize(tensor) for tensor in tensors)
        if size > MAXIMUM_RESULT_BYTES:
            message = (
                f"The results take {size} bytes; at most {MAXIMUM_RESULT_BYTES} can be sent. Ask "
                "for fewer examples at once."
            )
            raise LoaderError(INVALID_ARGUMENT, message)
        for tensor in tensors:
            if library.TF_TensorType(tensor) not in NUMPY_TYPES:
                message = f"Results of the dtype number {library.TF_TensorType(tensor)} are not "
                raise LoaderError(UNIMPLEMENTED, f"{message}served.")

    def _raise_for(self, status):
        code = self._library.TF_GetCode(status)
        if code:
            message = self._library.TF_Message(status).decode("utf-8", "replace")
            self._library.TF_DeleteStatus(status)
            raise LoaderError(code, message)

    def _endpoint(self, tensor_name):
        operation, _, index = tensor_name.rpartition(":")
        pointer = self._library.TF_GraphOperationByName(self._graph, operation.encode())
        count = pointer and self._library.TF_OperationNumOutputs(ctypes.c_void_p(pointer))
        if not count or not index.isdecimal() or int(index) >= count:
            message = f'The model names a tensor "{tensor_name}" that its graph does not hold.'
            raise LoaderError(FAILED_PRECONDITION, message)
        return _Output(pointer, int(index))

    def _to_tensor(self, value, data_type):
        library = self._library
        if data_type not in NUMPY_TYPES:
            message = f"Inputs of the dtype number {data_type} are not served."
            raise LoaderError(UNIMPLEMENTED, message)
        array = np.ascontiguousarray(value, NUMPY_TYPES[data_type]).reshape(np.shape(value))
        dimensions = (ctypes.c_int64 * array.ndim)(*array.shape)
        size = STRING_BYTES * array.size if data_type == STRING else array.nbytes
        tensor = ctypes.c_void_p(
            library.TF_AllocateTensor(data_type, dimensions, array.ndim, ctypes.c_size_t(size))
        )
        start = library.TF_TensorData(tensor)
        if data_type == STRING:
            for index, text in enumerate(array.ravel()):
                slot = ctypes.c_void_p(start + index * STRING_BYTES)
                library.TF_StringInit(slot)
                library.TF_StringCopy(slot, ctypes.c_char_p(text), ctypes.c_size_t(len(text)))
        elif array.nbytes:
            ctypes.memmove(start, array.ctypes.data, array.nbytes)
        return tensor

    def _to_numpy(self, tensor):
        library = self._library
        data_type = library.TF_TensorType(tensor)
        shape = [library.TF_Dim(tensor, axis) for axis in range(library.TF_NumDims(tensor))]
        start = library.TF_TensorData(tensor)
        if data_type == STRING:
            array = np.empty(int(np.prod(shape)), object)
            for index in range(array.size):
                slot = ctypes.c_void_p(start + index * STRING_BYTES)
                pointer = library.TF_StringGetDataPointer(slot)
                array[index] = ctypes.string_at(pointer, library.TF_StringGetSize(slot))
            array = array.reshape(shape)
        else:
            raw = ctypes.string_at(start, library.TF_TensorByteSize(tensor)) if start else b""
            array = np.frombuffer(raw, NUMPY_TYPES[data_type]).reshape(shape)
        return array


if __name__ == "__main__":
    descriptor, model_path, thread_count = sys.argv[1:4]
    messages.serve_connection(
        Connection(int(descriptor)), lambda: SavedModel(model_path, int(thread_count) or None)
    )
