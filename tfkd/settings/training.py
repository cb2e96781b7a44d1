"""What every run decides, whatever it compares: data, models, budget and seeds."""

import math
import os
import re
import zipfile
from typing import Annotated, ClassVar, Literal

from cyclopts import Parameter
from pydantic import BeforeValidator, Field, model_validator

from tfkd import tasks
from tfkd.settings.base import (
    Above0,
    AtLeast0,
    Count,
    Settings,
    SettingsError,
    Texts,
    is_path,
    is_reference,
    options,
    words,
)

# tfkd.data knows these two, but imports TensorFlow; a test compares both.
Augmentation = Literal["none", "shift", "crop", "flip", "crop_flip", "jda", "contrastive"]
Resize = Literal["stretch", "stretch_antialiased", "crop", "pad"]
Optimizer = Literal["adam", "adamw", "sgd", "rmsprop", "nadam", "lion", "adafactor"]
_SCHEDULER = re.compile(r"(tcp|tls|ray)://(\[[^\]]+\]|[^\[\]:/]+):\d+")

# How much each of several teachers counts; tfkd.teachers knows them, but imports TensorFlow.
WEIGHINGS = ("confidence", "entropy", "correct")


def _one_or_several(value):
    """One text as it is, or the only one of a list; several as a tuple."""
    values = tuple(value) if isinstance(value, list | tuple) else (value,)
    if not values or not all(isinstance(text, str) and text for text in values):
        raise SettingsError(f"teacher is {value!r}; expected the name of a model, or several.")
    return values[0] if len(values) == 1 else values


Teachers = Annotated[str | tuple[str, ...], BeforeValidator(_one_or_several)]


class DataSettings(Settings):
    """How data is read, whatever becomes of it."""

    paths: ClassVar = ("data_dir", "store")
    free: ClassVar = ("store",)
    learns: ClassVar[str] = "classification"  # the kind of task, a name of tfkd.tasks
    reads: ClassVar[tuple] = ()  # names of a subclass's fields by which data is read, too

    data_dir: str | None = None
    """Where TFDS data lies."""
    image_size: Annotated[int | None, Field(ge=8)] = None
    """Resize images to this many pixels a side."""
    resize: Resize = "stretch"
    """How images become that size: stretch, as keras.layers.Resizing does (photos far larger lose
    detail to aliasing); stretch_antialiased; crop, the middle part; pad, the whole on black. crop
    and pad keep the aspect and are antialiased. Predictions and exports resize alike."""
    skip_damaged: bool = False
    """Leave out a folder's files that cannot be read, and classes without any image, instead of
    stopping."""
    store: str | None = None
    """Keep a folder's images in this directory, decoded and resized, for all epochs and runs."""
    limit: Annotated[int | None, Field(ge=1)] = None
    """Use at most so many training examples."""

    def check_files(self):
        """What files can tell in no time.

        Raises:
            FileNotFoundError: data_dir is not there.
        """
        if self.data_dir is not None and not os.path.isdir(self.data_dir):
            raise FileNotFoundError(f'No directory "{self.data_dir}", given as data_dir.')


class BudgetSettings(DataSettings):
    """How everything of a run is trained, whatever the models and the data."""

    paths: ClassVar = (*DataSettings.paths, "cache")
    code: ClassVar = ("callback",)
    free: ClassVar = (*DataSettings.free, "jobs", "scheduler")

    augment: Augmentation = "shift"
    """Augmentation."""
    epochs: Count = 30
    """Epochs of each student."""
    teacher_epochs: Count = 30
    """Epochs of a teacher that is trained."""
    batch_size: Count = 64
    """Examples a batch."""
    optimizer: Optimizer = "adam"
    """Optimizer of students and of a teacher that is trained; sgd has momentum 0.9."""
    learning_rate: Above0 = 0.003
    """First learning rate; it falls to 0 along a cosine."""
    weight_decay: AtLeast0 = 0.0
    """Decoupled weight decay of all weights."""
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Smooths the students' labels."""
    class_weight: Literal["none", "balanced"] = "none"
    """Weigh examples, so that every class counts the same."""
    early_stopping: Annotated[int | None, Field(ge=1)] = None
    """End a training after so many epochs without a better validation accuracy."""
    callback: Texts = ()
    """Keras callback of your own for the students, package.module:object (repeatable)."""
    seeds: Count = 3
    """How many times the student is trained anew."""
    seed: Annotated[int, Field(ge=0, le=2**31)] = 0
    """The first seed; the next ones count up."""
    views: Count | None = None
    """Augmented versions of each image, in turns; unless told one an epoch, or as many of them as
    there is disk to store what the teacher says of them."""
    cache_gb: Annotated[float | None, Field(ge=0)] = None
    """Disk for the teacher's stored answers, in GB; unless told a quarter of what is free."""
    cache: str | None = None
    """Keep the teacher's stored answers in this folder, for other runs."""
    train_teacher: bool = False
    """Train a teacher from a file or a function, too, instead of taking it as it is."""
    tensorboard: Annotated[bool | None, Parameter(negative="--no-tensorboard")] = None
    """Write TensorBoard's logs of every training; unless told where TensorBoard is installed."""
    precision: Literal["float32", "mixed_bfloat16", "mixed_float16"] = "float32"
    """In which students, and a teacher that is trained, compute; their weights stay float32."""
    strategy: Literal["none", "mirrored"] = "none"
    """mirrored: share every batch out over all GPUs of this machine."""
    any_teacher: bool = False
    """Take a teacher that knows no more than chance, or names the classes in another order."""
    jobs: Count | None = None
    """Train so many students at once, each in a process with its share of the cores; the figures
    are those of one after the other. Memory is needed for as many trainings."""
    scheduler: str | None = None
    """Train them on the workers of a Dask (tcp://HOST:PORT) or Ray (ray://HOST:PORT) cluster, which
    share the run directory."""

    def check(self):
        if self.scheduler is not None and not _SCHEDULER.fullmatch(self.scheduler):
            raise SettingsError(
                f"scheduler is {self.scheduler!r}; expected the address of a Dask scheduler, "
                "tcp://HOST:PORT or tls://HOST:PORT, or that of Ray's client server, "
                "ray://HOST:PORT."
            )
        for text in self.callback:
            if not is_reference(text):
                raise SettingsError(
                    f'callback is "{text}"; expected package.module:object, a Keras callback or a '
                    "function without arguments that returns one."
                )

    @property
    def augmentation(self):
        """(name, options) of what students see, for `tfkd.data.augmentation`."""
        return self.augment, {}

    @property
    def separate_augmentation(self):
        """The same where teacher and student have an input each, the student's as it is else."""
        return self.augmentation

    @property
    def teacher_augmentation(self):
        """The same of what a teacher sees while it is trained."""
        return self.augmentation

    @property
    def all_seeds(self):
        """The seeds of the students; the first is also the teacher's."""
        return list(range(self.seed, self.seed + self.seeds))

    def models(self, role):
        """The texts that name the run's models of a role, "teacher" or "student"."""
        raise NotImplementedError

    def check_files(self):
        """What files can tell in no time.

        Raises:
            FileNotFoundError: data_dir or a model's file is not there.
            ValueError: a model's file is no whole .keras file.
        """
        super().check_files()
        for role in ("teacher", "student"):
            for text in filter(is_path, self.models(role)):
                check_keras_file(text, role)


class TrainingSettings(BudgetSettings):
    """Data, teacher, student and the budget that every student of a run gets."""

    paths: ClassVar = (*BudgetSettings.paths, "data", "teacher", "student")
    code: ClassVar = (*BudgetSettings.code, "teacher", "student")

    data: Annotated[str, Field(min_length=1)] = "digits"
    """"digits" or "rod_pump_cards" (built in), a TFDS name, or a folder of images."""
    teacher: Teachers = "resnet"
    """Model to train as teacher, such as resnet, MobileNetV2, or hub:PRESET of KerasHub; or a
    trained one: a .keras file, or package.module:function.
    Several (repeatable) teach together, each "NAME OPTION=VALUE"."""
    teacher_options: options("--teacher-option")
    """Of the teacher's model, such as depth=32 (repeatable)."""
    teacher_weights: str | None = None
    """How much each of several teachers counts: confidence, entropy or correct, by the example; or
    numbers such as 2,1; unless told all alike."""
    student: Annotated[str, Field(min_length=1)] = "modified_alexnet"
    """Model to train as student, such as modified_alexnet, MobileNetV2, or hub:PRESET of KerasHub;
    package.module:function, or a .keras file to start from."""
    student_options: options("--student-option")
    """Of the student's model, such as width=0.25 (repeatable)."""

    @model_validator(mode="before")
    @classmethod
    def _default_options_of_names_alone(cls, values):
        # A recipe's default options are of the model that it names: a file or a function has none.
        for role in ("teacher", "student"):
            text = values.get(role)
            if isinstance(text, str) and (is_path(text) or is_reference(text)):
                values = {f"{role}_options": {}, **values}
        return values

    def check(self):
        super().check()
        check_model("student", self.student, self.student_options, self.learns)
        if self.precision != "float32" and is_path(self.student):
            raise SettingsError(
                f'precision is {self.precision}, but student is the file "{self.student}", whose '
                "layers have a precision of their own. Leave precision out, or name a model."
            )
        if self.several_teachers and self.teacher_options:
            raise SettingsError(
                f"teacher_options {self.teacher_options} are of one teacher, but there are "
                f'{len(self.teacher)}: write them behind the name, "{self.teacher[0]} depth=8".'
            )
        for name, given in self._teachers():
            check_model("teacher", name, given, self.learns)
        self.weights_of_teachers()

    @property
    def several_teachers(self):
        """Whether more than one teacher teaches."""
        return isinstance(self.teacher, tuple)

    def _teachers(self):
        """[(name, options)] of the teachers."""
        if not self.several_teachers:
            return [(self.teacher, self.teacher_options)]
        return [words("teacher", text) for text in self.teacher]

    def each_teacher(self):
        """The same settings with each of several teachers alone; of one teacher themselves."""
        if not self.several_teachers:
            return [self]
        return [
            self.replace(teacher=name, teacher_options=given, teacher_weights=None)
            for name, given in self._teachers()
        ]

    def weights_of_teachers(self):
        """What `tfkd.teachers.Ensemble` takes as weights: None, a name, or a list of numbers.

        Raises:
            SettingsError: they are none of these, or do not fit the teachers.
        """
        given = self.teacher_weights
        if given is None:
            return None
        if not self.several_teachers:
            raise SettingsError(
                f"teacher_weights are {given}, but there is one teacher. Give several (--teacher "
                "A --teacher B), or leave teacher_weights out."
            )
        if given in WEIGHINGS:
            return given
        try:
            numbers = [float(text) for text in given.split(",")]
        except ValueError:
            raise SettingsError(
                f"teacher_weights are {given!r}; expected {', '.join(WEIGHINGS)}, or a number for "
                "each teacher, such as 2,1."
            ) from None
        count = len(self.teacher)
        if len(numbers) != count or not all(0 <= n < math.inf for n in numbers) or not any(numbers):
            raise SettingsError(
                f"teacher_weights are {given!r} for {count} teachers; expected {count} numbers of "
                "at least 0, not all 0."
            )
        return numbers

    @property
    def teacher_is_given(self):
        """Whether a teacher is trained already: of a file, or of a function."""
        return (is_path(self.teacher) or is_reference(self.teacher)) and not self.train_teacher

    def models(self, role):
        return [name for name, _ in self._teachers()] if role == "teacher" else [self.student]


def check_model(role, text, options, learns="classification"):
    """Raises SettingsError unless a text can name a model: a name, a file or a function.

    Which names there are depends on the kind of task.
    """
    if is_path(text):
        if options:
            raise SettingsError(
                f"{role}_options {options} are for a {role} that is built, but {role} is the file "
                f'"{text}". Leave them out.'
            )
    elif not is_reference(text):
        try:
            tasks.get(learns).check_name(text)
        except ValueError as error:
            raise SettingsError(
                f"{role}: {error} A model of your own is given as its .keras file, or as "
                "package.module:function."
            ) from None


def check_keras_file(path, role="model"):
    """Raises FileNotFoundError or ValueError unless a path is a whole `.keras` file."""
    if not os.path.exists(path):
        raise FileNotFoundError(
            f'No {role} file "{path}". Give a .keras file, or the name of a model to train.'
        )
    fix = "Expected a file written by model.save('NAME.keras') of Keras 3; save the model again."
    if not zipfile.is_zipfile(path):
        reason = "truncated, or of another format"
        raise ValueError(f'"{path}" is not a whole .keras file: {reason}. {fix}')
    with zipfile.ZipFile(path) as archive:
        missing = {"config.json", "model.weights.h5"} - set(archive.namelist())
    if missing:
        reason = f"it lacks {' and '.join(sorted(missing))}"
        raise ValueError(f'"{path}" is no .keras file: {reason}. {fix}')
