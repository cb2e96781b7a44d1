"""Processes that a run starts on this machine, and that end with it."""

import os
import subprocess
import threading
import time
from pathlib import Path

LINES = 5  # of what a process said last


def end_with_parent(parent):
    """Ends this process once the one that started it is gone.

    Args:
        parent: that process's number.
    """

    def watch():
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def end(processes):
    """Ends a list of `subprocess.Popen`; those that do not listen within 5 s are killed."""
    for process in processes:
        process.terminate()
    for process in processes:
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def last_words(path):
    """What a process wrote last into its log, and where."""
    said = Path(path).read_text(encoding="utf-8", errors="replace").strip().splitlines()[-LINES:]
    return f"It said ({path}): {' '.join(said) or 'nothing'}"
