"""`report.json`: what a run's page needs of data and models, kept for when these are gone."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from tfkd.runs.directory import KEPT
from tfkd.runs.record import Part, validated

# A confusion matrix of more classes cannot be read: of these the most confused pairs are kept.
MATRIX_CLASSES = 30
LOSSLESS = 48  # pixels: images up to this size are kept as they are

Index = Annotated[int, Field(ge=0)]


class Picture(Part):
    """A small image, as base64."""

    kind: Literal["png", "jpeg"]
    data: Annotated[str, Field(pattern=r"^[A-Za-z0-9+/]+={0,2}$")]
    width: Annotated[int, Field(ge=1)]
    height: Annotated[int, Field(ge=1)]

    @property
    def uri(self):
        return f"data:image/{self.kind};base64,{self.data}"

    @property
    def coarse(self):
        """Whether its pixels are to be seen as squares."""
        return max(self.width, self.height) <= LOSSLESS


class Excerpt(Part):
    """The beginning of a text."""

    text: str


class Bins(Part):
    """The bins of a reliability diagram, see `tfkd.evaluation.reliability`."""

    count: list[int]
    confidence: list[float]
    accuracy: list[float]

    @property
    def error(self):
        """The expected calibration error, from 0 to 1."""
        gaps = (n * abs(a - c) for n, a, c in self.filled)
        return sum(gaps) / max(1, sum(self.count))

    @property
    def filled(self):
        """(count, accuracy, confidence) of the bins that hold an example."""
        bins = zip(self.count, self.accuracy, self.confidence, strict=True)
        return [own for own in bins if own[0]]


class Answers(Part):
    """How one model answered the test images.

    Attributes:
        part: the model's training, see `Record.trainings`.
        right: images of each class that it names.
        wrong: lists of [class, answer, count], the most frequent first; all of them where there
            are at most `MATRIX_CLASSES` classes.
        temperature: that calibrates it, fitted on validation.
        bins, calibrated: as it is, and with its logits divided by the temperature.
    """

    part: str
    right: list[Index]
    wrong: list[Annotated[list[Index], Field(min_length=3, max_length=3)]]
    temperature: float
    bins: Bins
    calibrated: Bins


class Differing(Part):
    """A test example on which teacher and student differ; classes by their numbers."""

    label: Index
    teacher: Index
    student: Index
    teacher_confidence: float
    student_confidence: float
    picture: Picture | Excerpt


class Sample(Part):
    """A training example, and versions of it as students saw them."""

    label: Index
    picture: Picture | Excerpt
    views: list[Picture]


class Kept(Part):
    """The content of report.json.

    Attributes:
        row, seed: whose student it is about.
        images: test images of each class.
        teacher, student, alone: `Answers`; alone is the row that the student's gain is counted
            from, of the same seed.
        both_right, only_teacher, only_student, both_wrong: test images by who is right.
        both_wrong_differ: of the last, those on which the two answers differ.
        differing: `DIFFERING` images at most.
        augment, views: how training images are changed, and into how many versions.
    """

    format: Literal[1] = 1
    tfkd: str
    row: str
    seed: int
    images: Annotated[list[Index], Field(min_length=1)]
    teacher: Answers
    student: Answers
    alone: Answers | None = None
    both_right: Index
    only_teacher: Index
    only_student: Index
    both_wrong: Index
    both_wrong_differ: Index
    differing: list[Differing]
    augment: str
    views: int
    samples: list[Sample]

    @model_validator(mode="after")
    def _within_the_classes(self):
        classes = len(self.images)
        models = [own for own in (self.teacher, self.student, self.alone) if own is not None]
        found = [n for own in models for label, answer, _ in own.wrong for n in (label, answer)]
        found += [n for own in self.differing for n in (own.label, own.teacher, own.student)]
        found += [own.label for own in self.samples]
        if max(found, default=0) >= classes or any(len(own.right) != classes for own in models):
            raise ValueError(f"classes that are not among the {classes} that were counted")
        return self

    @property
    def differ(self):
        """On how many test images teacher and student give different answers."""
        return self.only_teacher + self.only_student + self.both_wrong_differ


def read(directory, record):
    """What was kept of a run.

    Args:
        directory: `RunDirectory`.
        record: its `Record`.

    Returns:
        (`Kept`, ""), or (None, a sentence that says why there is none).
    """
    try:
        kept = Kept(**validated(Kept, directory / KEPT))
    except FileNotFoundError:
        if record.row().teacher is None and record.row().taught_by is None:
            return None, f"No teacher taught {record.main}: there is none to compare it with."
        return None, (
            "The answers of teacher and student were not kept: a version of tfkd without this "
            f"page wrote the run, or {KEPT} was removed."
        )
    except ValueError as error:
        return None, str(error)
    classes = len(record.data[record.row().data].label_names)
    if (kept.row, kept.seed, len(kept.images)) != (record.main, record.kept_seed, classes):
        return None, f"{KEPT} is of another run: it is about {kept.row}, seed {kept.seed}."
    return kept, ""
