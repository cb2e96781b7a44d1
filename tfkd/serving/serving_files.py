"""What TensorFlow Serving needs beside the models: a compose file and three configurations."""

import json
from pathlib import Path

from google.protobuf import text_format
from tensorflow_serving.config import model_server_config_pb2

from tfkd.files import write_text
from tfkd.runtime.versions import require_names

IMAGE = "tensorflow/serving:2.21.0"

_COMPOSE = """\
# Written by tfkd. Start it with: docker compose -f {file} up
services:
  serving:
    image: {image}
    ports:
      # This machine only: TensorFlow Serving has no access control.
      - "127.0.0.1:{rest_port}:8501"
      - "127.0.0.1:{grpc_port}:8500"
    volumes:
{volumes}
    command:
      - "--model_config_file=/config/models.config"
      # Labels and versions may be changed in models.config while it runs.
      - "--model_config_file_poll_wait_seconds=10"
      - "--allow_version_labels_for_unavailable_models=true"
      - "--enable_batching=true"
      - "--batching_parameters_file=/config/batching.config"
      - "--monitoring_config_file=/config/monitoring.config"
    restart: unless-stopped
"""

_BATCHING = """\
# Requests that arrive within the timeout run together, padded to an allowed size.
max_batch_size {{ value: {largest} }}
batch_timeout_micros {{ value: 1000 }}
max_enqueued_batches {{ value: 100 }}
num_batch_threads {{ value: {threads} }}
{allowed}
"""

_MONITORING = """\
# Prometheus reads http://localhost:8501/monitoring/prometheus/metrics
prometheus_config {
  enable: true
  path: "/monitoring/prometheus/metrics"
}
"""


def write_serving_files(
    directory,
    models,
    *,
    labels=None,
    loaded=2,
    batch_sizes=(1, 8),
    threads=2,
    rest_port=8501,
    grpc_port=8500,
    image=IMAGE,
):
    """Write compose.yaml, models.config, batching.config and monitoring.config.

    Args:
        directory: where to; made if missing, existing files are replaced.
        models: {name: base directory}.
        labels: {name: {label: version}}; such a model serves exactly the labelled versions. Others
            serve their newest `loaded` versions.
        loaded: how many of the newest versions stay loaded, so that a rollback finds the old one.
        batch_sizes: sizes that batches are padded to, ascending; export with the same
            `warmup_batch_sizes`, so that none of them is slow at first.
        threads: batches run at once.
        rest_port, grpc_port: ports on this machine.
        image: the docker image; not older than the TensorFlow that exported.

    Returns:
        `pathlib.Path` of compose.yaml.

    Raises:
        ValueError: no models, names, numbers or paths that cannot be, batch sizes that do not
            ascend, labels of an unknown model. OSError: a file cannot be written.
    """
    labels = labels or {}
    if not models:
        raise ValueError("There is no model to serve: give models={name: base directory}.")
    require_names(models, labels)
    sizes = list(batch_sizes)
    if not sizes or sizes[0] < 1 or sizes != sorted(set(sizes)):
        raise ValueError(f"batch_sizes must ascend from 1 or more; given {batch_sizes!r}.")
    for what, number, largest in [
        ("loaded", loaded, 2**31 - 1),
        ("threads", threads, 2**31 - 1),
        ("rest_port", rest_port, 65535),
        ("grpc_port", grpc_port, 65535),
    ]:
        if type(number) is not int or not 1 <= number <= largest:
            raise ValueError(
                f"{what} must be a whole number from 1 to {largest}; given {number!r}."
            )
    directory = Path(directory).resolve()
    compose = directory / "compose.yaml"
    volumes = {f"/models/{name}": Path(base).resolve() for name, base in models.items()}
    volumes["/config"] = directory
    for source in volumes.values():
        if ":" in str(source):
            raise ValueError(f'Docker takes no path with ":", such as {source}: rename it.')
    files = {
        "models.config": models_config(models, labels, loaded),
        "batching.config": _BATCHING.format(
            largest=sizes[-1],
            threads=threads,
            allowed="\n".join(f"allowed_batch_sizes: {size}" for size in sizes),
        ),
        "monitoring.config": _MONITORING,
        compose.name: _COMPOSE.format(
            file=json.dumps(str(compose), ensure_ascii=False),
            image=_yaml(image),
            rest_port=rest_port,
            grpc_port=grpc_port,
            volumes="\n".join(
                f"      - {_yaml(f'{source}:{target}:ro')}" for target, source in volumes.items()
            ),
        ),
    }
    for name, text in files.items():
        write_text(directory / name, text)
    return compose


def _yaml(text):
    """A JSON string is a YAML string, whatever it holds; Compose replaces "$…" by variables."""
    return json.dumps(text.replace("$", "$$"), ensure_ascii=False)


def models_config(models, labels, loaded):
    """The text of models.config, in the proto that TensorFlow Serving reads."""
    server = model_server_config_pb2.ModelServerConfig()
    for name in models:
        config = server.model_config_list.config.add(
            name=name, base_path=f"/models/{name}", model_platform="tensorflow"
        )
        if name in labels:
            versions = sorted(set(labels[name].values()))
            config.model_version_policy.specific.versions.extend(versions)
            for label, version in labels[name].items():
                config.version_labels[label] = version
        else:
            config.model_version_policy.latest.num_versions = loaded
    return text_format.MessageToString(server)
