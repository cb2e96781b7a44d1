"""TensorFlow Serving's REST calls (predict, status, metadata) on aiohttp."""

import asyncio
import json
import logging
import re
import urllib.parse

from aiohttp import web
from google.protobuf import json_format

from tfkd.runtime.loader import PREDICT_METHOD
from tfkd.runtime.messages import NOT_FOUND, LoaderError
from tfkd.serving import rest
from tfkd.serving.grpc_server import signature_map
from tfkd.serving.hosted_models import ServingError
from tfkd.serving.request_checks import refusal, shown

logger = logging.getLogger(__name__)

# As TensorFlow Serving translates its status codes.
HTTP_STATUS = {3: 400, 4: 504, 5: 404, 8: 429, 9: 400, 11: 400, 12: 501, 13: 500, 14: 503}
# TensorFlow Serving's own patterns; names and labels are unquoted after they matched.
_MODEL = (
    r"(?i:/v1/models/(?P<name>[^/:]+)(?:/versions/(?P<version>[0-9]+)|/labels/(?P<label>[^/:]+))?"
)
PREDICTION = re.compile(_MODEL + r":(?P<call>classify|regress|predict))")
STATUS = re.compile(_MODEL + r"(?P<call>/metadata)?)")
_MAXIMUM_VERSION = 2**63 - 1


def application(models, *, maximum_bytes, timeout):
    """An aiohttp application that answers for {name: hosted_models.Model}.

    Args:
        maximum_bytes: a larger body is refused with 413. The runner must leave bodies compressed
            (`auto_decompress=False`).
        timeout: seconds to wait for a body.
    """
    app = web.Application(client_max_size=maximum_bytes)

    async def handle(request):
        try:
            return await answer(request)
        except LoaderError as error:
            return _problem(HTTP_STATUS.get(error.code, 500), error.message)
        except web.HTTPRequestEntityTooLarge:
            return _hang_up(413, f"The body is larger than {maximum_bytes} bytes.")
        except web.RequestPayloadError as error:  # chunks that are none
            return _hang_up(400, f"The body cannot be read: {shown(error)}")
        except TimeoutError:
            return _hang_up(408, f"The body did not arrive within {timeout:g} s.")
        except (asyncio.CancelledError, ConnectionError):
            raise
        except Exception:
            logger.exception("A request failed")
            return _problem(500, "The server failed; its log says why.")

    async def answer(request):
        if not request.raw_path.lower().startswith("/v1/"):
            raise ServingError(NOT_FOUND, f"There is nothing at {shown(request.raw_path)}.")
        pattern = {"POST": PREDICTION, "GET": STATUS}.get(request.method)
        match = pattern and pattern.fullmatch(request.raw_path)
        if not match:
            path = shown(request.raw_path)
            raise refusal(
                f"Malformed request: {request.method} {path}. Use POST …:predict, GET …, or GET "
                "…/metadata."
            )
        name, label = (match[key] and urllib.parse.unquote(match[key]) for key in ("name", "label"))
        version = match["version"] and int(match["version"][:20])
        if version is not None and version > _MAXIMUM_VERSION:
            raise refusal(f"Failed to convert version: {shown(match['version'])} to numeric.")
        call = (match["call"] or "").lower()
        if name not in models:
            if call in ("", "/metadata"):
                message = f"Could not find any versions of model {shown(name)}"
            else:
                message = f"Servable not found for request: Latest({shown(name)})"
            raise ServingError(NOT_FOUND, message)
        model, chosen = models[name], {"version": version, "label": label}
        if call == "/metadata":
            return _json(metadata(model, **chosen))
        if call == "":
            return _json(status(model, **chosen))
        if call != "predict":
            raise refusal(
                f"Expected {call} signature method_name to be tensorflow/serving/{call}. Was: "
                f"{PREDICT_METHOD}. Use predict."
            )
        if (request.content_length or 0) > maximum_bytes:
            raise web.HTTPRequestEntityTooLarge(maximum_bytes, request.content_length)
        body = await asyncio.wait_for(request.read(), timeout)
        encoding = ",".join(request.headers.getall("Content-Encoding", ()))
        found = await model.in_thread(predict, model, body, encoding, maximum_bytes, chosen)
        return web.Response(body=found, content_type="application/json")

    app.router.add_route("*", "/{path:.*}", handle)
    return app


def predict(model, body, encoding, maximum_bytes, chosen):
    """Bytes of a predict request to bytes of its response."""
    with model.using(**chosen) as version:
        body = rest.decompress(body, encoding, maximum_bytes)
        name, feeds, by_rows = rest.parse(body, version.signatures)
        return rest.format_answer(version.run(name, feeds), by_rows)


def status(model, version=None, label=None):
    """The JSON of a status request."""
    return {
        "model_version_status": [
            {
                "version": str(number),
                "state": state,
                "status": {"error_code": "UNKNOWN" if error else "OK", "error_message": error},
            }
            for number, (state, error) in model.states(version, label).items()
        ]
    }


def metadata(model, version=None, label=None):
    """The JSON of a metadata request."""
    with model.using(version, label) as chosen:
        number, described = chosen.number, signature_map(chosen.signatures)
    described = json_format.MessageToDict(described, preserving_proto_field_name=True)
    return {
        "model_spec": {"name": model.name, "signature_name": "", "version": str(number)},
        "metadata": {"signature_def": described},
    }


def _json(value, status_code=200):
    return web.Response(text=json.dumps(value), status=status_code, content_type="application/json")


def _problem(status_code, message):
    return _json({"error": message}, status_code)


def _hang_up(status_code, message):
    """The rest of the body is not read, so the connection cannot go on."""
    response = _problem(status_code, message)
    response.force_close()
    return response
