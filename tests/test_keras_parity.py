"""Keras's own tests of its Distiller, taken from the installed wheel, hold for tfkd's."""

import re
import subprocess
import sys
from pathlib import Path

import keras
import pytest


def test_keras_distillation_tests_pass_with_the_imports_changed(tmp_path):
    shipped = list(Path(keras.__file__).parent.glob("src/distillation/*_test.py"))
    if not shipped:
        pytest.skip("this Keras comes without its tests")
    for path in shipped:
        text = path.read_text()
        text = text.replace("keras.src.distillation.distillation_loss", "tfkd.losses")
        text = text.replace("keras.src.distillation.distiller", "tfkd.distiller")
        (tmp_path / path.name).write_text(text)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    command += ["--rootdir", str(tmp_path), *map(str, tmp_path.glob("*.py"))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, cwd=tmp_path)
    expected = sum(path.read_text().count("    def test_") for path in shipped)
    assert len(shipped) == 2 and expected >= 16
    assert done.returncode == 0, done.stdout[-4000:]
    assert int(re.search(r"(\d+) passed", done.stdout)[1]) == expected
