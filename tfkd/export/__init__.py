"""From a student to what a server or a phone runs: SavedModel, TFLite, their checks, serving.

Everything here takes a plain `keras.Model`. Names load on first use, so that `tfkd --help` stays
quick."""

from typing import TYPE_CHECKING

from tfkd import _lazy

if TYPE_CHECKING:
    from tfkd.export.checks import check_saved_model
    from tfkd.export.detector import export_detector
    from tfkd.export.errors import DiskFullError, ExportCheckError, ExportWarning
    from tfkd.export.measure import report
    from tfkd.export.saved_model import export_saved_model
    from tfkd.export.temperature import calibrated
    from tfkd.export.text import export_text
    from tfkd.export.tflite import export_tflite
    from tfkd.export.tflite_checks import check_tflite
    from tfkd.runtime.exported_models import open_exported
    from tfkd.serving.server import serve
    from tfkd.serving.serving_files import write_serving_files

_HOMES = {
    "DiskFullError": "tfkd.export.errors",
    "ExportCheckError": "tfkd.export.errors",
    "ExportWarning": "tfkd.export.errors",
    "calibrated": "tfkd.export.temperature",
    "check_saved_model": "tfkd.export.checks",
    "check_tflite": "tfkd.export.tflite_checks",
    "export_detector": "tfkd.export.detector",
    "export_saved_model": "tfkd.export.saved_model",
    "export_text": "tfkd.export.text",
    "export_tflite": "tfkd.export.tflite",
    "open_exported": "tfkd.runtime.exported_models",
    "report": "tfkd.export.measure",
    "serve": "tfkd.serving.server",
    "write_serving_files": "tfkd.serving.serving_files",
}

__all__ = [
    "DiskFullError",
    "ExportCheckError",
    "ExportWarning",
    "calibrated",
    "check_saved_model",
    "check_tflite",
    "export_detector",
    "export_saved_model",
    "export_text",
    "export_tflite",
    "open_exported",
    "report",
    "serve",
    "write_serving_files",
]
__getattr__, __dir__ = _lazy.attributes(__name__, _HOMES)
