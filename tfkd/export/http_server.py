"""TensorFlow Serving's REST calls (predict, status, metadata) on aiohttp."""

import asyncio
import json
import logging
import re
from concurrent.futures import ThreadPoolExecutor

from aiohttp import web
from google.protobuf import json_format

from tfkd.export import rest
from tfkd.export.grpc_server import signature_map
from tfkd.export.hosting import NOT_FOUND, UNIMPLEMENTED, ServingError
from tfkd.export.loader import LoaderError

logger = logging.getLogger(__name__)

# As TensorFlow Serving translates its status codes.
HTTP_STATUS = {3: 400, 4: 504, 5: 404, 8: 429, 9: 400, 11: 400, 12: 501, 13: 500, 14: 503}
PATH = re.compile(
    r"/v1/models/(?P<name>[^/:]+)(?:/versions/(?P<version>\d{1,18})|/labels/(?P<label>\w+))?"
    r"(?P<call>/metadata|:\w+)?"
)


def application(models, *, maximum_bytes, timeout, concurrency):
    """An aiohttp application that answers for {name: hosting.Model}.

    Args:
        maximum_bytes: a larger body is refused with 413.
        timeout: seconds to wait for a body.
        concurrency: requests worked on at once; more wait.
    """
    app = web.Application(client_max_size=maximum_bytes)
    pool = ThreadPoolExecutor(concurrency)

    async def handle(request):
        try:
            return await answer(request)
        except ServingError as error:
            return _problem(HTTP_STATUS.get(error.code, 500), str(error))
        except LoaderError as error:
            return _problem(HTTP_STATUS.get(error.code, 500), error.message)
        except web.HTTPRequestEntityTooLarge:
            # The rest of the body is not read, so the connection cannot go on.
            response = _problem(413, f"The body is larger than {maximum_bytes} bytes.")
            response.force_close()
            return response
        except TimeoutError:
            return _problem(408, f"The body did not arrive within {timeout:g} s.")
        except (asyncio.CancelledError, ConnectionError):
            raise
        except Exception:
            logger.exception("A request failed")
            return _problem(500, "The server failed; its log says why.")

    async def answer(request):
        match = PATH.fullmatch(request.path)
        if match is None:
            raise ServingError(NOT_FOUND, f"There is nothing at {request.path}.")
        if match["name"] not in models:
            raise ServingError(NOT_FOUND, f"Servable not found: {match['name']}.")
        model = models[match["name"]]
        chosen = {"version": match["version"] and int(match["version"]), "label": match["label"]}
        call = match["call"]
        expected = "POST" if call and call.startswith(":") else "GET"
        if request.method != expected:
            return _problem(405, f"Use {expected} for {request.path}.", {"Allow": expected})
        if call == "/metadata":
            return _json(metadata(model, **chosen))
        if call is None:
            return _json(status(model, **chosen))
        if call != ":predict":
            raise ServingError(UNIMPLEMENTED, f"{call[1:]} is not served; use predict.")
        body = await asyncio.wait_for(request.read(), timeout)
        work = asyncio.get_running_loop().run_in_executor(pool, predict, model, body, chosen)
        return web.Response(body=await work, content_type="application/json")

    async def close(_):
        pool.shutdown()

    app.router.add_route("*", "/{path:.*}", handle)
    app.on_cleanup.append(close)
    return app


def predict(model, body, chosen):
    """Bytes of a predict request to bytes of its response."""
    with model.using(**chosen) as version:
        name, feeds, by_rows = rest.parse(body, version.signatures)
        return rest.format_answer(version.run(name, feeds), by_rows)


def status(model, version=None, label=None):
    """The JSON of a status request."""
    states = model.states()
    if label is not None:
        with model.using(label=label) as chosen:
            version = chosen.number
    if version is not None:
        if version not in states:
            raise ServingError(NOT_FOUND, f"Model {model.name} has no version {version}.")
        states = {version: states[version]}
    return {
        "model_version_status": [
            {
                "version": str(number),
                "state": state,
                "status": {"error_code": "UNKNOWN" if error else "OK", "error_message": error},
            }
            for number, (state, error) in states.items()
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


def _json(value, status_code=200, headers=None):
    text = json.dumps(value)
    return web.Response(
        text=text, status=status_code, content_type="application/json", headers=headers
    )


def _problem(status_code, message, headers=None):
    return _json({"error": message}, status_code, headers)
