"""A .tflite file in the LiteRT interpreter, in real numbers: quantised inputs and outputs are
converted."""

import os

import numpy as np

from tfkd._extras import needs_extra


class Interpreter:
    """Runs a file's signatures; any batch size. Needs LiteRT alone, no TensorFlow.

    Args:
        path: the .tflite file.
        threads: threads of the interpreter.

    Attributes:
        inputs: {name: (dtype, shape)} of the signature "serving_default"; -1 is a free dimension.
        operations: names of the ops in the file.

    Raises:
        ValueError, RuntimeError: the interpreter refuses the file.
        ModuleNotFoundError: the extra "export" is not installed.
    """

    def __init__(self, path, threads=1):
        needs_extra("export", "Running a .tflite file")
        from ai_edge_litert import interpreter

        self._interpreter = interpreter.Interpreter(model_path=os.fspath(path), num_threads=threads)
        self.operations = [op["op_name"] for op in self._interpreter._get_ops_details()]
        self._runners = {}
        details = self._runner("serving_default").get_input_details()
        self.inputs = {
            name: (np.dtype(detail["dtype"]), tuple(int(d) for d in detail["shape_signature"]))
            for name, detail in details.items()
        }

    @property
    def signatures(self):
        """Names of the signatures."""
        return list(self._interpreter.get_signature_list())

    def run(self, feeds, signature="serving_default"):
        """{input name: array of real numbers} → {output name: float32 array}."""
        runner = self._runner(signature)
        inputs = runner.get_input_details()
        outputs = runner.get_output_details()
        raw = runner(**{name: _quantize(array, inputs[name]) for name, array in feeds.items()})
        return {name: _dequantize(array, outputs[name]) for name, array in raw.items()}

    def _runner(self, signature):
        if signature not in self._runners:
            self._runners[signature] = self._interpreter.get_signature_runner(signature)
        return self._runners[signature]


def _quantize(array, detail):
    dtype, (scale, zero_point) = np.dtype(detail["dtype"]), detail["quantization"]
    if dtype.kind == "f" or not scale:
        return np.asarray(array, dtype)
    limits = np.iinfo(dtype)
    whole = np.round(np.asarray(array, np.float64) / scale) + zero_point
    return np.clip(whole, limits.min, limits.max).astype(dtype)


def _dequantize(array, detail):
    scale, zero_point = detail["quantization"]
    if array.dtype.kind == "f" or not scale:
        return np.array(array)
    return ((array.astype(np.float32) - zero_point) * scale).astype(np.float32)
