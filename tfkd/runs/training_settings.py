"""What every run decides, whatever it compares: data, models, budget and seeds."""

import difflib
import os
import zipfile
from dataclasses import dataclass, replace

from tfkd.models import check_name
from tfkd.runs.settings import Settings, SettingsError, setting

# tfkd.data knows them, but imports TensorFlow; a test compares the two.
AUGMENTATIONS = ("none", "shift", "crop", "flip", "crop_flip")


@dataclass(frozen=True)
class TrainingSettings(Settings):
    """Data, teacher, student and the budget that every student of a run gets."""

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
    seeds: int = setting(3, "How many times the student is trained anew.", minimum=1)
    seed: int = setting(0, "The first seed; the next ones count up.", minimum=0, maximum=2**31)

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


def _absolute(path):
    return os.path.abspath(os.path.expanduser(path))


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
