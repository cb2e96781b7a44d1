"""The settings of `tfkd distill`."""

import difflib
import os
import zipfile
from dataclasses import dataclass, replace
from pathlib import Path

from tfkd.models import check_name
from tfkd.runs.export_settings import EXPORTS, chosen
from tfkd.runs.settings import Settings, SettingsError, setting

# tfkd.data knows them, but imports TensorFlow; a test compares the two.
AUGMENTATIONS = ("none", "shift", "crop", "flip", "crop_flip")


@dataclass(frozen=True)
class DistillSettings(Settings):
    """Everything that decides what `tfkd distill` trains and measures; see each field's help."""

    data: str = setting("digits", '"digits" (built in), a TFDS name, or a folder of images.')
    data_dir: str | None = setting(None, "Where TFDS data lies.")
    image_size: int | None = setting(None, "Resize images to this many pixels a side.", minimum=8)
    limit: int | None = setting(None, "Use at most so many training examples.", minimum=1)
    augment: str = setting("shift", f"Augmentation: {', '.join(AUGMENTATIONS)}.")
    teacher: str = setting("resnet", "Model to train as teacher, or a .keras file.")
    teacher_options: dict = setting(
        {}, "Of the teacher's model, such as depth=32 (repeatable).", flag="--teacher-option"
    )
    student: str = setting("modified_alexnet", "Model to train as student.")
    student_options: dict = setting(
        {}, "Of the student's model, such as width=0.25 (repeatable).", flag="--student-option"
    )
    epochs: int = setting(30, "Epochs of each student.", minimum=1)
    teacher_epochs: int = setting(30, "Epochs of a teacher that is trained.", minimum=1)
    batch_size: int = setting(64, "Examples a batch.", minimum=1)
    learning_rate: float = setting(
        0.003, "Adam's first learning rate; it falls to 0 along a cosine.", above=0
    )
    temperature: float = setting(4.0, "Softens both models' logits.", above=0)
    student_loss_weight: float = setting(
        0.1, "Weight of the loss on labels; distillation has the rest of 1.", minimum=0, maximum=1
    )
    logits_weight: float = setting(1.0, "Weight of the distilled logits.", minimum=0)
    hints: str | tuple = setting(
        "auto",
        '"auto" pairs the stage ends of both models, the deepest first; "none"; or '
        "TEACHER_LAYER:STUDENT_LAYER (repeatable).",
    )
    hint_weight: float = setting(0.1, "Weight of each hint.", minimum=0)
    seeds: int = setting(3, "How many times the student is trained anew.", minimum=1)
    seed: int = setting(0, "The first seed; the next ones count up.", minimum=0, maximum=2**31)
    export: str | tuple = setting(
        "none", f"Export the student at the end: none, {', '.join(EXPORTS)} (repeatable)."
    )

    def check(self):
        for name in ("data", "teacher", "student"):
            if not getattr(self, name):
                raise SettingsError(f"{name} is empty; expected a name.")
        if self.augment not in AUGMENTATIONS:
            near = difflib.get_close_matches(self.augment, AUGMENTATIONS, n=1)
            hint = f'Did you mean "{near[0]}"? ' if near else ""
            raise SettingsError(
                f'No augmentation "{self.augment}". {hint}There are: {", ".join(AUGMENTATIONS)}.'
            )
        self._check_models()
        object.__setattr__(self, "hints", _checked_hints(self.hints))
        if self.export not in ("none", ("none",), ()):
            object.__setattr__(self, "export", chosen("export", self.export, EXPORTS))
        else:
            object.__setattr__(self, "export", "none")
        if not self.logits_weight and (self.hints == "none" or not self.hint_weight):
            raise SettingsError(
                "Nothing is distilled: logits_weight is 0, and so is hint_weight (or hints is "
                '"none"). Give one of them a weight.'
            )

    def _check_models(self):
        for role, name in (("student", self.student), ("teacher", self.teacher)):
            if role == "teacher" and self.teacher_is_file:
                continue
            try:
                check_name(name)
            except ValueError as error:
                hint = " A trained teacher is given as its .keras file."
                raise SettingsError(f"{role}: {error}{hint * (role == 'teacher')}") from None
        if self.teacher_is_file and self.teacher_options:
            raise SettingsError(
                f"teacher_options {self.teacher_options} are for a teacher that is trained, but "
                f'teacher is the file "{self.teacher}". Leave them out.'
            )

    @property
    def teacher_is_file(self):
        return self.teacher.endswith(".keras") or os.sep in self.teacher

    @property
    def all_seeds(self):
        """The seeds of the students; the first is also the teacher's."""
        return list(range(self.seed, self.seed + self.seeds))

    @property
    def exports(self):
        """What to export at the end: names of `EXPORTS`, perhaps none."""
        return () if self.export == "none" else self.export

    def resolved(self):
        """The same settings with absolute paths, so that they mean the same in any folder."""
        changes = {}
        if self.teacher_is_file:
            changes["teacher"] = _absolute(self.teacher)
        if self.data_dir is not None:
            changes["data_dir"] = _absolute(self.data_dir)
        if self.data.startswith((".", "~")):
            changes["data"] = _absolute(self.data)
        return replace(self, **changes)

    def check_files(self):
        """What files can tell in no time.

        Raises:
            FileNotFoundError: data_dir or the teacher's file is not there.
            ValueError: the teacher's file is no whole .keras file.
        """
        if self.data_dir is not None and not os.path.isdir(self.data_dir):
            raise FileNotFoundError(f'No directory "{self.data_dir}", given as data_dir.')
        if self.teacher_is_file:
            _check_keras_file(self.teacher)

    def default_out(self):
        """Where a run of these settings goes unless told otherwise."""
        data = Path(self.data).name.replace(":", "-")
        return os.path.join("saved_models", f"{data}-{self.student}")


def _absolute(path):
    return os.path.abspath(os.path.expanduser(path))


def _checked_hints(hints):
    if isinstance(hints, tuple) and len(hints) == 1 and hints[0] in ("auto", "none"):
        hints = hints[0]
    if isinstance(hints, str) and hints not in ("auto", "none"):
        hints = (hints,)
    if isinstance(hints, tuple):
        for pair in hints:
            parts = pair.split(":") if isinstance(pair, str) else []
            if len(parts) != 2 or not all(parts):
                raise SettingsError(
                    f'hints holds {pair!r}; expected "auto", "none", or pairs of layers written '
                    '"teacher_layer:student_layer".'
                )
        if not hints:
            raise SettingsError('hints is an empty list; write "none" for no hints.')
    return hints


def _check_keras_file(path):
    if not os.path.exists(path):
        raise FileNotFoundError(
            f'No teacher file "{path}". Give a .keras file, or the name of a model to train.'
        )
    mend = "Expected a file written by model.save('NAME.keras') of Keras 3; save the teacher again."
    if not zipfile.is_zipfile(path):
        reason = "truncated, or of another format"
        raise ValueError(f'"{path}" is not a whole .keras file: {reason}. {mend}')
    with zipfile.ZipFile(path) as archive:
        missing = {"config.json", "model.weights.h5"} - set(archive.namelist())
    if missing:
        reason = f"it lacks {' and '.join(sorted(missing))}"
        raise ValueError(f'"{path}" is no .keras file: {reason}. {mend}')
