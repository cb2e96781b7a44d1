"""tfkd: knowledge distillation for Keras on TensorFlow.

Names are loaded when they are first used, so that `import tfkd` (and `tfkd --help`) is quick. Where
Keras is already loaded, tfkd's classes are registered at once: `keras.models.load_model` knows
them."""

import importlib
import sys

from tfkd import _backend, _lazy

__version__ = "0.1.0"

_HOME = {
    "Distiller": "tfkd.distiller",
    "TeacherCache": "tfkd.teachers.cache",
    "data": "tfkd.data",
    "evaluation": "tfkd.evaluation",
    "export": "tfkd.export",
    "losses": "tfkd.losses",
    "models": "tfkd.models",
    "recipes": "tfkd.recipes",
    "runs": "tfkd.runs",
    "tuning": "tfkd.tuning",
}

__all__ = sorted(_HOME)
__getattr__, __dir__ = _lazy.attributes(__name__, _HOME)

_backend.check()
if "keras" in sys.modules:
    importlib.import_module("tfkd.distiller")
