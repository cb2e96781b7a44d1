"""Exports that are killed at random moments: nothing half is published, nothing is left behind.

TFKD_KILLS=10 makes it do so many.
"""

import random
import shutil
import signal
import time

import forked
import keras
import numpy as np

from tfkd.export import open_exported

SECONDS = 3.0  # what an export takes at least once it writes


def test_killed_at_random_moments_an_export_ends_as_an_undisturbed_one(finished, kills, tmp_path):
    """The next one publishes, and what it publishes answers as the student does."""
    system, run = tmp_path / "system", tmp_path / "killed"
    system.mkdir()
    shutil.copytree(finished[0], run)

    def start():
        words = ("export", run, "--quantization", "float32")
        return forked.command(words, TMPDIR=str(system))

    moments, ends = random.Random(0), []
    for _ in range(kills):
        process = start()
        while process.is_alive() and not any((run / "export").glob(".work/*")):
            time.sleep(0.02)
        process.join(moments.uniform(0.0, SECONDS))
        process.kill()
        process.join()
        ends.append(process.exitcode)
        versions = run / "export/saved_model"
        for version in versions.glob("[0-9]*") if versions.exists() else ():
            assert (version / "saved_model.pb").exists()
            assert (version / "variables/variables.index").exists()
    assert -signal.SIGKILL in ends and set(ends) <= {-signal.SIGKILL, 0}
    process = start()
    process.join()
    assert process.exitcode == 0
    images = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 1)).astype("float32")
    expected = keras.models.load_model(run / "student.keras").predict(images, verbose=0)
    newest = max((run / "export/saved_model").glob("[0-9]*"), key=lambda version: int(version.name))
    for path in (newest, run / "export/student_float32.tflite"):
        with open_exported(path) as exported:
            np.testing.assert_allclose(exported.logits(images), expected, rtol=1e-4, atol=1e-4)
    left = [path.name for path in (run / "export").iterdir() if path.name.startswith(".")]
    assert (left, list(system.iterdir())) == ([], [])
