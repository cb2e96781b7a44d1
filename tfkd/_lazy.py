"""Names of a package that are loaded when they are first used, so that its import is quick."""

import importlib
import sys

from tfkd import _extras


def attributes(package, homes):
    """A package's `__getattr__` and `__dir__`.

    Args:
        package: its `__name__`; it has an `__all__`.
        homes: {name: module that holds it, or is it}.
    """

    def load(name):
        if name not in homes:
            names = sys.modules[package].__all__
            raise AttributeError(f"module '{package}' has no attribute '{name}'. It has: {names}")
        try:
            module = importlib.import_module(homes[name])
        except ModuleNotFoundError as error:
            _extras.explain(error, f"{package}.{name}")
            raise
        return module if module.__name__ == f"{package}.{name}" else getattr(module, name)

    def listed():
        return sorted({*vars(sys.modules[package]), *homes})

    return load, listed
