"""What a finished run says where distillation did not help: likely reasons, and what to try next.

A pure function of the record. Reasons are read from training and validation, not from the test
split, so that what is tried next is not chosen on test.
"""

import math
import statistics
from typing import NamedTuple

from tfkd import tasks
from tfkd.runs.teacher_check import limit_of_chance
from tfkd.settings.base import is_path, is_reference

POINT = 0.01  # of accuracy: less is hardly a difference
SOFT = 0.8  # fitted temperature below which a student is said to be too unsure
LEAST_SOFTNESS = 0.3  # that is advised
SOFT_COST = 0.02  # nats that the fitted temperature then saves at least
FITTED = 0.98  # training accuracy is not kept; from this validation accuracy nothing underfits
# A search starts from smaller models where an option is not set: (model, option, its default).
SMALLER_IN_SEARCH = {
    "teacher": ("resnet", "depth", 20),
    "student": ("modified_alexnet", "width", 1.0),
}
UNKNOWN = "Whether distillation helped cannot be told"
SEEDS = 5  # that are suggested where one is too few


class Reason(NamedTuple):
    """Why distillation may not have helped.

    Attributes:
        text: what the figures show.
        flags: what to change in the run's settings, as flags; "" where no flag does.
    """

    text: str
    flags: str = ""


class Comparison:
    """A distilled row and its baseline, as the record has them.

    Attributes:
        gains: of the test accuracy, seed by seed.
        taught, alone: lists of `Training`, one a seed.
        teacher: `Training` of the teacher, or None.
        settings: dict, the row's.
    """

    def __init__(self, record, name=None):
        row = record.row(name)
        base = record.row(row.baseline)
        self.record, self.row, self.base = record, row, base
        self.line = next(line for line in record.gains if _is_of(line, row.name))
        self.gains = record.gains[self.line]["accuracy"]
        self.taught, self.alone = (
            [record.trainings[f"{seed}/{own.file}"] for seed in record.seeds] for own in (row, base)
        )
        self.teacher = None
        if row.teacher is not None:
            file = record.teachers[row.teacher].file
            self.teacher = record.trainings.get(file.removesuffix(".keras"))
        self.settings = {**record.settings, **row.settings}
        self.sizes = record.data[row.data].sizes
        self.classes = len(record.data[row.data].label_names)
        self.things = tasks.get(record.task).things

    @property
    def gain(self):
        return statistics.fmean(self.gains)

    @property
    def seed_error(self):
        """Standard error of the mean gain over the seeds; None of one seed."""
        many = len(self.gains) > 1
        return statistics.stdev(self.gains) / math.sqrt(len(self.gains)) if many else None

    @property
    def test_error(self):
        """Greatest standard error of a difference on so many test images (binomial)."""
        accuracies = [own["accuracy"] for own in self.record.figures[self.line]]
        accuracy = statistics.fmean(accuracies)
        return math.sqrt(2 * accuracy * (1 - accuracy) / self.sizes["test"])

    @property
    def helped(self):
        """Whether the gain, of a student that knows something, is above 0 beyond its error."""
        error = self.test_error if self.seed_error is None else self.seed_error
        return self.above_chance and self.gain > 0 and self.gain > error

    @property
    def above_chance(self):
        """Whether the distilled student is right more often than guessing would be."""
        accuracy = statistics.fmean(training.accuracy for training in self.taught)
        return accuracy > limit_of_chance(self.classes, self.sizes["validation"])

    def figure(self, name):
        """Mean of a figure of the distilled row; None where the record has none."""
        values = [own[name] for own in self.record.figures[self.line] if name in own]
        return statistics.fmean(values) if values else None


def advice(record, run="RUN"):
    """The paragraph that follows the table of a run whose distillation did not help.

    Args:
        record: `tfkd.runs.record.Record`, finished.
        run: directory of the run, for the command.

    Returns:
        str; "" where distillation helped, the main row is not compared with any, or the run learns
        no classes.
    """
    if record.row().baseline is None or not record.gains or not tasks.get(record.task).classifies:
        return ""
    own = Comparison(record)
    if own.helped:
        return ""
    found = reasons(own)
    said = [_verdict(own), *(reason.text for reason in found)]
    if not found:
        said.append("The figures show no single reason.")
    flags = next((reason.flags for reason in found if reason.flags), None)
    return f"{' '.join(said)} To try next: {_command(own, flags, run)}"


def reasons(own):
    """Likely reasons that the figures show, the first to be dealt with first.

    Args:
        own: `Comparison`.

    Returns:
        list of `Reason`.
    """
    found = [
        test(own)
        for test in (_untrained, _too_short, _underfits, _too_soft, _weak_teacher, _too_few)
    ]
    return [reason for reason in found if reason]


def _verdict(own):
    mean = f"{own.line} minus {own.base.name} is {100 * own.gain:+.2f}"
    if own.seed_error is None:
        error = (
            f"{mean} points, of one seed, where a difference on {own.sizes['test']} test "
            f"{own.things} has a standard error of up to {100 * own.test_error:.2f} points."
        )
        worse = own.gain < -own.test_error
        return f"{'Distillation made the student worse' if worse else UNKNOWN}: {error}"
    error = f"± {100 * own.seed_error:.2f} points (standard error over {len(own.gains)} seeds)"
    if own.gain < -own.seed_error:
        return f"Distillation made the student worse: {mean} {error}."
    if own.gain > own.seed_error:
        return f"The gain is none yet: {mean} {error}."
    return f"Distillation did not help: {mean} {error}, which is not above 0 beyond that error."


def _untrained(own):
    if own.above_chance:
        return None
    accuracy = statistics.fmean(training.accuracy for training in own.taught)
    text = (
        f"The distilled student knows no more than chance: it is right on {100 * accuracy:.1f} % "
        f"of the validation {own.things}, of {own.classes} classes. It hardly trained: more "
        "epochs, or another learning rate."
    )
    epochs = max((training.epochs or 0 for training in own.taught), default=0)
    return Reason(text, f"--epochs {4 * epochs}" if epochs else "")


def _too_short(own):
    if any(training.epochs is None for training in own.taught):
        return None
    last = all(training.epoch >= 0.9 * training.epochs for training in own.taught)
    late = statistics.fmean(training.late_gain for training in own.taught)
    if not last or late < POINT:
        return None
    epochs = max(training.epochs for training in own.taught)
    text = (
        f"Too few epochs: the best of {epochs} was among the last in every seed, and the last "
        f"quarter still brought {100 * late:.1f} points of validation accuracy."
    )
    return Reason(text, f"--epochs {2 * epochs}")


def _underfits(own):
    smoothed = own.settings.get("label_smoothing") or own.settings.get("class_weight") == "balanced"
    known = all(training.training_cross_entropy is not None for training in own.alone)
    if smoothed or not known:
        return None
    trained = statistics.fmean(training.training_cross_entropy for training in own.alone)
    validated = statistics.fmean(training.cross_entropy for training in own.alone)
    accuracy = statistics.fmean(training.accuracy for training in own.alone)
    if trained < validated or accuracy >= FITTED:
        return None
    shown = "" if own.settings.get("augment", "none") == "none" else ", as augmented"
    text = (
        f"The student underfits: alone it ends at a cross-entropy of {trained:.3f} nats on what it "
        f"is trained on{shown}, against {validated:.3f} on validation, so it lacks "
        "capacity or steps rather than guidance. A larger student or longer training fits more."
    )
    return Reason(text, f"--epochs {2 * max(own.alone[0].epochs or 1, 1)}")


def _too_soft(own):
    temperature = own.figure("temperature")
    if temperature is None or temperature >= SOFT:
        return None
    before, after = own.figure("cross_entropy"), own.figure("calibrated_cross_entropy")
    if before - after < SOFT_COST:
        return None
    text = (
        f"The targets are too soft: the distilled student is not sure enough, a temperature of "
        f"{temperature:.2f} would lower its cross-entropy from {before:.3f} to {after:.3f} nats."
    )
    if own.row.recipe is not None or own.record.kind not in ("distill", "search"):
        return Reason(text)
    temperature, weight = own.settings.get("temperature"), own.settings.get("student_loss_weight")
    softness = own.settings.get("softness")
    if temperature is not None and temperature > 1:
        return Reason(text, f"--temperature {max(1.0, temperature / 2):g}")
    if temperature is None and softness is not None and softness > LEAST_SOFTNESS:
        return Reason(text, f"--softness {max(LEAST_SOFTNESS, softness - 0.3):g}")
    if weight is not None and weight < 0.9:
        return Reason(text, f"--student-loss-weight {min(0.9, weight + 0.4):g}")
    return Reason(text)


def _weak_teacher(own):
    if own.teacher is None:
        return None
    alone = statistics.fmean(training.accuracy for training in own.alone)
    ahead = own.teacher.accuracy - alone
    if ahead >= POINT:
        return None
    figures = (
        f"it is right on {100 * own.teacher.accuracy:.1f} % of the validation {own.things}, the "
        f"student alone on {100 * alone:.1f} %."
    )
    how = "less accurate than the student alone" if ahead < 0 else "hardly better than the student"
    text = f"The teacher is {how}: {figures} A better teacher has more to teach."
    if not own.teacher.epoch:  # it was given
        return Reason(text)
    epochs = own.teacher.epochs or own.settings.get("teacher_epochs")
    return Reason(text, f"--teacher-epochs {2 * epochs}" if epochs else "")


def _too_few(own):
    seeds, error = len(own.gains), own.test_error
    if seeds == 1:
        return Reason("One seed shows no spread.", f"--seeds {SEEDS}")
    if abs(own.gain) >= error:
        return None
    text = (
        f"There is too little to tell by: on {own.sizes['test']} test {own.things} a difference of "
        f"two students has a standard error of up to {100 * error:.1f} points."
    )
    return Reason(text, f"--seeds {SEEDS}" if seeds < SEEDS else "")


def _command(own, flags, run):
    """What to run next: the same settings with a change, or a search where none suggests itself."""
    kind, settings = own.record.kind, own.settings
    trust = " --trust" if names_code(own.record.settings) else ""
    if flags is None and kind == "search":  # the same search goes on
        more = 2 * settings.get("trials", 12)
        return f"tfkd search --config {run}/run.toml{trust} --trials {more} --out {run}"
    config = f"--config {run}/{'best' if kind == 'search' else 'run'}.toml{trust}"
    # What a search takes: one teacher, of images.
    searched = not isinstance(settings.get("teacher"), list | tuple)
    searched = searched and own.record.task == "classification" and own.row.recipe is None
    if flags is None and kind == "distill" and searched:
        return f"tfkd search {config}{_same_models(settings)} --out {run}-search"
    if flags is None and kind == "recipe":
        return f"tfkd recipes run {own.record.main} {config} --out {run} --resume --ablate"
    flags = flags or f"--seeds {max(SEEDS, 2 * settings.get('seeds', 1))}"
    command = {
        "recipe": f"tfkd recipes run {own.record.main}",
        "compare": "tfkd compare",
        "chain": "tfkd chain",
    }.get(kind, "tfkd distill")
    return f"{command} {config} {flags} --out {run}-next"


def _same_models(settings):
    """Flags with which a search has the models of the run."""
    flags = ""
    for role, (model, option, default) in SMALLER_IN_SEARCH.items():
        given = settings.get(f"{role}_options", {})
        if settings.get(role) == model and option not in given:
            flags += f" --{role}-option {option}={default:g}"
    return flags


def names_code(settings):
    """Whether settings name functions, which a TOML file may only do with --trust."""
    texts = [settings.get(name) for name in ("teacher", "student", "callback")]
    texts = [t for own in texts for t in (own if isinstance(own, list | tuple) else [own])]
    words = [str(text).split(" ")[0] for text in texts if text]
    return any(is_reference(word) and not is_path(word) for word in words)


def _is_of(line, row):
    """Whether a line of the table is that of a row, or the first model that the row deploys."""
    return line == row or line.startswith(f"{row}: ")
