"""The settings that all recipes of detection share."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from tfkd.settings.base import Count, SettingsError
from tfkd.settings.recipe import RecipeSettings


class DetectionSettings(RecipeSettings):
    """Those of a recipe, without what makes no sense for boxes."""

    learns: ClassVar = "detection"

    resize: Literal["stretch_antialiased", "stretch"] = "stretch_antialiased"
    """How images become another size, with or without antialiasing."""
    image_size: Annotated[int | None, Field(ge=16)] = None
    """Resize images until their shorter side has this many pixels; sides are rounded to multiples
    of 16."""
    augment: Literal["flip", "none"] = "flip"
    """Augmentation: mirror images with their boxes, or none."""
    batch_size: Count = 16
    """Images a batch."""

    def check(self):
        super().check()
        for name in ("label_smoothing", "class_weight"):
            if getattr(self, name) != type(self).model_fields[name].default:
                raise SettingsError(f"{name} is of one class an image. Leave it out.")
