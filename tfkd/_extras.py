"""Packages that only some commands need: which extra brings them, and what to say without them."""

import importlib.util

# Extra of setup.cfg → the modules that tfkd imports from it. A test compares the two.
EXTRAS = {
    "dask": ("dask", "distributed"),
    "data": ("tensorflow_datasets", "importlib_resources", "array_record"),
    "export": ("ai_edge_litert", "tensorflow_serving"),
    "hub": ("keras_hub",),
    "ray": ("ray", "grpc"),
    "remote": ("fsspec",),
    "serve": ("aiohttp", "grpc", "tensorflow_serving"),
    "tasks": ("pycocotools", "rouge_score", "sacrebleu", "shapely"),
    "tune": ("keras_tuner", "tensorboard", "grpc"),
}


class MissingExtraError(ModuleNotFoundError):
    """Something was asked for that needs an extra which is not installed."""


def installed(extra):
    """Whether all modules of an extra can be found; nothing is imported."""
    return not _missing(extra)


def needs_extra(extra, what):
    """Says what to install, before any time is spent, where an extra is missing.

    Args:
        extra: a key of `EXTRAS`.
        what: what needs it, as the beginning of a sentence: "tfkd search".

    Raises:
        MissingExtraError: a module of the extra cannot be found.
    """
    missing = _missing(extra)
    if missing:
        raise _error(extra, what, missing)


def explain(error, what):
    """Says the same of an import that failed, where the module belongs to an extra.

    Raises:
        MissingExtraError: from `error`.
    """
    top = (error.name or "").partition(".")[0]
    for extra, modules in EXTRAS.items():
        if top in modules:
            raise _error(extra, what, _missing(extra) or [top]) from error


def _missing(extra):
    return [name for name in EXTRAS[extra] if importlib.util.find_spec(name) is None]


def _error(extra, what, missing):
    return MissingExtraError(
        f"{what} needs the extra {extra!r}, which is not installed here (missing: "
        f'{", ".join(missing)}). Install it: pip install "tfkd[{extra}]", or, in a clone, '
        f'pip install -e ".[{extra}]".',
        name=missing[0],
    )
