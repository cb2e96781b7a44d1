"""tfkd's train step is written for TensorFlow: any other Keras backend is refused at import."""

import json
import os
import sys
from pathlib import Path


def check():
    """Raises ImportError, with what to do, where Keras runs (or will run) on another backend."""
    backend = _backend()
    if backend != "tensorflow":
        raise ImportError(
            f"tfkd needs Keras on TensorFlow, but the Keras backend here is {backend!r}. Set the "
            'environment variable KERAS_BACKEND=tensorflow before Python starts (or "backend": '
            f'"tensorflow" in {_config_file()}).'
        )


def _backend():
    loaded = sys.modules.get("keras")
    if hasattr(loaded, "config"):
        return loaded.config.backend()
    if os.environ.get("KERAS_BACKEND"):
        return os.environ["KERAS_BACKEND"]
    try:
        return json.loads(_config_file().read_text()).get("backend", "tensorflow")
    except (OSError, ValueError, AttributeError):
        return "tensorflow"


def _config_file():
    home = os.environ.get("KERAS_HOME")
    return (Path(home) if home else Path.home() / ".keras") / "keras.json"
