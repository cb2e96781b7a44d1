"""run.json: what it holds, checked whenever it is read.

What is read here may come from elsewhere: names stay inside their directory, and nothing is
imported or called because the file says so. Data and teachers are known by name and fingerprint, so
that a record means the same on any machine.
"""

import json
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    AliasChoices,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from tfkd import tasks
from tfkd.files import write_json
from tfkd.settings.base import explain

FORMAT = 2


def _inside(name):
    path = Path(name)
    if path.is_absolute() or ".." in path.parts or not name:
        raise ValueError(f'the name "{name}" leads out of the run\'s directory')
    return name


FileName = Annotated[str, AfterValidator(_inside)]
Figures = dict[str, float | int]


class Part(BaseModel):
    """Base of what is read from a record: every value of its kind, and no others."""

    model_config = ConfigDict(extra="forbid", strict=True)


class Data(Part):
    """A data set: its name, what it is, the fingerprint of its pixels and labels, and the rule by
    which images of another size are resized to its shape."""

    name: str
    image_shape: list[int]
    label_names: list[str]
    sizes: dict[str, int]
    fingerprint: str
    resize: str = "stretch"


class Teacher(Part):
    """A teacher, by name and by the fingerprint of its file; None where the run trained it.

    Attributes:
        members: positions in `Record.teachers` of those that it is put together of.
    """

    name: str
    file: FileName
    fingerprint: str | None = None
    members: list[int] = []


class RowRecord(Part):
    """One way to get a student.

    Attributes:
        name: in figures and history.
        file: name of its models below `seeds/<seed>/`.
        baseline: name of the row that its gain is counted from.
        recipe: name of the recipe whose network it is; what it deploys follows from that.
        data, teacher: positions in `Record.data` and `Record.teachers`.
        settings: what differs from `Record.settings`.
        knowledge: how it was taught: "labels", "stored" or "live".
        taught_by: name of the row whose student taught it; then `teacher` is None.
        members: names of the rows that it is put together of.
    """

    name: str
    file: FileName
    baseline: str | None = None
    recipe: str | None = None
    data: int = 0
    teacher: int | None = None
    settings: dict[str, Any] = {}
    knowledge: Literal["labels", "stored", "live"] = "labels"
    taught_by: str | None = None
    members: list[str] = []


class Knowledge(Part):
    """Where the rows of a lesson have the teacher's answers from, and why.

    Attributes:
        lesson: position of the data set, fraction and teacher among the run's.
        source: name of what stands for the teacher; "" for the teacher itself.
        tensors: {name: shape without the batch} of what is read of the teacher.
        stored: whether the teacher was asked once; else it answers live, in every epoch.
        views: versions of each image that students see.
        bytes, dtype: of the store.
        store: its name in the folder of `--cache`, where it was there before the run.
    """

    # It was called task in the records of earlier versions.
    lesson: int = Field(validation_alias=AliasChoices("lesson", "task"))
    tensors: dict[str, list[int]]
    stored: bool
    views: int
    bytes: int
    dtype: str
    why: str
    source: str = ""
    store: str = ""


class Begun(Part):
    """What is fixed when a run begins: what it is made of, and where knowledge comes from."""

    inputs: dict[str, str]
    knowledge: list[Knowledge] = []

    @classmethod
    def read(cls, path):
        """Raises ValueError: the file is damaged. FileNotFoundError: there is none."""
        return cls(**validated(cls, path))


class Training(Part):
    """What a training ended in: its history apart, which is in history.csv.

    Attributes:
        epoch: the epoch that was kept, from 1; 0 of a teacher that was not trained here.
        figures: of that epoch on the validation split, such as accuracy and cross_entropy.
        seconds: wall time, of all attempts.
        student_start, start: sha256 of the student's weights, and of all weights, before training.
        epochs: how many there were.
        training_cross_entropy: of the labels in the kept epoch, as it was trained: of augmented
            images, and with smoothed and weighted labels where these were set.
        late_gain: by how much the kept epoch's first figure is better than the best one of the
            first three quarters of the epochs.
    """

    epoch: int
    figures: dict[str, float]
    seconds: float
    student_start: str | None = None
    start: str | None = None
    epochs: int | None = None
    training_cross_entropy: float | None = None
    late_gain: float | None = None

    @model_validator(mode="before")
    @classmethod
    def _of_an_earlier_version(cls, values):
        """Its two figures stood by themselves."""
        if isinstance(values, dict) and "figures" not in values and "accuracy" in values:
            values = dict(values)
            figures = {name: values.pop(name) for name in ("accuracy", "cross_entropy")}
            values["figures"] = figures
        return values

    @property
    def accuracy(self):
        return self.figures["accuracy"]

    @property
    def cross_entropy(self):
        return self.figures["cross_entropy"]

    @classmethod
    def given(cls, figures, task):
        """Of what was not trained here, from its figures on the validation split."""
        return cls(epoch=0, seconds=0, figures={name: figures[name] for name in task.figures})

    @classmethod
    def done(cls, progress, student_start, start, task):
        """Of a training that ended, from its `tfkd.runs.checkpoints.Progress`, in a `Task`."""
        history, kept = progress.history, progress.best_epoch - 1
        labels = history.get("student_loss", history.get("output_loss", history["loss"]))
        figures = {name: history[f"val_{name}"][kept] for name in task.figures}
        before = history[f"val_{task.judged}"][: max(1, progress.epochs * 3 // 4)]
        best = (min if task.lower_is_better else max)(before)
        return cls(
            epoch=progress.best_epoch,
            figures=figures,
            seconds=round(progress.seconds, 3),
            student_start=student_start,
            start=start,
            epochs=progress.epochs,
            training_cross_entropy=labels[kept],
            late_gain=task.gain(figures[task.judged], best),
        )


class Record(Part):
    """The content of run.json."""

    format: Literal[2] = FORMAT
    kind: Literal["distill", "recipe", "compare", "search", "chain"]
    task: str = "classification"
    tfkd: str
    finished: str
    command: str
    versions: dict[str, str]
    machine: dict[str, Any]
    settings: dict[str, Any]
    data: Annotated[list[Data], Field(min_length=1)]
    teachers: list[Teacher]
    seeds: Annotated[list[int], Field(min_length=1)]
    rows: Annotated[list[RowRecord], Field(min_length=1)]
    main: str
    kept_seed: int
    knowledge: list[Knowledge] = []
    trainings: dict[str, Training]
    seconds: float
    figures: dict[str, list[Figures]]
    summary: dict[str, dict[str, Figures]]
    gains: dict[str, dict[str, Any]]
    findings: list[str] = []
    notes: list[str] = []
    study: dict[str, Any] | None = None
    export_failed: str | None = None

    @classmethod
    def read(cls, path):
        """The record in a file.

        Raises:
            ValueError: it is damaged, or another version of tfkd wrote it.
        """
        return cls(**validated(cls, path))

    def write(self, path):
        write_json(path, self.content())

    def content(self):
        """The record as plain values, as they stand in run.json."""
        return self.model_dump(exclude_none=True)

    def teacher_lines(self):
        """{position of a teacher of a row, or of a member: its line among the figures}."""
        lines, alone = {}, len(self.teachers) == 1
        places = {row.teacher: row.data for row in self.rows if row.teacher is not None}
        for position, data in list(places.items()):
            places |= dict.fromkeys(self.teachers[position].members, data)
        for position, data in sorted(places.items(), key=lambda own: (own[1], own[0])):
            name = "teacher" if alone else f"teacher {self.teachers[position].name}"
            name = name if name not in lines.values() else f"{name} ({self.data[data].name})"
            name = name if name not in lines.values() else f"{name} {position + 1}"
            lines[position] = name
        return lines

    def require_classes(self, command):
        """Raises ValueError where the run learnt something else than classes."""
        if not tasks.get(self.task).classifies:
            raise ValueError(
                f"{command} is of runs that learn classes of images or texts; this one learns "
                f"{self.task}. In a program: keras.saving.load_model of its student.keras."
            )

    def row(self, name=None):
        """The `RowRecord` of a name; by default the main row.

        Raises:
            ValueError: there is none of that name.
        """
        for row in self.rows:
            if row.name == (name or self.main):
                return row
        raise ValueError(
            f'The run has no row "{name}". There are: {", ".join(row.name for row in self.rows)}.'
        )


class Outcome(Part):
    """What one training ended in, as it lies beside its model.

    Attributes:
        training: `Training`.
        history: {metric: one value an epoch}.
        model_sha256: of the model's file.
    """

    training: Training
    history: dict[str, list[float]]
    model_sha256: str

    @classmethod
    def read(cls, path):
        """The outcome in a file; None where there is no whole one."""
        try:
            return cls(**validated(cls, path))
        except (FileNotFoundError, ValueError):
            return None


def validated(kind, path):
    """The content of a JSON file, checked.

    Raises:
        ValueError: it is damaged, of another version, or holds something else.
        FileNotFoundError: there is none.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(
            f'"{path}" is damaged: it is no whole JSON ({error}). The command that made the run, '
            "with --resume, writes it anew from its trainings."
        ) from None
    if not isinstance(content, dict):
        raise ValueError(f'"{path}" is no record of a run: it holds a {type(content).__name__}.')
    version = content.get("format", 1)
    if kind is Record and version != FORMAT:
        wrote = content.get("tfkd", "unknown")
        raise ValueError(
            f'"{path}" is of format {version} (tfkd {wrote}); this version reads format '
            f"{FORMAT}. Use the version that wrote it, or train the run anew: tfkd distill "
            "--config run.toml."
        )
    try:
        kind(**content)
    except ValidationError as error:
        raise ValueError(f'"{path}" is no record of a run: {explain(error, kind)}') from None
    return content
