"""What every test starts from: a silent TensorFlow, fixed seeds, float32."""

import os

import pytest

# Read by TensorFlow's C++ side at its import, which comes later: with the test modules.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


@pytest.fixture(autouse=True)
def same_start():
    """Seed Python, NumPy and TensorFlow before each test; leave no dtype policy behind."""
    import keras

    keras.utils.set_random_seed(0)
    yield
    keras.config.set_dtype_policy("float32")


@pytest.fixture
def traces(monkeypatch):
    """The Distillers whose train step was traced, one entry a trace."""
    from tfkd import Distiller

    traced, step = [], Distiller.train_step

    def counted(self, data):
        traced.append(self)
        return step(self, data)

    monkeypatch.setattr(Distiller, "train_step", counted)
    return traced
