"""The settings of `tfkd distill`."""

import dataclasses
import os
from dataclasses import dataclass
from pathlib import Path

import tfkd
from tfkd.runs import hinting
from tfkd.runs.export_settings import EXPORTS, chosen
from tfkd.runs.settings import SettingsError, setting
from tfkd.runs.training_settings import TrainingSettings

# What a recipe brings of its own.
LOSSES = ("temperature", "student_loss_weight", "logits_weight", "hints", "hint_weight")


@dataclass(frozen=True)
class DistillSettings(TrainingSettings):
    """Everything that decides what `tfkd distill` trains and measures; see each field's help."""

    temperature: float = setting(4.0, "Softens both models' logits.", above=0)
    student_loss_weight: float = setting(
        0.1, "Weight of the loss on labels; distillation has the rest of 1.", minimum=0, maximum=1
    )
    logits_weight: float = setting(1.0, "Weight of the distilled logits.", minimum=0)
    hints: str | tuple = setting("auto", hinting.HELP)
    hint_weight: float = setting(0.1, "Weight of each hint.", minimum=0)
    recipe: str | None = setting(
        None, "Distil by the losses (and the exits or branches) of a recipe, see tfkd recipes."
    )
    recipe_options: dict = setting(
        {}, "Settings of the recipe, such as temperature=3 (repeatable).", flag="--recipe-option"
    )
    export: str | tuple = setting(
        "none", f"Export the student at the end: none, {', '.join(EXPORTS)} (repeatable)."
    )

    def check(self):
        super().check()
        object.__setattr__(self, "hints", hinting.checked(self.hints))
        if self.export not in ("none", ("none",), ()):
            object.__setattr__(self, "export", chosen("export", self.export, EXPORTS))
        else:
            object.__setattr__(self, "export", "none")
        if not self.logits_weight and (self.hints == "none" or not self.hint_weight):
            raise SettingsError(
                "Nothing is distilled: logits_weight is 0, and so is hint_weight (or hints is "
                '"none"). Give one of them a weight.'
            )

        self._check_recipe()

    def _check_recipe(self):
        if self.recipe is None:
            if self.recipe_options:
                raise SettingsError(
                    f"recipe_options {self.recipe_options} are settings of a recipe, but no recipe "
                    "is given."
                )
            return
        defaults = {field.name: field.default for field in dataclasses.fields(self)}
        given = [name for name in LOSSES if getattr(self, name) != defaults[name]]
        if given:
            raise SettingsError(
                f"{' and '.join(given)} would change nothing: the losses are those of the recipe "
                f'"{self.recipe}". Give its own settings as recipe_options (--recipe-option '
                "temperature=3)."
            )
        self.recipe_settings()

    def recipe_settings(self):
        """The settings of the recipe: the data, models and budget of these, and its own options.

        Raises:
            SettingsError: no such recipe, or options that it does not have.
        """
        try:
            kind = tfkd.recipes.get(self.recipe).settings
        except ValueError as error:
            raise SettingsError(f"recipe: {error}") from None
        shared = [field.name for field in dataclasses.fields(TrainingSettings)]
        twice = [name for name in self.recipe_options if name in shared]
        if twice:
            raise SettingsError(
                f"recipe_options hold {' and '.join(twice)}, which the run itself has: set "
                f"{' and '.join(twice)} there."
            )
        values = {name: getattr(self, name) for name in shared} | self.recipe_options
        return kind.from_dict(values, f"recipe_options of {self.recipe}")

    @property
    def exports(self):
        """What to export at the end: names of `EXPORTS`, perhaps none."""
        return () if self.export == "none" else self.export

    def default_out(self):
        """Where a run of these settings goes unless told otherwise."""
        data = Path(self.data).name.replace(":", "-")
        return os.path.join("saved_models", f"{data}-{self.student}")
