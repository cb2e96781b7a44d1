"""TensorFlow Serving's gRPC calls (Predict, GetModelMetadata, GetModelStatus) on its own stubs."""

import logging
import math
from concurrent.futures import ThreadPoolExecutor

import grpc
import tensorflow as tf
from tensorflow.core.protobuf import meta_graph_pb2
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from tfkd.export import rest
from tfkd.export.hosting import (
    FAILED_PRECONDITION,
    INTERNAL,
    INVALID_ARGUMENT,
    NOT_FOUND,
    ServingError,
)
from tfkd.export.loader import NUMPY_TYPES, PREDICT_METHOD, STRING, LoaderError

logger = logging.getLogger(__name__)
STATUS_CODES = {code.value[0]: code for code in grpc.StatusCode}


def grpc_server(models, *, maximum_bytes, concurrency):
    """A gRPC server, not yet started and without a port, that answers for {name: hosting.Model}."""
    server = grpc.server(
        ThreadPoolExecutor(concurrency),
        options=[
            ("grpc.max_receive_message_length", maximum_bytes),
            ("grpc.max_send_message_length", -1),
            ("grpc.so_reuseport", 0),
        ],
    )
    service = _Service(models, maximum_bytes)
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(service, server)
    model_service_pb2_grpc.add_ModelServiceServicer_to_server(service, server)
    return server


def signature_map(signatures):
    """Signatures of a loader as the proto that metadata requests are answered with."""
    result = get_model_metadata_pb2.SignatureDefMap()
    for name, signature in signatures.items():
        definition = meta_graph_pb2.SignatureDef(method_name=PREDICT_METHOD)
        for kind in ("inputs", "outputs"):
            for key, (data_type, shape) in signature[kind].items():
                info = getattr(definition, kind)[key]
                info.dtype = data_type
                for size in shape:
                    info.tensor_shape.dim.add(size=size)
        result.signature_def[name].CopyFrom(definition)
    return result


def to_array(proto, data_type, shape, name, maximum_bytes):
    """A TensorProto as an array, refused unless it is of the signature's dtype and shape.

    The size is checked first: a proto may give one value for a shape of 10^12, and
    `tf.make_ndarray` would repeat it as often.
    """
    given = [dimension.size for dimension in proto.tensor_shape.dim]
    if proto.dtype != data_type:
        message = f'Input "{name}" has the dtype number {proto.dtype}; expected {data_type}.'
        raise ServingError(INVALID_ARGUMENT, message)
    rest.check_shape(given, shape, name)
    count = math.prod(given)
    if min(given) < 1 or count * NUMPY_TYPES[data_type].itemsize > maximum_bytes:
        message = f'Input "{name}" has the shape {given}, which is empty or too large.'
        raise ServingError(INVALID_ARGUMENT, message)
    values = len(proto.string_val) if data_type == STRING else _number_count(proto, data_type)
    if not 0 < values <= count:
        message = f'Input "{name}" holds {values} values for the shape {given}.'
        raise ServingError(INVALID_ARGUMENT, message)
    try:
        return tf.make_ndarray(proto)
    except (ValueError, TypeError) as error:
        raise ServingError(INVALID_ARGUMENT, f'Input "{name}": {error}') from error


def _number_count(proto, data_type):
    if proto.tensor_content:
        return len(proto.tensor_content) // NUMPY_TYPES[data_type].itemsize
    lists = (proto.float_val, proto.double_val, proto.int_val, proto.int64_val, proto.bool_val)
    return max(map(len, lists))


class _Service(
    prediction_service_pb2_grpc.PredictionServiceServicer,
    model_service_pb2_grpc.ModelServiceServicer,
):
    def __init__(self, models, maximum_bytes):
        self._models = models
        self._maximum_bytes = maximum_bytes

    def Predict(self, request, context):
        with _Reported(context):
            model, chosen = self._find(request.model_spec)
            with model.using(**chosen) as version:
                return _predict(model.name, version, request, self._maximum_bytes)

    def GetModelMetadata(self, request, context):
        with _Reported(context):
            model, chosen = self._find(request.model_spec)
            if list(request.metadata_field) != ["signature_def"]:
                raise ServingError(INVALID_ARGUMENT, 'metadata_field must be ["signature_def"].')
            response = get_model_metadata_pb2.GetModelMetadataResponse()
            with model.using(**chosen) as version:
                _fill(response.model_spec, model.name, version.number)
                response.metadata["signature_def"].Pack(signature_map(version.signatures))
            return response

    def GetModelStatus(self, request, context):
        with _Reported(context):
            model, chosen = self._find(request.model_spec)
            states = model.states()
            number = chosen["version"]
            if chosen["label"] is not None:
                with model.using(**chosen) as version:
                    number = version.number
            if number is not None:
                if number not in states:
                    raise ServingError(NOT_FOUND, f"Model {model.name} has no version {number}.")
                states = {number: states[number]}
            response = get_model_status_pb2.GetModelStatusResponse()
            for version, (state, error) in states.items():
                status = response.model_version_status.add(version=version)
                status.state = get_model_status_pb2.ModelVersionStatus.State.Value(state)
                status.status.error_code = 2 if error else 0
                status.status.error_message = error
            return response

    def _find(self, spec):
        if spec.name not in self._models:
            raise ServingError(NOT_FOUND, f"Servable not found: {spec.name!r}.")
        which = spec.WhichOneof("version_choice")
        return self._models[spec.name], {
            "version": spec.version.value if which == "version" else None,
            "label": spec.version_label if which == "version_label" else None,
        }


def _predict(model_name, version, request, maximum_bytes):
    signature = request.model_spec.signature_name or rest.DEFAULT_SIGNATURE
    if signature not in version.signatures:
        message = f'Serving signature key "{signature}" not found.'
        raise ServingError(FAILED_PRECONDITION, message)
    inputs, outputs = (version.signatures[signature][kind] for kind in ("inputs", "outputs"))
    if set(request.inputs) != set(inputs):
        message = f'Inputs {sorted(request.inputs)}; "{signature}" takes {sorted(inputs)}.'
        raise ServingError(INVALID_ARGUMENT, message)
    wanted = set(request.output_filter) or set(outputs)
    if wanted - set(outputs):
        message = f"There are no outputs {sorted(wanted - set(outputs))}."
        raise ServingError(INVALID_ARGUMENT, message)
    feeds = {key: to_array(request.inputs[key], *inputs[key], key, maximum_bytes) for key in inputs}
    found = version.run(signature, feeds)
    response = predict_pb2.PredictResponse()
    _fill(response.model_spec, model_name, version.number, signature)
    for key in wanted:
        response.outputs[key].CopyFrom(tf.make_tensor_proto(found[key]))
    return response


def _fill(spec, name, number, signature=""):
    spec.name, spec.signature_name = name, signature
    spec.version.value = number


class _Reported:
    """Turns an error into a gRPC status; one that nobody expected is logged and called INTERNAL."""

    def __init__(self, context):
        self._context = context

    def __enter__(self):
        pass

    def __exit__(self, kind, error, trace):
        if error is None or not isinstance(error, Exception):
            return
        if isinstance(error, ServingError | LoaderError):
            self._context.abort(STATUS_CODES[error.code], str(error))
        logger.error("A request failed", exc_info=error)
        self._context.abort(STATUS_CODES[INTERNAL], "The server failed; its log says why.")
