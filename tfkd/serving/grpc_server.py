"""TensorFlow Serving's gRPC calls (Predict, GetModelMetadata, GetModelStatus) in its own protos."""

import logging

import grpc
import tensorflow as tf
from google.protobuf.message import DecodeError
from tensorflow.core.protobuf import meta_graph_pb2
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    inference_pb2,
    model_management_pb2,
    predict_pb2,
    regression_pb2,
)

from tfkd.runtime import tensor_protos
from tfkd.runtime.loader import MAXIMUM_RESULT_BYTES, PREDICT_METHOD
from tfkd.runtime.messages import (
    FAILED_PRECONDITION,
    INTERNAL,
    NOT_FOUND,
    UNIMPLEMENTED,
    LoaderError,
)
from tfkd.serving.hosted_models import ServingError
from tfkd.serving.request_checks import (
    DEFAULT_SIGNATURE,
    refusal,
    require_feeds,
    require_shape,
    shown,
)

logger = logging.getLogger(__name__)
STATUS_CODES = {code.value[0]: code for code in grpc.StatusCode}
_LONGEST_MESSAGE = 2000  # a status travels in a header, whose size is limited
_METHODS = {
    "PredictionService": {
        "Predict": predict_pb2.PredictRequest,
        "GetModelMetadata": get_model_metadata_pb2.GetModelMetadataRequest,
        "Classify": classification_pb2.ClassificationRequest,
        "Regress": regression_pb2.RegressionRequest,
        "MultiInference": inference_pb2.MultiInferenceRequest,
    },
    "ModelService": {
        "GetModelStatus": get_model_status_pb2.GetModelStatusRequest,
        "HandleReloadConfigRequest": model_management_pb2.ReloadConfigRequest,
    },
}


def grpc_server(models, *, maximum_bytes):
    """A `grpc.aio.Server`, not yet started and without a port, that answers for {name:
    hosted_models.Model}; to be called in the event loop that it will run in."""
    server = grpc.aio.server(
        options=[
            ("grpc.max_receive_message_length", maximum_bytes),
            ("grpc.max_send_message_length", -1),
            ("grpc.so_reuseport", 0),
        ]
    )
    calls = _Calls(models, maximum_bytes)
    for service, methods in _METHODS.items():
        # Bytes go in and out: gRPC itself would call a request that is none an unknown error, and
        # read and write large messages in the event loop.
        handlers = {
            method: grpc.unary_unary_rpc_method_handler(_answering(getattr(calls, method), kind))
            for method, kind in methods.items()
        }
        name = f"tensorflow.serving.{service}"
        handler = grpc.method_handlers_generic_handler(name, handlers)
        server.add_generic_rpc_handlers((handler,))
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
                info.tensor_shape.unknown_rank = shape is None
                for size in shape or ():
                    info.tensor_shape.dim.add(size=size)
        result.signature_def[name].CopyFrom(definition)
    return result


def to_array(proto, data_type, shape, name, maximum_bytes):
    """A TensorProto as an array, refused unless it is of the signature's dtype and shape."""
    if proto.dtype != data_type:
        raise refusal(f'Input "{name}" has the dtype number {proto.dtype}; expected {data_type}.')
    require_shape([side.size for side in proto.tensor_shape.dim], shape, name)
    try:
        return tensor_protos.to_array(proto, maximum_bytes)
    except ValueError as error:
        raise refusal(f'Input "{name}": {error}.') from None


def _answering(call, kind):
    """A gRPC handler: bytes of a request of one kind to bytes of `call(request)`; an error becomes
    a status, and one that nobody expected is logged and called INTERNAL."""

    async def answer(content, context):
        try:
            try:
                request = kind.FromString(content)
            except DecodeError as error:
                raise refusal(f"This is no {kind.DESCRIPTOR.name}: {error}") from None
            return await call(request)
        except LoaderError as error:
            code, message = STATUS_CODES[error.code], str(error)[:_LONGEST_MESSAGE]
        except Exception:
            logger.exception("A request failed")
            code, message = STATUS_CODES[INTERNAL], "The server failed; its log says why."
        await context.abort(code, message)

    return answer


class _Calls:
    """What the methods do, each from a request to the bytes of its response."""

    def __init__(self, models, maximum_bytes):
        self._models = models
        self._maximum_bytes = maximum_bytes

    async def Predict(self, request):
        model, chosen = self._find(request)
        return await model.in_thread(_predict, model, chosen, request, self._maximum_bytes)

    async def GetModelMetadata(self, request):
        model, chosen = self._find(request)
        if set(request.metadata_field) != {"signature_def"}:
            raise refusal('metadata_field must be ["signature_def"].')
        response = get_model_metadata_pb2.GetModelMetadataResponse()
        with model.using(**chosen) as version:
            _fill(response.model_spec, model.name, version.number)
            response.metadata["signature_def"].Pack(signature_map(version.signatures))
        return response.SerializeToString()

    async def GetModelStatus(self, request):
        model, chosen = self._find(request)
        response = get_model_status_pb2.GetModelStatusResponse()
        for version, (state, error) in model.states(**chosen).items():
            status = response.model_version_status.add(version=version)
            status.state = get_model_status_pb2.ModelVersionStatus.State.Value(state)
            status.status.error_code = 2 if error else 0
            status.status.error_message = error
        return response.SerializeToString()

    async def Classify(self, request):
        self._refuse_method("classify", request)

    async def Regress(self, request):
        self._refuse_method("regress", request)

    async def MultiInference(self, request):
        raise refusal("Only Predict is served: the signatures' method is predict.")

    async def HandleReloadConfigRequest(self, request):
        message = "Models and labels are fixed when this server starts."
        raise ServingError(UNIMPLEMENTED, message)

    def _refuse_method(self, method, request):
        self._find(request)
        raise refusal(
            f"Expected {method} signature method_name to be tensorflow/serving/{method}. Was: "
            f"{PREDICT_METHOD}. Use Predict."
        )

    def _find(self, request):
        if not request.HasField("model_spec"):
            raise refusal("Missing ModelSpec")
        spec = request.model_spec
        if not spec.name:
            raise refusal("ModelSpec has no name specified.")
        if spec.name not in self._models:
            raise ServingError(
                NOT_FOUND, f"Servable not found for request: Latest({shown(spec.name)})"
            )
        which = spec.WhichOneof("version_choice")
        return self._models[spec.name], {
            "version": spec.version.value if which == "version" else None,
            "label": spec.version_label if which == "version_label" else None,
        }


def _predict(model, chosen, request, maximum_bytes):
    with model.using(**chosen) as version:
        signature = request.model_spec.signature_name or DEFAULT_SIGNATURE
        if signature not in version.signatures:
            message = f'Serving signature key "{shown(signature)}" not found.'
            raise ServingError(FAILED_PRECONDITION, message)
        inputs, outputs = (version.signatures[signature][kind] for kind in ("inputs", "outputs"))
        if set(request.inputs) != set(inputs):
            given = shown(sorted(request.inputs))
            raise refusal(f'Inputs {given} were given; "{signature}" takes {sorted(inputs)}.')
        wanted = _wanted(request.output_filter, outputs)
        feeds = {
            key: to_array(request.inputs[key], *inputs[key], key, maximum_bytes) for key in inputs
        }
        require_feeds(version.signatures, signature, feeds)
        found = version.run(signature, feeds)
        response = predict_pb2.PredictResponse()
        _fill(response.model_spec, model.name, version.number, signature)
        for key in wanted:
            try:
                response.outputs[key].CopyFrom(tf.make_tensor_proto(found[key]))
            except ValueError as error:
                raise refusal(f'Output "{key}" cannot be sent: {error}') from None
        size = response.ByteSize()
        if size > MAXIMUM_RESULT_BYTES:
            raise refusal(
                f"The results take {size} bytes; at most {MAXIMUM_RESULT_BYTES} can be sent. Ask "
                "for fewer examples at once, or for some outputs alone."
            )
        return response.SerializeToString()


def _wanted(names, outputs):
    """The outputs that a request asks for; all without a filter."""
    for name in names:
        if name not in outputs:
            raise refusal(
                f'There is no output "{shown(name)}"; the signature gives {sorted(outputs)}.'
            )
    if len(set(names)) < len(names):
        raise refusal("output_filter names an output twice.")
    return list(names) or list(outputs)


def _fill(spec, name, number, signature=""):
    spec.name, spec.signature_name = name, signature
    spec.version.value = number
