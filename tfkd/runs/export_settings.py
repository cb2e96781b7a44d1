"""The settings of `tfkd export`."""

import difflib
from dataclasses import dataclass

from tfkd.runs.settings import Settings, SettingsError, setting

FORMATS = ("saved_model", "tflite")
# tfkd.export.tflite knows them, but imports TensorFlow; a test compares the two.
QUANTIZATIONS = ("float32", "float16", "dynamic", "int8")
# What `tfkd distill --export` takes: both lists in one.
EXPORTS = ("saved_model", *QUANTIZATIONS)


@dataclass(frozen=True)
class ExportSettings(Settings):
    """What `tfkd export` writes; see each field's help."""

    format: str | tuple = setting("saved_model,tflite", "saved_model, tflite, or both.")
    quantization: str | tuple | None = setting(
        None, f"Of the TFLite files: {', '.join(QUANTIZATIONS)}; all unless told otherwise."
    )
    calibration_images: int = setting(
        200, "Training images from which int8 takes its ranges.", minimum=1, maximum=500
    )
    keep: int | None = setting(
        None, "Keep only so many of the newest SavedModel versions.", minimum=1
    )

    def check(self):
        object.__setattr__(self, "format", chosen("format", self.format, FORMATS))
        if self.quantization is None:
            return
        if "tflite" not in self.format:
            raise SettingsError(
                "quantization is for TFLite files, but format is saved_model alone. Add tflite to "
                "format, or leave quantization out."
            )
        names = chosen("quantization", self.quantization, QUANTIZATIONS)
        object.__setattr__(self, "quantization", names)

    @classmethod
    def of(cls, exports):
        """Settings from some of `EXPORTS`."""
        quantizations = tuple(name for name in exports if name in QUANTIZATIONS)
        formats = ("saved_model",) * ("saved_model" in exports) + ("tflite",) * bool(quantizations)
        return cls(format=formats, quantization=quantizations or None)

    @property
    def quantizations(self):
        """Of the TFLite files to write: tuple of names, perhaps empty."""
        return (self.quantization or QUANTIZATIONS) if "tflite" in self.format else ()


def chosen(setting_name, value, known):
    """A tuple of known names, in their order, from a text with commas or a list of such texts.

    Raises:
        SettingsError: an unknown name (near matches are named), or none at all.
    """
    texts = (value,) if isinstance(value, str) else value
    names = [name.strip() for text in texts for name in str(text).split(",")]
    for name in names or [""]:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f'Did you mean "{near[0]}"? ' if near else ""
            raise SettingsError(
                f'{setting_name}: no "{name}". {hint}There are: {", ".join(known)}.'
            )
    return tuple(name for name in known if name in names)
