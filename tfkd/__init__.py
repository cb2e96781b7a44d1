"""tfkd: knowledge distillation for Keras on TensorFlow.

Names are loaded when they are first used, so that `import tfkd` (and `tfkd --help`) is quick.
"""

from typing import TYPE_CHECKING

from tfkd import _backend, _lazy, _registration, _versions

if TYPE_CHECKING:
    from tfkd import (
        data,
        evaluation,
        export,
        losses,
        metrics,
        models,
        recipes,
        runs,
        schedules,
        tasks,
        teachers,
        tuning,
    )
    from tfkd.distiller import Distiller
    from tfkd.teachers.cache import TeacherCache

__version__ = "0.1.0"

_HOMES = {
    "Distiller": "tfkd.distiller",
    "TeacherCache": "tfkd.teachers.cache",
    "data": "tfkd.data",
    "evaluation": "tfkd.evaluation",
    "export": "tfkd.export",
    "losses": "tfkd.losses",
    "metrics": "tfkd.metrics",
    "models": "tfkd.models",
    "recipes": "tfkd.recipes",
    "runs": "tfkd.runs",
    "schedules": "tfkd.schedules",
    "tasks": "tfkd.tasks",
    "teachers": "tfkd.teachers",
    "tuning": "tfkd.tuning",
}

__all__ = [
    "Distiller",
    "TeacherCache",
    "data",
    "evaluation",
    "export",
    "losses",
    "metrics",
    "models",
    "recipes",
    "runs",
    "schedules",
    "tasks",
    "teachers",
    "tuning",
]
__getattr__, __dir__ = _lazy.attributes(__name__, _HOMES)

_backend.check()
_versions.check()
_registration.install()
