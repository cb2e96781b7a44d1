"""A local server for development: TensorFlow Serving's REST and gRPC calls over its C++ loader.

A stand-in where there is no docker. It is not TensorFlow Serving: no batching, no GPU, no TLS, no
access control.
"""

import asyncio
import contextlib
import gc
import signal
import threading
from pathlib import Path

from aiohttp import web

from tfkd.runtime.versions import require_names
from tfkd.serving.grpc_server import grpc_server
from tfkd.serving.hosted_models import Model
from tfkd.serving.http_server import application

MAXIMUM_BYTES = 16 * 2**20


class Server:
    """Serves models until `close`; a context manager.

    Args:
        models: {name: base directory}, or one base directory, whose name is then the model's.
        host: address to listen on; by default only this machine can ask.
        rest_port, grpc_port: ports; 0 takes a free one.
        loaded: how many of the newest versions of each model are kept loaded.
        labels: {model name: {label: version number}}.
        poll_seconds: how often the base directories are read for new versions.
        timeout: seconds that a request may take.
        maximum_bytes: a larger request is refused.
        concurrency: requests for one model worked on at once.
        trust: serve models whose graphs touch files, the network or Python too. A SavedModel is a
            program; without it, such models are refused with a list of what they do.

    Attributes:
        rest_port, grpc_port: the ports it listens on.

    Raises:
        ValueError: a name or label that cannot be, or no version of a model can be loaded.
        OSError: a port is taken.
    """

    def __init__(
        self,
        models,
        *,
        host="127.0.0.1",
        rest_port=8501,
        grpc_port=8500,
        loaded=1,
        labels=None,
        poll_seconds=1.0,
        timeout=30.0,
        maximum_bytes=MAXIMUM_BYTES,
        concurrency=16,
        trust=False,
    ):
        self.host = host
        models = _named(models)
        require_names(models, labels or {})
        with contextlib.ExitStack() as stack:
            self._models = {}
            for name, base in models.items():
                model = Model(
                    name,
                    base,
                    loaded=loaded,
                    labels=(labels or {}).get(name),
                    poll_seconds=poll_seconds,
                    timeout=timeout,
                    concurrency=concurrency,
                    trust=trust,
                )
                stack.callback(model.close)
                self._models[name] = model
                if "AVAILABLE" not in {state for state, _ in model.states().values()}:
                    reasons = [f"version {n}: {e}" for n, (_, e) in model.states().items()]
                    problem = "; ".join(reasons) or "it holds no version"
                    raise ValueError(f"No version under {base} can be served: {problem}.")
            self.rest_port, self.grpc_port = _run_in_thread(
                application(self._models, timeout=timeout, maximum_bytes=maximum_bytes),
                lambda: grpc_server(self._models, maximum_bytes=maximum_bytes),
                host,
                (rest_port, grpc_port),
                stack,
            )
            self._stack = stack.pop_all()

    def close(self):
        """Answer what is under way, then stop."""
        self._stack.close()

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.close()


def serve(models, **options):
    """Start a `Server`, print its addresses, run until Ctrl-C or SIGTERM; arguments as
    `Server`'s."""
    stop = threading.Event()
    previous = signal.signal(signal.SIGTERM, lambda *_: stop.set())
    try:
        with Server(models, **options) as server, contextlib.suppress(KeyboardInterrupt):
            # Every image in JSON is thousands of small lists; they start full garbage collections,
            # 0.2 s each while TensorFlow's objects are walked too. Those stay for ever: leave them.
            gc.freeze()
            print("A development stand-in for TensorFlow Serving (no batching, no access control):")
            for name in _named(models):
                print(f"  REST  http://{server.host}:{server.rest_port}/v1/models/{name}")
            print(f"  gRPC  {server.host}:{server.grpc_port}", flush=True)
            stop.wait()
    finally:
        gc.unfreeze()
        signal.signal(signal.SIGTERM, previous)


def _named(models):
    if isinstance(models, dict):
        return models
    return {Path(models).resolve().name: models}


def _run_in_thread(app, make_grpc_server, host, ports, stack):
    """Run both servers in a thread with an event loop of its own; gives their ports."""
    loop = asyncio.new_event_loop()
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=5, auto_decompress=False)

    async def start():
        await runner.setup()
        await web.TCPSite(runner, host, ports[0]).start()
        server = make_grpc_server()
        try:
            port = server.add_insecure_port(f"{host}:{ports[1]}")
        except RuntimeError as error:
            raise OSError(f"Port {ports[1]} cannot be used: {error}") from error
        await server.start()
        return server, runner.addresses[0][1], port

    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    def in_loop(coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, loop).result()

    def end_loop():
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()

    stack.callback(end_loop)
    stack.callback(lambda: in_loop(runner.cleanup()))
    server, rest_port, grpc_port = in_loop(start())
    stack.callback(lambda: in_loop(server.stop(grace=5)))
    return rest_port, grpc_port
