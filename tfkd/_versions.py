"""Keras and TensorFlow of versions that tfkd does not work with are named at import."""

import importlib.metadata
import re
import sys
import warnings

# Package → (first version that works, first that was not tried; None where any newer one may be
# taken). The same as in setup.cfg: a test compares the two.
RANGES = {"keras": ("3.14", "3.16"), "tensorflow": ("2.21", None)}


def check():
    """Looks at what is loaded, else at what is installed; loads nothing.

    Raises:
        ImportError: a version is too old. A Keras too new to have been tried is a warning.
    """
    for package, (first, untried) in RANGES.items():
        version = _version(package)
        if version is None:
            continue
        wanted = f"{package} >= {first}" + (f", < {untried}" if untried else "")
        advice = f'Install one that works: pip install "{wanted.replace(" ", "")}"'
        if _numbers(version) < _numbers(first):
            raise ImportError(f"tfkd needs {wanted}, but here is {package} {version}. {advice}.")
        if untried and _numbers(version) >= _numbers(untried):
            warnings.warn(
                f"tfkd was tried with {wanted}; here is {package} {version}. What goes wrong may "
                f"be due to that. {advice}.",
                stacklevel=2,
            )


def _version(package):
    """The version as text; None where nothing can be said (a nightly of another name, say)."""
    version = getattr(sys.modules.get(package), "__version__", None)
    if version is None:
        try:
            version = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            return None
    return version if _numbers(version) else None


def _numbers(version):
    """(major, minor) of a version, whatever follows; () where it begins otherwise."""
    found = re.match(r"(\d+)\.(\d+)", str(version))
    return tuple(map(int, found.groups())) if found else ()
