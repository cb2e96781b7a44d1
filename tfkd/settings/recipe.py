"""The settings that all recipes share."""

import os
from typing import ClassVar

from tfkd.settings.base import Count
from tfkd.settings.distill import plain
from tfkd.settings.training import TrainingSettings


class RecipeSettings(TrainingSettings):
    """Data, models and budget of a recipe's run; a recipe adds its own temperature and weights."""

    recipe: ClassVar[str]  # its name

    epochs: Count = 15
    """Epochs of each student."""
    teacher_epochs: Count = 15
    """Epochs of a teacher that is trained."""

    def default_out(self):
        """Where a run of these settings goes unless told otherwise."""
        return os.path.join("saved_models", f"{self.recipe}-{plain(self.data)}")
