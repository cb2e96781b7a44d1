"""From a student to what a server or a phone runs: SavedModel, TFLite, their checks, serving.

Everything here takes a plain `keras.Model`. Names load on first use, so that `tfkd --help` stays
quick."""

from tfkd import _lazy

_HOMES = {
    "DiskFullError": "tfkd.export.errors",
    "ExportCheckError": "tfkd.export.errors",
    "ExportWarning": "tfkd.export.errors",
    "check_saved_model": "tfkd.export.checks",
    "check_tflite": "tfkd.export.tflite_checks",
    "export_saved_model": "tfkd.export.saved_model",
    "export_tflite": "tfkd.export.tflite",
    "open_exported": "tfkd.runtime.exported_models",
    "report": "tfkd.export.measure",
    "serve": "tfkd.serving.server",
    "write_serving_files": "tfkd.serving.serving_files",
}

__all__ = sorted(_HOMES)
__getattr__, __dir__ = _lazy.attributes(__name__, _HOMES)
