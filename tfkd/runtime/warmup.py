"""Warm-up records: requests that TF Serving replays before a version takes traffic; one that fails,
fails the version."""

from pathlib import Path

import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

from tfkd.runtime.tensor_protos import to_array

FILE = Path("assets.extra") / "tf_serving_warmup_requests"
MAXIMUM_RECORDS = 1000  # more are an error in TF Serving
MAXIMUM_BYTES = 2**28  # of one input of a record


def write(directory, model_name, requests):
    """Write (signature, {input name: array}) requests into a version directory."""
    path = Path(directory) / FILE
    path.parent.mkdir(exist_ok=True)
    with tf.io.TFRecordWriter(str(path)) as writer:
        for signature, feeds in requests:
            request = predict_pb2.PredictRequest()
            request.model_spec.name = model_name
            request.model_spec.signature_name = signature
            for name, array in feeds.items():
                request.inputs[name].CopyFrom(tf.make_tensor_proto(array))
            log = prediction_log_pb2.PredictLog(request=request)
            record = prediction_log_pb2.PredictionLog(predict_log=log)
            writer.write(record.SerializeToString())


def read(directory):
    """The requests of a version directory: list of (signature, {input name: array}); [] without the
    file.

    Raises:
        ValueError: the file is no such file.
    """
    path = Path(directory) / FILE
    if not path.exists():
        return []
    requests = []
    try:
        for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
            request = prediction_log_pb2.PredictionLog.FromString(record).predict_log.request
            feeds = {name: to_array(p, MAXIMUM_BYTES) for name, p in request.inputs.items()}
            requests.append((request.model_spec.signature_name or "serving_default", feeds))
            if len(requests) > MAXIMUM_RECORDS:
                raise ValueError(f"it holds more than {MAXIMUM_RECORDS} records")
    except Exception as error:
        raise ValueError(f"{path} is no file of warm-up records: {error}") from error
    if not requests and path.stat().st_size:  # too short for TensorFlow to miss anything
        raise ValueError(f"{path} is no file of warm-up records: it is cut short.")
    return requests


def replay(run, directory):
    """Run every record through `run(signature, feeds)`; returns how many. What `run` raises passes
    through."""
    requests = read(directory)
    for signature, feeds in requests:
        run(signature, feeds)
    return len(requests)
