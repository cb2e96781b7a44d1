"""Exports that are killed at random moments: nothing half is published, nothing is left behind.

TFKD_KILLS=10 makes it do so many.
"""

import os
import random
import shutil
import signal
import subprocess
import sys
import time

import numpy as np

from tfkd.export import open_exported


def test_killed_at_random_moments_an_export_ends_as_an_undisturbed_one(finished, kills, tmp_path):
    system = tmp_path / "system"
    system.mkdir()
    runs = [tmp_path / name for name in ("undisturbed", "killed")]
    for run in runs:
        shutil.copytree(finished[0], run)

    def start(run):
        command = [
            sys.executable,
            "-m",
            "tfkd",
            "export",
            str(run),
            "--quantization",
            "float32,int8",
        ]
        environment = {**os.environ, "TMPDIR": str(system)}
        return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)

    before = time.monotonic()
    assert start(runs[0]).wait() == 0
    whole, moments = time.monotonic() - before, random.Random(0)
    for _ in range(kills):
        process = start(runs[1])
        time.sleep(moments.uniform(0.3, 1.0) * whole)
        process.send_signal(signal.SIGKILL)
        process.wait()
        versions = runs[1] / "export/saved_model"
        for version in versions.glob("[0-9]*") if versions.exists() else ():
            assert (version / "saved_model.pb").exists()
            assert (version / "variables/variables.index").exists()
    assert start(runs[1]).wait() == 0
    images = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 1)).astype("float32")
    for kind in ("saved_model", "student_float32.tflite"):
        answers = []
        for run in runs:
            path = run / "export" / kind
            if kind == "saved_model":
                path = max(path.glob("[0-9]*"), key=lambda version: int(version.name))
            with open_exported(path) as exported:
                answers.append(exported.logits(images))
        np.testing.assert_array_equal(*answers, err_msg=kind)
    left = [path.name for path in (runs[1] / "export").iterdir() if path.name.startswith(".")]
    assert (left, list(system.iterdir())) == ([], [])
