"""What tests have joblib run instead of a training; nothing here imports TensorFlow."""

import os
import signal
import time
from pathlib import Path

from tfkd.files import DiskFullError
from tfkd.runs import job


def work(told, table, part):
    """Dies as often as `<part>.kills` says, raises what `<part>.raises` says, or leaves a file."""
    kills, raises, done = (Path(told.directory) / f"{part}{s}" for s in (".kills", ".raises", ""))
    left = int(kills.read_text()) if kills.exists() else 0
    if left:
        kills.write_text(str(left - 1))
        os.kill(os.getpid(), signal.SIGKILL)
    if raises.exists():
        raise job.FailedError(part, DiskFullError(done, raises.read_text()))
    time.sleep(0.1)
    done.write_text("done")
    return part
