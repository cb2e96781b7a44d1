"""The settings of `tfkd chain`: those of `tfkd distill`, and who stands between."""

import os
from typing import ClassVar, Literal

from tfkd.settings.base import SettingsError, Texts, words
from tfkd.settings.distill import DistillSettings, plain
from tfkd.settings.training import check_model


class ChainSettings(DistillSettings):
    """Everything that decides what `tfkd chain` trains: assistants, or generations."""

    paths: ClassVar = (*DistillSettings.paths, "assistant")
    code: ClassVar = (*DistillSettings.code, "assistant")

    task: Literal["classification"] = "classification"
    """What is learnt of an image: its class."""
    assistant: Texts = ()
    """Models between teacher and student, "NAME OPTION=VALUE", the first taught by the teacher, the
    next by the one before it (repeatable)."""
    generations: int | None = None
    """Train the student so many times over, the first taught by the teacher, each next by the one
    before it."""

    def check(self):
        super().check()
        if self.recipe is not None:
            raise SettingsError(
                f'recipe is "{self.recipe}", but a chain distils every link by the losses of tfkd '
                "distill. Leave recipe out."
            )
        if not self.assistant and self.generations is None:
            raise SettingsError(
                "The chain has no link between teacher and student, which is tfkd distill. Give "
                '--assistant "NAME OPTION=VALUE" (repeatable), or --generations 3.'
            )
        if self.assistant and self.generations is not None:
            raise SettingsError("A chain has assistants or generations: give one of them.")
        if self.generations is not None and self.generations < 2:
            raise SettingsError(
                f"generations is {self.generations}: the first generation is the distilled student "
                "itself, and a chain has two or more."
            )
        twice = sorted({text for text in self.assistant if self.assistant.count(text) > 1})
        if twice:
            raise SettingsError(f"assistant holds {', '.join(twice)} twice: rows of one name.")
        for text in self.assistant:
            check_model("assistant", *words("assistant", text))

    def of_assistant(self, text):
        """The settings that train an assistant."""
        name, options = words("assistant", text)
        return self.replace(student=name, student_options=options)

    def models(self, role):
        found = super().models(role)
        if role == "student":
            found += [words("assistant", text)[0] for text in self.assistant]
        return found

    def default_out(self):
        return os.path.join("saved_models", f"{plain(self.data)}-{plain(self.student)}-chain")
