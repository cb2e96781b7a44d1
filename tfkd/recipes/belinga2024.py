"""Belinga et al., "Knowledge Distillation in Image Classification: The Impact of Datasets",
Computers 13(8):184 (2024).

From the paper (its abstract): what distillation gains depends on the data; several data sets,
their size, domain and bias are varied.

Reconstruction: its data sets, networks and numbers are not known. The protocol is ours: one
teacher for a data set, trained (or given) once on all of its images; a student alone and distilled
on 5, 10, 25, 50 and 100 % of them, the smaller shares being parts of the larger ones, each class in
proportion. Below the table stand the gain, distilled minus alone, and the recovery, what the gain
is of the teacher's lead:

    recovery = (distilled - alone) / (teacher - alone)

both of mean accuracies over seeds, the recovery only where the teacher is ahead of the student
alone. A share of the images is trained for as many epochs as all of them, that is for fewer steps.
`gains.png` draws the gain over the number of images. `--ablate` distils at one temperature, 4, as
well. Bias of a data set is not varied here.
"""

import os
import statistics

import tfkd
from tfkd.recipes.base import Recipe
from tfkd.settings.base import Count, Numbers, Texts
from tfkd.settings.compare import CompareSettings


class Belinga2024(CompareSettings):
    """Shares as below; data sets, networks and budget are ours."""

    data: Texts = ("digits", "rod_pump_cards")
    """Data sets: "digits" or "rod_pump_cards" (built in), TFDS names, or folders of images
    (repeatable)."""
    fraction: Numbers = (0.05, 0.1, 0.25, 0.5, 1.0)
    """Shares of the training images, of above 0 to 1 (repeatable)."""
    student: Texts = ("modified_alexnet width=0.25",)
    """Students, "NAME OPTION=VALUE" (repeatable)."""
    batch_size: Count = 16
    """Examples a batch; of large ones a small share of the images would make hardly a step."""
    epochs: Count = 20
    """Epochs of each student."""
    teacher_epochs: Count = 15
    """Epochs of a teacher that is trained."""

    def default_out(self):
        return os.path.join("saved_models", "belinga2024")


def ablations(settings):
    return {"T = 4": settings.replace(setting=("temperature=4",))}


def study(finished):
    """Gain and recovery of every distilled row, and their picture."""
    record = finished.record
    teachers = record.teacher_lines()
    places = {row.name: row for row in record.rows}
    figures, lines = {}, {}
    for row in finished.rows:
        if row.baseline is None:
            continue
        place = places[row.name]
        data = record.data[place.data]
        images = round(row.fraction * data.sizes["train"])
        teacher = _mean(record, teachers[place.teacher])
        alone, distilled = _mean(record, row.baseline), _mean(record, row.name)
        gain = record.gains[row.name]
        own = {"images": images, "teacher": teacher, "alone": alone, "distilled": distilled}
        own |= {"gain": gain["mean"], "gain_std": gain.get("std")}
        own["recovery"] = gain["mean"] / (teacher - alone) if teacher > alone else None
        figures[row.name] = {name: value for name, value in own.items() if value is not None}
        # One line a data set, student and way: what its rows' names have beside the share.
        words = [word for word in row.name.split(", ") if word != f"{100 * row.fraction:g} %"]
        lines.setdefault(", ".join(words), []).append((images, gain["mean"], gain.get("std")))
    tfkd.evaluation.plot_gains(lines, finished.directory / "gains.png")
    return figures, [_table(figures)]


def _table(figures):
    """A Markdown table, accuracies in percent."""
    names = ("teacher", "alone", "distilled")
    lines = [
        "| | images | teacher (%) | alone (%) | distilled (%) | gain (points) | recovery (%) |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for row, own in figures.items():
        gain = f"{100 * own['gain']:+.1f}"
        gain += f" ± {100 * own['gain_std']:.1f}" if "gain_std" in own else ""
        recovery = f"{100 * own['recovery']:.0f}" if "recovery" in own else "–"
        cells = [row, f"{own['images']:,}", *(f"{100 * own[n]:.1f}" for n in names), gain, recovery]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _mean(record, line):
    return statistics.fmean(own["accuracy"] for own in record.figures[line])


RECIPE = Recipe(
    name="belinga2024",
    paper="Belinga et al., Computers 13(8):184 (2024)",
    task="how much distillation gains on which and how much data",
    reconstruction="Everything but the question: data sets, shares, networks and budget are ours.",
    settings=Belinga2024,
    build=None,
    ablations=ablations,
    study=study,
)
