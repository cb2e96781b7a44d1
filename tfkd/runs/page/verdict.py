"""What a run's figures say in plain words: the gain, how sure it is, and what it costs."""

import math
import statistics
from typing import NamedTuple

from scipy.special import stdtrit

CONFIDENCE = 0.95


class Gain(NamedTuple):
    """Differences of accuracy, paired by seed, and what they tell.

    Attributes:
        values: one a seed, shares from -1 to 1.
        mean: of them.
        error: standard error of the mean; None for one seed.
        low, high: interval that holds the mean with 95 % confidence; None for one seed.
    """

    values: list
    mean: float
    error: float | None
    low: float | None
    high: float | None

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


def judged(values, images):
    """The `Gain` of paired differences.

    The interval is that of Student's t over the seeds. The differences are multiples of one test
    image, so that a few equal ones do not mean that there is no spread: a standard deviation below
    one image is taken for one image.

    Args:
        values: differences, one a seed.
        images: test images that they were measured on.
    """
    values, count = list(values), len(values)
    mean = statistics.fmean(values)
    if count == 1:
        return Gain(values, mean, None, None, None)
    error = max(statistics.stdev(values), 1 / images) / math.sqrt(count)
    half = float(stdtrit(count - 1, (1 + CONFIDENCE) / 2)) * error
    return Gain(values, mean, error, mean - half, mean + half)


def points(share, decimals=2):
    """A difference of shares in points, with its sign."""
    return f"{100 * share:+.{decimals}f}"


def interval(gain):
    """The interval in words."""
    return f"{points(gain.low)} to {points(gain.high)}"


def sentence(gain, what, other, images):
    """One or two sentences about a gain.

    Args:
        gain: `Gain`.
        what, other: what was compared, such as "distilled" and "alone".
        images: test images.
    """
    amount = f"{points(gain.mean)} points of accuracy on {images:,} test images"
    if gain.error is None:
        return (
            f"{what} minus {other}: {amount}, of one seed. Whether this is more than chance cannot "
            "be told from one seed: train with several (--seeds)."
        )
    count = f"{len(gain.values)} seeds"
    spread = (
        f"mean over {count}, standard error {100 * gain.error:.2f}, 95 % interval {interval(gain)}"
    )
    verdict = {
        "better": "The gain is beyond what chance between seeds explains.",
        "worse": "It is a loss, and beyond what chance between seeds explains.",
        "open": "That is not beyond chance: the interval holds 0.",
    }[gain.reading]
    return f"{what} minus {other}: {amount} ({spread}). {verdict}"


def headline(gain, what, other):
    """The verdict in a few words."""
    return {
        "better": f"{what} is better than {other}, beyond chance.",
        "worse": f"{what} is worse than {other}, beyond chance.",
        "open": f"Whether {what} is better than {other} cannot be told from these seeds.",
        "one seed": f"Whether {what} is better than {other} cannot be told from one seed.",
    }[gain.reading]


def cost(record, line, baseline, teacher):
    """Sentences about what the student costs beside its teacher, and its training beside that of
    the student alone.

    Args:
        record: `Record`.
        line, baseline, teacher: lines of its figures; None where there is none.
    """
    own, said = _means(record, line), []
    if teacher is not None:
        other = _means(record, teacher)
        parameters, operations = (
            f"{own[name] / other[name]:.1%}".replace("%", "\u00a0%")
            for name in ("parameters", "multiply_adds")
        )
        said.append(
            f"The student has {own['parameters']:,.0f} parameters, {parameters} of the teacher's, "
            f"and takes {operations} of its multiply-adds; it is right on "
            f"{100 * own['accuracy']:.1f} % of the test images, the teacher on "
            f"{100 * other['accuracy']:.1f} %."
        )
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
