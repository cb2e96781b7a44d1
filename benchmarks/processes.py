"""Benchmarks of memory need processes of their own: peak memory never falls again."""

import json
import resource
import subprocess
import sys


def run(module, *arguments):
    """What `python -m module arguments` prints as JSON on its last line, a dict.

    Raises:
        RuntimeError: it failed; the end of what it said.
    """
    command = [sys.executable, "-m", module, *map(str, arguments)]
    ran = subprocess.run(command, capture_output=True, text=True)
    if ran.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{ran.stderr[-3000:]}")
    return json.loads(ran.stdout.splitlines()[-1])


def peak_megabytes():
    """The largest resident memory that this process has had, in MB of 10^6 bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
