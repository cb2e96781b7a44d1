"""What `import tfkd` costs, and that it refuses another Keras backend with what to do."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# Stands in for Keras on another backend, which need not be installed for the test.
FAKE_KERAS = (
    "import sys, types; keras = types.ModuleType('keras'); "
    "keras.config = types.SimpleNamespace(backend=lambda: 'torch'); sys.modules['keras'] = keras; "
)


def python(code, **environment):
    kept = {k: v for k, v in os.environ.items() if k not in ("KERAS_BACKEND", "KERAS_HOME")}
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**kept, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3", **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_another_backend_is_refused_with_what_to_do(backend):
    done = python("import tfkd", KERAS_BACKEND=backend)
    assert done.returncode == 1
    assert "ImportError: tfkd needs Keras on TensorFlow" in done.stderr
    assert f"the Keras backend here is '{backend}'" in done.stderr
    assert "KERAS_BACKEND=tensorflow" in done.stderr


def test_a_loaded_keras_on_another_backend_is_refused():
    done = python(FAKE_KERAS + "import tfkd", KERAS_BACKEND="tensorflow")
    assert done.returncode == 1
    assert "ImportError: tfkd needs Keras on TensorFlow" in done.stderr
    assert "'torch'" in done.stderr


def test_the_configuration_file_counts(tmp_path):
    (tmp_path / "keras.json").write_text('{"backend": "jax"}')
    done = python("import tfkd", KERAS_HOME=str(tmp_path))
    assert "backend here is 'jax'" in done.stderr
    assert str(tmp_path / "keras.json") in done.stderr
    # The environment goes before the file, as in Keras.
    assert python("import tfkd", KERAS_HOME=str(tmp_path), KERAS_BACKEND="tensorflow").stderr == ""


@pytest.mark.parametrize("content", ["{", "[]", "{}"])
def test_a_broken_configuration_file_means_tensorflow(tmp_path, content):
    (tmp_path / "keras.json").write_text(content)
    assert python("import tfkd", KERAS_HOME=str(tmp_path)).stderr == ""


def test_an_empty_variable_counts_as_none(tmp_path):
    assert python("import tfkd", KERAS_BACKEND="", KERAS_HOME=str(tmp_path)).stderr == ""


def test_importing_is_quick_and_loads_no_tensorflow(tmp_path):
    code = (
        "import sys, time; start = time.process_time(); import tfkd; "
        "print(time.process_time() - start); dir(tfkd); "
        "print([name for name in ('tensorflow', 'keras', 'numpy') if name in sys.modules])"
    )
    seconds, loaded = python(code, KERAS_HOME=str(tmp_path)).stdout.split("\n")[:2]
    assert float(seconds) < 0.5
    assert loaded == "[]"


def test_names_come_when_they_are_used():
    import tfkd

    assert tfkd.losses.LogitsDistillation.__module__ == "tfkd.losses.logits"
    assert tfkd.Distiller.__name__ == "Distiller"
    assert {"Distiller", "losses", "models", "data", "evaluation"} <= set(dir(tfkd))
    with pytest.raises(AttributeError, match="has no attribute 'distil'"):
        tfkd.distil  # noqa: B018
