"""The settings of `tfkd cache build`."""

import re
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from tfkd.settings.base import Above0, Count, SettingsError, Texts, is_path, is_reference, options
from tfkd.settings.training import (
    Augmentation,
    DataSettings,
    TrainingSettings,
    check_keras_file,
    check_model,
)


class CacheSettings(DataSettings):
    """Which teacher is asked what, and what is kept of its answers."""

    paths: ClassVar = (*DataSettings.paths, "data", "teacher")
    code: ClassVar = ("teacher",)

    data: Annotated[str, Field(min_length=1)] = "digits"
    """"digits" or "rod_pump_cards" (built in), a TFDS name, or a folder of images."""
    teacher: str = ""
    """The trained teacher: a .keras file, or package.module:function."""
    teacher_options: options("--teacher-option")
    """Of a teacher's function, such as depth=32 (repeatable)."""
    any_teacher: bool = False
    """Take a teacher that knows no more than chance, or names the classes in another order."""
    augment: Augmentation = "shift"
    """Augmentation."""
    views: Count = 1
    """Augmented versions of each image; a run that is to find them has --views, or as many
    epochs."""
    seed: Annotated[int, Field(ge=0, le=2**31)] = 0
    """Of the augmentation; a run that is to find them has it as its first seed."""
    layer: Texts = ()
    """A layer of the teacher to store beside its output, for hints (repeatable); tfkd layers lists
    them."""
    dtype: Literal["float16", "float32"] | None = None
    """Of the stored numbers; unless told float32 where they take less than 1 GB."""
    top_k: Count | None = None
    """Store only so many of the largest logits of each answer. For Python alone: tfkd distill reads
    whole answers."""
    temperature: Above0 = 1.0
    """Of the loss that reads the largest logits."""
    batch_size: Count = 128
    """Images that the teacher sees at once."""
    shards: Annotated[int, Field(ge=1, le=512)] = 64
    """Files at most: a builder that is killed loses one."""
    share: str | None = None
    """Build the part i/n of the files alone, i from 0 to n - 1: for object stores, and for hosts
    without a common disk. Without it builders on one disk share the work by themselves."""

    def check(self):
        if not self.teacher:
            raise SettingsError(
                "teacher is missing. Give the trained teacher, --teacher teacher.keras."
            )
        if not (is_path(self.teacher) or is_reference(self.teacher)):
            raise SettingsError(
                f'teacher is "{self.teacher}", a model to train, but a cache holds the answers of '
                "a trained one. Give its .keras file (a run's is teacher.keras in its directory), "
                "or package.module:function."
            )
        check_model("teacher", self.teacher, self.teacher_options)
        if self.augment == "none" and self.views > 1:
            raise SettingsError(
                f"views is {self.views}, but images that are not augmented have one view each. "
                "Leave views out, or give an augmentation."
            )
        if self.temperature != 1 and self.top_k is None:
            raise SettingsError("temperature is for the largest logits alone: give top_k, too.")
        if self.share is not None:
            found = re.fullmatch(r"(\d{1,9})/(\d{1,9})", self.share)
            if not found or int(found[1]) >= int(found[2]):
                raise SettingsError(
                    f'share is "{self.share}"; expected i/n with i from 0 to n - 1: 0/2 and 1/2 '
                    "are the shares of two builders."
                )

    @property
    def part(self):
        """The share as (i, n), or None."""
        return None if self.share is None else tuple(map(int, self.share.split("/")))

    def check_files(self):
        """What files can tell in no time.

        Raises:
            FileNotFoundError: data_dir or the teacher's file is not there.
            ValueError: the teacher's file is no whole .keras file.
        """
        super().check_files()
        if is_path(self.teacher):
            check_keras_file(self.teacher, "teacher")

    def training(self):
        """The `TrainingSettings` of a run that would look for this cache."""
        shared = (*DataSettings.model_fields, "data", "teacher", "teacher_options", "any_teacher")
        shared += ("augment", "views", "seed")
        values = {name: getattr(self, name) for name in shared}
        return TrainingSettings(**values, epochs=self.views)
