"""What stands on the page of a finished run, as plain values for its template."""

import csv
from functools import cached_property
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict, ValidationError

from tfkd.evaluation.curves import LABEL_LOSSES
from tfkd.evaluation.tables import ABSENT, MEASURES, grid
from tfkd.runs.advice import advice, names_code
from tfkd.runs.directory import EXPORT, EXPORT_RECORD
from tfkd.runs.page import charts, verdict
from tfkd.runs.page.kept import MATRIX_CLASSES
from tfkd.runs.wording import FEW, caption, line_of, shown, temperatures

CLASSES = 40  # lines of a table of classes
TEACHER, STUDENT = "teacher", "student"
COMMANDS = {"distill": "distill", "compare": "compare", "search": "search"}


class Table(NamedTuple):
    """A table: what it shows, headings (the corner first), lines (their names first)."""

    caption: str
    headings: list
    lines: list


class ExportRow(BaseModel):
    """A line of export.json's figures."""

    model_config = ConfigDict(extra="ignore")
    name: str
    bytes: int
    accuracy: float
    agreement: float
    latency_ms: float
    latency_p95_ms: float


class Exports(BaseModel):
    """What the page reads of export.json."""

    model_config = ConfigDict(extra="ignore")
    row: str
    exported: str
    notes: list[str] = []
    figures: list[ExportRow]


class RunPage:
    """A finished run, and what its page says.

    Args:
        directory: `RunDirectory`.
        record: its `Record`.
        kept: its `tfkd.runs.page.kept.Kept`, or None.
        missing: why there is none.
    """

    def __init__(self, directory, record, kept, missing):
        self.directory, self.record, self.kept, self.missing = directory, record, kept, missing
        self.row = record.row()
        self.data = record.data[self.row.data]
        self.names = self.data.label_names
        self.images = self.data.sizes["test"]
        self.main = line_of(record, record.main)
        self.base = line_of(record, self.row.baseline) if self.row.baseline else None
        self.teacher = self._teacher_line()
        self.gain = None
        if self.main in record.gains:
            self.gain = self._gain(self.main)

    def _teacher_line(self):
        lines = [line for line in self.record.figures if line.split(" ")[0] == TEACHER]
        own = self.record.teachers[self.row.teacher].name if self.row.teacher is not None else None
        wanted = (f"{TEACHER} {own} ({self.data.name})", f"{TEACHER} {own}", TEACHER)
        return next((line for line in wanted if line in lines), None)

    def _gain(self, line):
        row = next(row for row in self.record.rows if line_of(self.record, row.name) == line)
        images = self.record.data[row.data].sizes["test"]
        return verdict.judged(self.record.gains[line]["accuracy"], images)

    @property
    def heading(self):
        names = ", ".join(own.name for own in self.record.data)
        what = self.record.main if self.record.kind == "recipe" else self.record.kind
        return f"{what} on {names}"

    @property
    def headline(self):
        if self.gain is None:
            return f"{self.record.main} was trained and measured."
        return verdict.headline(self.gain, self.record.main, self.row.baseline)

    @property
    def verdict(self):
        """Sentences."""
        said = []
        if self.gain is not None:
            said.append(
                verdict.sentence(self.gain, self.record.main, self.row.baseline, self.images)
            )
        said.append(verdict.cost(self.record, self.main, self.base, self.teacher))
        return [own for own in said if own]

    @property
    def caption(self):
        return caption(self.record) + "."

    @cached_property
    def figures(self):
        headings, lines = grid(shown(self.record))
        lines = [[cell.strip() for cell in line] for line in lines]
        return Table(
            "Figures on the test split" + (", mean ± standard deviation" * self._several),
            [headings[0] or "figure", *(own.strip() for own in headings[1:])],
            lines,
        )

    @property
    def _several(self):
        return len(self.record.seeds) > 1

    @property
    def gains(self):
        """The table of paired differences."""
        baselines = {row.name: row.baseline for row in self.record.rows}
        lines = []
        for name, baseline in baselines.items():
            line = line_of(self.record, name)
            if baseline is None or line not in self.record.gains:
                continue
            gain = self._gain(line)
            error = ABSENT if gain.error is None else f"{100 * gain.error:.2f}"
            between = ABSENT if gain.error is None else verdict.interval(gain)
            seeds = ", ".join(verdict.points(own) for own in gain.values)
            own = [f"{line} minus {baseline}", verdict.points(gain.mean), error, between]
            lines.append([*own, gain.read, seeds])
        headings = ["difference", "mean", "standard error", "95 % interval", "reading"]
        return Table(
            "Differences of test accuracy in points, paired by seed",
            [*headings, f"each seed ({', '.join(map(str, self.record.seeds))})"],
            lines,
        )

    @property
    def temperatures(self):
        return temperatures(self.record)

    @cached_property
    def curves(self):
        """Pictures of how teacher and students learned."""
        try:
            histories = _histories(self.directory / "history.csv")
        except (OSError, ValueError, KeyError):
            return []
        rows = [None, self.row.baseline, self.row.name]
        if self.row.teacher is not None:
            rows[0] = self.record.teachers[self.row.teacher].file.removesuffix(".keras")
            histories.setdefault(rows[0], self._as_given(rows[0], histories))
        if self.record.kind != "compare":
            rows += [row.name for row in self.record.rows if row.name not in rows]
        chosen = {
            row: (style, histories[row])
            for style, row in enumerate(rows[: charts.STYLES])
            if row in histories
        }
        pictures = (
            ("Validation accuracy", "validation accuracy (%)", ("val_accuracy",), 100),
            ("Training loss on the labels", "training loss (nats)", LABEL_LOSSES, 1),
        )
        drawn = []
        for title, label, keys, factor in pictures:
            lines = {
                name: (style, [next((s[k] for k in keys if k in s), []) for s in seeds])
                for name, (style, seeds) in chosen.items()
            }
            lines = {name: own for name, own in lines.items() if any(own[1])}
            drawn.append(charts.curves(f"{title}, epoch by epoch", label, lines, factor))
        return [own for own in drawn if own is not None]

    def _as_given(self, teacher, histories):
        """The history of a teacher that was not trained here: its accuracy in every epoch."""
        longest = max(
            (len(own) for seeds in histories.values() for s in seeds for own in s.values()),
            default=0,
        )
        training = self.record.trainings.get(teacher)
        return [{"val_accuracy": [training.accuracy] * longest}] if training else []

    @property
    def models(self):
        """(title, `Answers`) of the models whose answers were kept."""
        kept = self.kept
        found = [("teacher", kept.teacher), (self.row.name, kept.student)]
        return found + [(self.row.baseline, kept.alone)] * (kept.alone is not None)

    @property
    def classes(self):
        """(lines of the classes, the largest losses first; how many were left out)."""
        kept, lines = self.kept, []
        for n, images in enumerate(kept.images):
            if not images:
                continue
            taught, own = (answers.right[n] / images for answers in (kept.teacher, kept.student))
            alone = kept.alone.right[n] / images if kept.alone is not None else None
            lines.append((own - taught, n, images, taught, own, alone))
        lines.sort(key=lambda line: line[:2])
        return lines[:CLASSES], max(0, len(lines) - CLASSES)

    @cached_property
    def matrices(self):
        """(title, lines of (count, share of the class) by class and answer) for teacher and
        student; none where there are too many classes."""
        size, found = len(self.names), []
        if size > MATRIX_CLASSES:
            return []
        for title, answers in self.models[:2]:
            counts = [[0] * size for _ in range(size)]
            for n, right in enumerate(answers.right):
                counts[n][n] = right
            for label, answer, count in answers.wrong:
                counts[label][answer] = count
            lines = [
                [(count, count / max(1, self.kept.images[n])) for count in line]
                for n, line in enumerate(counts)
            ]
            found.append((title, lines))
        return found

    @property
    def confused(self):
        """Tables of the most confused pairs of classes, of teacher and student."""
        return [
            Table(
                f"The classes that the {title} confuses most",
                ["class", "answer", "images", "of the class"],
                [
                    [
                        *(self.names[label], self.names[answer], f"{count:,}"),
                        f"{self.kept.images[label]:,}",
                    ]
                    for label, answer, count in answers.wrong[:20]
                ],
            )
            for title, answers in self.models[:2]
        ]

    @property
    def reliability(self):
        """The diagrams of teacher, student, and student at its temperature."""
        kept = self.kept
        models = [
            ("teacher", 0, kept.teacher.bins),
            (self.row.name, 2, kept.student.bins),
            (f"{self.row.name}, calibrated", 3, kept.student.calibrated),
        ]
        return charts.reliability("Share of right answers over the confidence they have", models)

    @property
    def calibration(self):
        lines = [
            [
                title,
                f"{100 * answers.bins.error:.1f}",
                f"{answers.temperature:.2f}",
                f"{100 * answers.calibrated.error:.1f}",
            ]
            for title, answers in self.models
        ]
        headings = ["model", "calibration error (%)", "temperature", "calibrated (%)"]
        return Table(f"Calibration of seed {self.kept.seed} on the test split", headings, lines)

    @cached_property
    def exports(self):
        """`Exports` of the run; None where there are none that can be read."""
        try:
            text = (self.directory / EXPORT / EXPORT_RECORD).read_text(encoding="utf-8")
            return Exports.model_validate_json(text)
        except (OSError, ValidationError):
            return None

    @property
    def exported(self):
        """The table of exports."""
        lines = [
            [
                *(own.name, f"{own.bytes / 1e3:,.1f}", f"{100 * own.accuracy:.2f}"),
                *(f"{100 * own.agreement:.2f}", f"{own.latency_ms:.3f}"),
                f"{own.latency_p95_ms:.3f}",
            ]
            for own in self.exports.figures
        ]
        headings = ["format", "size (kB)", "accuracy (%)", "agreement with student (%)"]
        headings += ["latency of one image (ms)", "95 % below (ms)"]
        return Table(
            f"Exports of {self.exports.row}, measured on one thread in turns", headings, lines
        )

    @property
    def cost(self):
        """The table of what models cost, one line a model."""
        names = ("accuracy", "parameters", "multiply_adds", "file_bytes", "latency_ms", "seconds")
        figures = {
            line: [{key: own[key] for key in names if key in own} for own in seeds]
            for line, seeds in self.record.figures.items()
            if line in shown(self.record)
        }
        headings, lines = grid(figures, models_down=True)
        lines = [[cell.strip() for cell in line] for line in lines]
        return Table("Cost and accuracy", [own.strip() for own in headings], lines)

    @property
    def cost_pictures(self):
        """Accuracy over multiply-adds, and over the size of files where exports are there."""
        means = self.record.summary
        lines = [line for line in (self.teacher, self.base, self.main) if line]
        if len(self.record.figures) <= FEW + 1:
            lines += [line for line in means if line not in lines]
        lines = lines[: charts.STYLES]
        places = [
            (line, style, means[line]["multiply_adds"]["mean"], means[line]["accuracy"]["mean"])
            for style, line in enumerate(lines)
            if means[line]["multiply_adds"]["mean"] > 0
        ]
        upright = {"label": "test accuracy (%)", "factor": 100}
        across = {"label": MEASURES["multiply_adds"].heading, "log": True, "factor": 1e-6}
        pictures = [
            charts.scatter("Test accuracy over multiply-adds of an image", across, upright, places)
        ]
        if self.exports is not None:
            places = [
                (own.name, style, own.bytes, own.accuracy)
                for style, own in enumerate(self.exports.figures)
            ]
            across = {"label": "file size (kB)", "log": True, "factor": 1e-3}
            title = "Test accuracy over the size of the file, exports included"
            pictures.append(charts.scatter(title, across, upright, places))
        return [own for own in pictures if own is not None]

    @property
    def settings(self):
        """(name, value) of every setting, and (row, settings that differ) of the rows."""
        own = [(name, text_of(value)) for name, value in self.record.settings.items()]
        rows = [
            (row.name, "; ".join(f"{n} = {text_of(v)}" for n, v in row.settings.items()))
            for row in self.record.rows
            if row.settings
        ]
        return own, rows

    @property
    def versions(self):
        record = self.record
        found = [("tfkd", record.tfkd), *record.versions.items(), ("finished", record.finished)]
        found += [(name, text_of(value)) for name, value in record.machine.items()]
        found += [(f"data {own.name}", own.fingerprint) for own in record.data]
        teachers = ((f"teacher {own.name}", own.fingerprint) for own in record.teachers)
        return found + [own for own in teachers if own[1]]

    @property
    def notes(self):
        record = self.record
        failed = [f"The export failed: {record.export_failed}"] if record.export_failed else []
        return [*failed, *record.findings, *record.notes, *filter(None, [advice(record)])]

    @property
    def commands(self):
        """What reruns the run, from its directory, and the command as it was given."""
        kind = self.record.kind
        command = COMMANDS.get(kind) or f"recipes run {self.record.main}"
        trust = " --trust" if names_code(self.record.settings) else ""
        return f"tfkd {command} --config run.toml{trust} --out again", self.record.command


def _histories(path):
    """{row: list of {metric: list of values, None where there is none}, one a seed}."""
    histories = {}
    with open(path, newline="", encoding="utf-8") as file:
        for line in csv.DictReader(file):
            seed = histories.setdefault(line["row"], {}).setdefault(line["seed"], {})
            for name, value in line.items():
                if name not in ("row", "seed", "epoch", "kept") and value:
                    seed.setdefault(name, []).append(float(value))
    return {row: list(seeds.values()) for row, seeds in histories.items()}


def text_of(value):
    """A setting in words."""
    if isinstance(value, dict):
        return ", ".join(f"{name}={own}" for name, own in value.items()) or ABSENT
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value)) or ABSENT
    return str(value)
