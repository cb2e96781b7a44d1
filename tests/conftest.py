"""What every test starts from: a silent TensorFlow, fixed seeds, float32."""

import gc
import os

import pytest

# Read by TensorFlow's C++ side at its import, which comes later: with the test modules.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


@pytest.fixture(autouse=True, scope="session")
def seldom_collected():
    """Keep the garbage collector from walking TensorFlow and Keras again and again.

    Each traced graph makes it run several times over all that was imported, which never goes away:
    a seventh of the time of tests that train. What tests leave is still collected.
    """
    import keras  # noqa: F401  Here and not above: collecting the tests does not need it.

    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 20, 10)


@pytest.fixture(autouse=True, scope="module")
def collected(seldom_collected):
    """After each file collect what it left, and walk what stays no more.

    KerasTuner and runs collect before each training: seconds each once hundreds of files have
    left their caches in this process.
    """
    yield
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def same_start():
    """Seed Python, NumPy and TensorFlow before each test; leave no dtype policy behind."""
    import keras

    keras.utils.set_random_seed(0)
    yield
    keras.config.set_dtype_policy("float32")


@pytest.fixture(autouse=True, scope="session")
def own_cache(tmp_path_factory):
    """Listings of folders are kept in a cache of the session's own."""
    before = os.environ.get("XDG_CACHE_HOME")
    os.environ["XDG_CACHE_HOME"] = str(tmp_path_factory.mktemp("cache"))
    yield
    if before is None:
        del os.environ["XDG_CACHE_HOME"]
    else:
        os.environ["XDG_CACHE_HOME"] = before


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


# One small student and one exported version of it, for the tests of export/, runtime/ and serving/.

LABELS = ("cat", "dog", "fish")


def small_cnn(units=3, activation=None, channels=3, size=12, name="student"):
    """A small CNN on raw pixels with weights that make its classes differ; BatchNorm and dropout
    inside."""
    import keras

    keras.utils.set_random_seed(7)
    image = keras.Input((size, size, channels), name="image")
    x = keras.layers.Rescaling(1 / 127.5, offset=-1)(image)
    x = keras.layers.Conv2D(8, 3, strides=2, name="stage1")(x)
    x = keras.layers.BatchNormalization()(x)
    x = keras.layers.ReLU(name="stage1_out")(x)
    x = keras.layers.Conv2D(16, 3, name="stage2", activation="relu")(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    x = keras.layers.Dropout(0.3)(x)
    spread = keras.initializers.RandomNormal(stddev=3.0)
    outputs = keras.layers.Dense(
        units, activation=activation, kernel_initializer=spread, name="logits"
    )(x)
    return keras.Model(image, outputs, name=name)


@pytest.fixture(scope="session")
def build_student():
    return small_cnn


@pytest.fixture(scope="session")
def student():
    return small_cnn()


@pytest.fixture(scope="session")
def images():
    """Thirty images of random blocks: unlike white noise, they fall into different classes."""
    import numpy as np

    blocks = np.random.default_rng(3).integers(0, 256, (30, 3, 3, 3))
    return np.kron(blocks, np.ones((1, 4, 4, 1), int)).astype("uint8")


@pytest.fixture(scope="session")
def labels():
    return LABELS


@pytest.fixture(scope="session")
def version(student, tmp_path_factory):
    """An exported version directory; tests that change it copy it first."""
    from tfkd.export.saved_model import export_saved_model

    base = tmp_path_factory.mktemp("models") / "student"
    return export_saved_model(student, base, labels=LABELS, features=["stage1_out"])
