"""The settings of `tfkd compare`: lists where `tfkd distill` has one of a kind."""

import os
import shlex
from typing import ClassVar

from tfkd.settings.base import (
    Numbers,
    SettingsError,
    Texts,
    absolute,
    absolute_words,
    near,
    parse_options,
    words,
)
from tfkd.settings.distill import LOSSES, DistillSettings
from tfkd.settings.training import BudgetSettings

FULL = 1.0  # all of the training data
DISTILLED_BY = (*LOSSES, "loss")  # what a setting may say


class CompareSettings(BudgetSettings):
    """Everything that decides which rows `tfkd compare` trains.

    Every student is trained on every fraction of every data set: alone, and distilled by every
    setting and every recipe. A student, teacher, setting or recipe is written as words: its name,
    then NAME=VALUE options, such as "modified_alexnet width=0.25" or "temperature=2 hints=none".
    """

    code: ClassVar = (*BudgetSettings.code, "teacher", "student")

    data: Texts = ("digits",)
    """Data sets: "digits" or "rod_pump_cards" (built in), TFDS names, or folders of images
    (repeatable)."""
    fraction: Numbers = (FULL,)
    """Fractions of the training data, of above 0 to 1 (repeatable)."""
    teacher: Texts = ("resnet",)
    """One teacher for all data sets, or one for each in their order: "NAME OPTION=VALUE", .keras
    files or package.module:function (repeatable)."""
    student: Texts = ("modified_alexnet",)
    """Students, "NAME OPTION=VALUE" (repeatable)."""
    setting: Texts = ()
    """Settings to distil with, such as "temperature=2 hints=auto" or "loss=dkd" (repeatable);
    unless told the defaults of tfkd distill, and none where there are recipes."""
    recipe: Texts = ()
    """Recipes to distil by, "NAME OPTION=VALUE" (repeatable)."""
    teacher_free: bool = False
    """Train every student alone with smoothed labels, too: what can be had without a teacher."""

    def check(self):
        super().check()
        for name in ("data", "fraction", "teacher", "student", "setting", "recipe"):
            values = getattr(self, name)
            if not values and name not in ("setting", "recipe"):
                raise SettingsError(f"{name} is an empty list; expected one or more.")
            twice = sorted({str(value) for value in values if values.count(value) > 1})
            if twice:
                raise SettingsError(f"{name} holds {', '.join(twice)} twice: rows of one name.")
        if not all(0 < fraction <= 1 for fraction in self.fraction):
            raise SettingsError(f"fraction is {list(self.fraction)}; expected above 0 to 1.")
        if len(self.teacher) not in (1, len(self.data)):
            raise SettingsError(
                f"There are {len(self.teacher)} teachers for {len(self.data)} data sets: give one "
                "for all, or one for each in the order of the data sets."
            )
        for data in self.data:
            for student in self.student:
                for losses in self.distillations():
                    self.row(data, student, losses)

    def distillations(self):
        """How every student is distilled: a list of (name, dict of settings of `tfkd distill`)."""
        rows = []
        for text in self.setting or (() if self.recipe else ("",)):
            values = parse_options(shlex.split(text), "setting")
            for name in values:
                if name not in DISTILLED_BY:
                    raise SettingsError(f'setting: no "{name}". {near(name, DISTILLED_BY)}')
            rows.append((text or "distilled", values))
        for text in self.recipe:
            name, options = words("recipe", text)
            rows.append((text, {"recipe": name, "recipe_options": options}))
        return rows

    def row(self, data, student, losses=("", {})):
        """The `DistillSettings` of one row.

        Args:
            data, student: as in the lists.
            losses: one of `distillations()`.
        """
        shared = {name: getattr(self, name) for name in BudgetSettings.model_fields}
        teacher = self.teacher[self.data.index(data) if len(self.teacher) > 1 else 0]
        for role, text in (("teacher", teacher), ("student", student)):
            shared[role], shared[f"{role}_options"] = words(role, text)
        return DistillSettings(data=data, **shared, **losses[1])

    def resolved(self, folder="."):
        settings = super().resolved(folder)
        lists = self.made_absolute({name: getattr(self, name) for name in LISTS}, folder)
        return settings.replace(**lists)

    @classmethod
    def made_absolute(cls, values, folder):
        values = super().made_absolute(values, folder)
        for name in LISTS:
            texts = values.get(name, ())
            texts = [texts] if isinstance(texts, str) else list(texts)
            made = absolute if name == "data" else absolute_words
            if texts:
                values[name] = [made(text, folder) for text in texts]
        return values

    def models(self, role):
        return [words(role, text)[0] for text in getattr(self, role)]

    def default_out(self):
        """Where a run of these settings goes unless told otherwise."""
        return os.path.join("saved_models", "compare")


LISTS = ("data", "teacher", "student")
