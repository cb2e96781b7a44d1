"""TensorFlow without its start-up chatter."""

import contextlib
import importlib
import logging
import os
import sys
import tempfile

from tfkd import terminal


def import_tensorflow():
    """Imports TensorFlow; what it says on the way is shown only if the import fails.

    TensorFlow 2.21 writes to the stderr of the process before it reads TF_CPP_MIN_LOG_LEVEL, so the
    file descriptor itself is turned aside meanwhile.
    """
    if "tensorflow" in sys.modules:
        return
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    # Its Python side warns of retracing where several models are measured one after the other.
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    with terminal.step("Loading TensorFlow"), tempfile.TemporaryFile() as said:
        try:
            with _stderr_into(said):
                importlib.import_module("tensorflow")
        except BaseException:
            said.seek(0)
            sys.stderr.write(said.read().decode(errors="replace"))
            raise


@contextlib.contextmanager
def silenced():
    """Keeps what TensorFlow's converters write to the process's stdout and stderr off the screen.

    Errors come as exceptions and are not lost.
    """
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
        with _stderr_into(nowhere):
            yield


@contextlib.contextmanager
def _stderr_into(file):
    sys.stderr.flush()
    kept = os.dup(2)
    os.dup2(file.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
