"""From a student to what a server or a phone runs: SavedModel, TFLite, their checks, serving.

Everything here takes a plain `keras.Model`. Names load on first use, so that `tfkd --help` stays
quick."""

import importlib

_HOMES = {
    "ExportCheckError": "tfkd.export.errors",
    "check_saved_model": "tfkd.export.checks",
    "check_tflite": "tfkd.export.tflite_checks",
    "export_saved_model": "tfkd.export.saved_model",
    "export_tflite": "tfkd.export.tflite",
    "open_exported": "tfkd.export.reader",
    "report": "tfkd.export.measure",
    "serve": "tfkd.export.server",
    "write_serving_files": "tfkd.export.serving_files",
}

__all__ = sorted(_HOMES)


def __getattr__(name):
    if name not in _HOMES:
        raise AttributeError(f"module 'tfkd.export' has no attribute '{name}'.")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__():
    return __all__
