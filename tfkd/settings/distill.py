"""The settings of `tfkd distill`."""

import os
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import BeforeValidator, Field, field_validator, model_validator

from tfkd import defaults
from tfkd.settings import methods
from tfkd.settings.base import Above0, AtLeast0, Names, SettingsError, Share, Texts, near, options
from tfkd.settings.export import EXPORTS
from tfkd.settings.training import TrainingSettings

AUTO, NONE = ("auto",), ("none",)


def _checked_hints(hints):
    hints = (hints,) if isinstance(hints, str) else hints
    for pair in (
        hints if isinstance(hints, list | tuple) and tuple(hints) not in (AUTO, NONE) else ()
    ):
        parts = pair.split(":") if isinstance(pair, str) else []
        if len(parts) != 2 or not all(parts):
            raise SettingsError(
                f'hints holds {pair!r}; expected "auto", "none", or pairs of layers written '
                '"teacher_layer:student_layer".'
            )
    if isinstance(hints, list | tuple) and not hints:
        raise SettingsError('hints is an empty list; write "none" for no hints.')
    return hints


# "auto" pairs the stage ends of both models, the deepest first.
Hints = Annotated[Texts, BeforeValidator(_checked_hints)]

# What a recipe brings of its own.
LOSSES = ("softness", "temperature", "student_loss_weight", "logits_weight", "hints", "hint_weight")


# What other tasks begin with where they are not told.
DEFAULTS = {
    "multi-label": {
        "data": "digit_groups",
        "augment": "none",
        "student_options": {"width": 0.125},
    },
    "segmentation": {
        "data": "shapes",
        "augment": "none",
        "teacher": "encoder_decoder",
        "student": "encoder_decoder",
        "student_options": {"width": 0.25},
    },
    "text": {
        "data": "who_acted",
        "augment": "none",
        "teacher": "text_transformer",
        "student": "text_cnn",
        "student_options": {"width": 8},
    },
}
# Settings that other tasks have no use for, and augmentations that keep a mask on its image.
OF_CLASSES = (
    *("label_smoothing", "class_weight", "teacher_free", "recipe", "calibrate", "export"),
    "skip_damaged",
)
OF_IMAGES = ("image_size", "resize", "store", "views", "recipe")
WITH_MASKS = ("none", "shift", "flip")


class DistillSettings(TrainingSettings):
    """Everything that decides what `tfkd distill` trains and measures."""

    reads: ClassVar = ("ignore_class",)

    task: Literal["classification", "multi-label", "segmentation", "text"] = "classification"
    """What is learnt: the class of an image, any number of its labels, or a class for each of its
    pixels; or the class of a text (data: a folder of .txt files in classes, a .csv or .tsv table of
    texts and labels, a TFDS set)."""
    ignore_class: Annotated[int | None, Field(ge=0, le=255)] = None
    """Value of a mask's pixels that are of no class (often 255): they count nowhere."""
    softness: Annotated[float, Field(gt=0, lt=1)] = defaults.SOFTNESS
    """How soft the teacher's targets are at the beginning: their entropy, of a uniform guess's."""
    temperature: Above0 | None = None
    """Soften both models' logits by one temperature, all the time, instead."""
    student_loss_weight: Share = defaults.STUDENT_LOSS_WEIGHT
    """Weight of the loss on labels; distillation has the rest of 1."""
    logits_weight: AtLeast0 = 1.0
    """Weight of the distilled logits."""
    hints: Hints = NONE
    """auto (stage ends, the deepest first), none, or TEACHER_LAYER:STUDENT_LAYER (repeatable)."""
    hint_weight: AtLeast0 = 0.1
    """Weight of each hint."""
    loss: Names = ()
    """Distil by these losses instead, NAME or NAME:WEIGHT (repeatable), see tfkd losses."""
    recipe: str | None = None
    """Distil by the losses (and the exits or branches) of a recipe, see tfkd recipes."""
    recipe_options: options("--recipe-option")
    """Settings of the recipe, such as temperature=3 (repeatable)."""
    teacher_free: bool = False
    """Train the student alone with smoothed labels, too: what can be had without a teacher."""
    export: Names = NONE
    """Export the student at the end: none, saved_model, float32, float16, dynamic, int8."""
    calibrate: bool = False
    """Divide the exported student's logits by the temperature that calibrates it."""

    @field_validator("export")
    @classmethod
    def _known_exports(cls, names):
        for name in names if names not in (NONE, ()) else ():
            if name not in EXPORTS:
                raise SettingsError(f'export: no "{name}". {near(name, EXPORTS)}')
        return tuple(name for name in EXPORTS if name in names) or NONE

    @model_validator(mode="before")
    @classmethod
    def _of_task(cls, values):
        task = values.get("task") if isinstance(values, dict) else None
        own = DEFAULTS.get(task, {}) if isinstance(task, str) else {}
        if "student" in (values or {}):
            own = {name: value for name, value in own.items() if name != "student_options"}
        return {**own, **values}

    @property
    def learns(self):
        return self.task

    def check(self):
        super().check()
        self._check_task()
        if self.temperature is not None and "softness" in self.given():
            raise SettingsError(
                "softness and temperature are two ways to soften the teacher's targets: give one."
            )
        if self.calibrate and not self.exports:
            raise SettingsError(
                "calibrate is of the exported student, but nothing is exported. Say what to export "
                "(--export saved_model,int8), or calibrate later: tfkd export RUN --calibrate."
            )
        if self.several_teachers and self.hints == AUTO:
            raise SettingsError(
                'hints = "auto" pairs the stages of one teacher, but there are '
                f"{len(self.teacher)}. Name the layers, each behind its teacher: hints = "
                '["resnet/stage1_out:stage1_out"].'
            )
        if self.loss:
            return methods.check(self, LOSSES)
        if self.recipe is None:
            if not self.logits_weight and (self.hints == NONE or not self.hint_weight):
                raise SettingsError(
                    "Nothing is distilled: logits_weight is 0, and so is hint_weight (or hints is "
                    '"none"). Give one of them a weight.'
                )
            if self.recipe_options:
                raise SettingsError(
                    f"recipe_options {self.recipe_options} are settings of a recipe, but no recipe "
                    "is given."
                )
            return
        given = [name for name in LOSSES if name in self.given()]
        if given:
            raise SettingsError(
                f"{' and '.join(given)} would change nothing: the losses are those of the recipe "
                f'"{self.recipe}". Give its own settings as recipe_options (--recipe-option '
                "temperature=3)."
            )

    def _check_task(self):
        """Raises SettingsError for what the task has no use for."""
        if self.ignore_class is not None and self.task != "segmentation":
            raise SettingsError(
                f'ignore_class is of pixels of masks, but task is "{self.task}". Leave it out.'
            )
        if self.task == "classification":
            return
        texts = self.task == "text"
        idle = [name for name in (OF_IMAGES if texts else OF_CLASSES) if name in self.given()]
        idle += ["augment"] * (texts and self.augment != "none")
        if idle:
            what = "images" if texts else "classification"
            raise SettingsError(
                f"{' and '.join(idle)} {'is' if len(idle) == 1 else 'are'} of {what}, and "
                f'would change nothing for task = "{self.task}". Leave it out.'
            )
        if texts:
            return
        if self.several_teachers:
            raise SettingsError(
                f'{len(self.teacher)} teachers are named, but task = "{self.task}" takes one.'
            )
        if self.task == "segmentation" and self.augment not in WITH_MASKS:
            raise SettingsError(
                f'augment is "{self.augment}", which brings in pixels of no class or changes what '
                f"a mask belongs to; of segmentation there are: {', '.join(WITH_MASKS)}."
            )

    @property
    def exports(self):
        """What to export at the end: names of `EXPORTS`, perhaps none."""
        return () if self.export == NONE else self.export

    def default_out(self):
        """Where a run of these settings goes unless told otherwise."""
        return os.path.join("saved_models", f"{plain(self.data)}-{plain(self.student)}")


def plain(text):
    """A name, path or reference as a file's name: its last part, without a suffix."""
    return Path(text).name.removesuffix(".keras").replace(":", "-")
