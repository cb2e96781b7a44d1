"""What a run's figures say in plain words: the gain, how sure it is, and what it costs."""

import math
import statistics
from typing import NamedTuple

from scipy.special import stdtrit

CONFIDENCE = 0.95


class Gain(NamedTuple):
    """Differences of a figure, paired by seed, and what they tell.

    Attributes:
        values: one a seed, positive where it is better.
        mean: of them.
        error: standard error of the mean; None for one seed.
        low, high: interval that holds the mean with 95 % confidence; None for one seed.
        factor: to the unit in which they are told.
    """

    values: list
    mean: float
    error: float | None
    low: float | None
    high: float | None
    factor: float = 100

    def points(self, value):
        """A difference in its unit, with its sign."""
        return f"{self.factor * value:+.2f}"

    @property
    def interval(self):
        """The interval in words."""
        return f"{self.points(self.low)} to {self.points(self.high)}"

    @property
    def reading(self):
        """ "better", "worse" or "open"; "one seed" where no spread is known."""
        if self.error is None:
            return "one seed"
        return "better" if self.low > 0 else "worse" if self.high < 0 else "open"

    @property
    def read(self):
        """The reading in words."""
        return {
            "better": "better, beyond chance",
            "worse": "worse, beyond chance",
            "open": "not beyond chance",
            "one seed": "cannot be told from one seed",
        }[self.reading]


def judged(values, images, task):
    """The `Gain` of paired differences.

    The interval is that of Student's t over the seeds. Differences of accuracies are multiples of
    one test image, so that a few equal ones do not mean that there is no spread: a standard
    deviation below one image is taken for one image.

    Args:
        values: differences, one a seed.
        images: test images that they were measured on.
        task: `tfkd.tasks.base.Task`.
    """
    factor, least = task.figures[task.judged].factor, 1 / images if task.classifies else 0.0
    values, count = list(values), len(values)
    mean = statistics.fmean(values)
    if count == 1:
        return Gain(values, mean, None, None, None, factor)
    error = max(statistics.stdev(values), least) / math.sqrt(count)
    half = float(stdtrit(count - 1, (1 + CONFIDENCE) / 2)) * error
    return Gain(values, mean, error, mean - half, mean + half, factor)


def sentence(gain, what, images, task):
    """One or two sentences about a gain.

    Args:
        gain: `Gain`.
        what: the difference in words, such as "distilled minus alone".
        images: how many test images, or whatever the task's examples are.
        task: `tfkd.tasks.base.Task`.
    """
    amount = f"{gain.points(gain.mean)} {task.unit} on {images:,} test {task.things}"
    if gain.error is None:
        return (
            f"{what}: {amount}, of one seed. Whether this is more than chance cannot "
            "be told from one seed: train with several (--seeds)."
        )
    count = f"{len(gain.values)} seeds"
    spread = (
        f"mean over {count}, standard error {gain.factor * gain.error:.2f}, "
        f"95 % interval {gain.interval}"
    )
    verdict = {
        "better": "The gain is beyond what chance between seeds explains.",
        "worse": "It is a loss, and beyond what chance between seeds explains.",
        "open": "That is not beyond chance: the interval holds 0.",
    }[gain.reading]
    return f"{what}: {amount} ({spread}). {verdict}"


def headline(gain, what, other):
    """The verdict in a few words."""
    return {
        "better": f"{what} is better than {other}, beyond chance.",
        "worse": f"{what} is worse than {other}, beyond chance.",
        "open": f"Whether {what} is better than {other} cannot be told from these seeds.",
        "one seed": f"Whether {what} is better than {other} cannot be told from one seed.",
    }[gain.reading]


def cost(record, line, baseline, teacher, task):
    """Sentences about what the student costs beside its teacher, and its training beside that of
    the student alone.

    Args:
        record: `Record`.
        line, baseline, teacher: lines of its figures; None where there is none.
        task: `tfkd.tasks.base.Task`.
    """
    own, said = _means(record, line), []
    if teacher is not None:
        other = _means(record, teacher)
        shares = {
            name: f"{own[name] / other[name]:.1%}".replace("%", "\u00a0%")
            for name in ("parameters", "multiply_adds")
            if name in own and name in other
        }
        has = (
            f"The student has {own['parameters']:,.0f} parameters, {shares['parameters']} of the "
            "teacher's"
        )
        takes = ""
        if "multiply_adds" in shares:
            takes = f", and takes {shares['multiply_adds']} of its multiply-adds"
        if task.classifies:
            said.append(
                f"{has}{takes}; it is right on {100 * own['accuracy']:.1f} % of the test "
                f"{task.things}, the teacher on "
                f"{100 * other['accuracy']:.1f} %."
            )
        else:
            said.append(f"{has}; {task.told(own)}, the teacher's {task.told(other)}.")
    if baseline is not None and own.get("seconds"):
        alone = _means(record, baseline).get("seconds")
        if alone:
            ratio = own["seconds"] / alone
            said.append(
                f"Its training took {own['seconds']:.0f} s a seed, {ratio:.2f} times as long as "
                f"{baseline}, without the teacher's."
            )
    return " ".join(said)


def _means(record, line):
    return {name: value["mean"] for name, value in record.summary[line].items()}
