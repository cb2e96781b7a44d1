"""Which module is imported first decides nothing; every public name is seen by tools."""

import ast
import importlib
import inspect
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

import tfkd
from tfkd import _registration

ROOT = Path(tfkd.__file__).parent


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A saved Distiller with a loss of each kind that can stand in a file, and a loss by itself."""
    path = tmp_path_factory.mktemp("saved")
    image = keras.Input((6,))

    def net(width):
        hidden = keras.layers.Dense(width, name="hidden")(image)
        return keras.Model(image, keras.layers.Dense(3)(hidden))

    losses = [
        tfkd.losses.LogitsDistillation(2.0),
        tfkd.losses.FeatureDistillation("mse", "hidden", "hidden"),
        tfkd.losses.CosineDistillation(),
    ]
    made = tfkd.Distiller(net(5), net(4), losses)
    made.compile("sgd", "mse", teacher_metrics=[tfkd.metrics.TeacherAgreement()])
    x = np.random.default_rng(0).normal(size=(4, 6)).astype("float32")
    np.save(path / "x.npy", x)
    np.save(path / "predicted.npy", made.predict(x, verbose=0))
    made.save(path / "distiller.keras")
    return path


LOAD = """
import sys, numpy as np
model = keras.models.load_model(sys.argv[1] + "/distiller.keras")
x, wanted = (np.load(f"{sys.argv[1]}/{name}.npy") for name in ("x", "predicted"))
assert type(model).__module__ == "tfkd.distiller", type(model)
np.testing.assert_allclose(model(x), wanted, rtol=1e-5)
assert model.teacher_metrics[0].name == "teacher_agreement"
"""
# TensorFlow, which takes the time and is the same to all of them, is imported once.
EACH = """
import os, sys
import tensorflow
for imports in sys.argv[2:]:
    process = os.fork()
    if process == 0:
        exec(imports)
        os._exit(0)
    assert os.waitpid(process, 0)[1] == 0, imports
"""


@pytest.mark.parametrize(
    ("script", "orders"),
    [
        (
            EACH,
            [
                "import tfkd, keras",
                "import keras, tfkd",
                "from tfkd.losses import LogitsDistillation; import keras",
            ],
        ),
        ("import sys; exec(sys.argv[2])", ["from tfkd import models; import tensorflow, keras"]),
    ],
    ids=["with TensorFlow", "before TensorFlow"],
)
def test_a_saved_distiller_is_loaded_whatever_was_imported_first(saved, script, orders):
    codes = [imports + LOAD for imports in orders]
    words = [sys.executable, "-c", script, str(saved), *codes]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]


def test_importing_tfkd_loads_no_keras():
    code = "import sys, tfkd; print([m for m in ('keras', 'tensorflow') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_registered_class_is_known_before_it_is_loaded():
    found = {}
    for path in ROOT.rglob("*.py"):
        module = ".".join(("tfkd", *path.relative_to(ROOT).with_suffix("").parts))
        for node in ast.walk(ast.parse(path.read_text())):
            decorators = getattr(node, "decorator_list", [])
            if any("register_keras_serializable" in ast.unparse(d) for d in decorators):
                found[node.name] = module.removesuffix(".__init__")
    assert found == _registration.HOMES


def test_every_public_name_can_be_imported_and_is_seen_by_type_checkers():
    tree = ast.parse((ROOT / "__init__.py").read_text())
    (checked,) = (n for n in tree.body if isinstance(n, ast.If))
    seen = {a.name for n in checked.body for a in n.names}
    assert seen == set(tfkd.__all__)
    assert (ROOT / "py.typed").exists()
    for package in ("", *(m.name for m in pkgutil.iter_modules([str(ROOT)]) if m.ispkg)):
        module = importlib.import_module(".".join(filter(None, ("tfkd", package))))
        for name in getattr(module, "__all__", ()):
            assert getattr(module, name) is not None, (module.__name__, name)
            assert name in dir(module)


def test_lazy_packages_show_their_names_to_type_checkers():
    """Where names load on first use, a TYPE_CHECKING block imports the same ones."""
    for path in ROOT.rglob("__init__.py"):
        text = path.read_text()
        if "_lazy.attributes" not in text or path.parent == ROOT:
            continue
        (homes,) = re.findall(r"^_HOMES = (\{.*?\})", text, re.M | re.S)
        (block,) = (
            n
            for n in ast.parse(text).body
            if isinstance(n, ast.If) and ast.unparse(n.test) == "TYPE_CHECKING"
        )
        assert {a.name for n in block.body for a in n.names} == set(ast.literal_eval(homes)), path


def test_public_functions_are_documented():
    for name in ("losses", "metrics", "schedules", "teachers"):
        module = importlib.import_module(f"tfkd.{name}")
        for public in getattr(module, "__all__", ()):
            assert inspect.getdoc(getattr(module, public)), public
