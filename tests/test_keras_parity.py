"""Keras's own tests of its Distiller, taken from the installed wheel, hold for tfkd's."""

import re
from pathlib import Path

import forked
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
    files = ("-o", "python_files=*_test.py", "-q", "-p", "no:cacheprovider")
    said = forked.tests(tmp_path, *files)
    expected = sum(path.read_text().count("    def test_") for path in shipped)
    assert len(shipped) == 2 and expected >= 16
    assert int(re.search(r"(\d+) passed", said)[1]) == expected
