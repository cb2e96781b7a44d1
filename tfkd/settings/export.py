"""The settings of `tfkd export`."""

from typing import Annotated

from pydantic import Field, field_validator

from tfkd.settings.base import Count, Names, Settings, SettingsError, near

FORMATS = ("saved_model", "tflite")
# tfkd.export.tflite knows them, but imports TensorFlow; a test compares the two.
QUANTIZATIONS = ("float32", "float16", "dynamic", "int8")
# What `tfkd distill --export` takes: both lists in one.
EXPORTS = ("saved_model", *QUANTIZATIONS)


class ExportSettings(Settings):
    """What `tfkd export` writes."""

    format: Names = FORMATS
    """saved_model, tflite, or both."""
    quantization: Names | None = None
    """Of the TFLite files: float32, float16, dynamic, int8; all unless told otherwise."""
    calibration_images: Annotated[int, Field(ge=1, le=500)] = 200
    """Training images from which int8 takes its ranges."""
    calibrate: bool = False
    """Divide the student's logits by the temperature that calibrates it on the validation split."""
    keep: Count | None = None
    """Keep only so many of the newest SavedModel versions."""

    @field_validator("format", "quantization")
    @classmethod
    def _known(cls, names, info):
        known = FORMATS if info.field_name == "format" else QUANTIZATIONS
        for name in ("",) if names == () else names or ():
            if name not in known:
                raise SettingsError(f'{info.field_name}: no "{name}". {near(name, known)}')
        return names and tuple(name for name in known if name in names)

    def check(self):
        if self.quantization is not None and "tflite" not in self.format:
            raise SettingsError(
                "quantization is for TFLite files, but format is saved_model alone. Add tflite to "
                "format, or leave quantization out."
            )

    @classmethod
    def of(cls, exports, calibrate=False):
        """Settings from some of `EXPORTS`."""
        quantizations = tuple(name for name in exports if name in QUANTIZATIONS)
        formats = ("saved_model",) * ("saved_model" in exports) + ("tflite",) * bool(quantizations)
        return cls(format=formats, quantization=quantizations or None, calibrate=calibrate)

    @property
    def quantizations(self):
        """Of the TFLite files to write: tuple of names, perhaps empty."""
        return (self.quantization or QUANTIZATIONS) if "tflite" in self.format else ()
