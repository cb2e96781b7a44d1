"""What stands on the page of a finished run, as plain values for its template."""

import csv
from functools import cached_property

from tfkd import tasks
from tfkd.evaluation.curves import LABEL_LOSSES
from tfkd.evaluation.tables import ABSENT
from tfkd.runs.advice import advice, names_code
from tfkd.runs.page import charts, verdict
from tfkd.runs.page.costs import Costs
from tfkd.runs.page.knowledge import Knowledge
from tfkd.runs.page.tables import Table, of_figures, text_of
from tfkd.runs.wording import caption, line_of, measures, minus, shown, temperatures


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
        self.data, self.task = record.data[self.row.data], tasks.get(record.task)
        self.names = self.data.label_names
        self.images = self.data.sizes["test"]
        self.main = line_of(record, record.main)
        self.base = line_of(record, self.row.baseline) if self.row.baseline else None
        self.teacher = self._teacher_line()
        self.gain = self._gain(self.main) if self.main in record.gains else None
        self.knowledge = Knowledge(record, kept) if kept is not None else None
        self.cost = Costs(directory, record, self._drawn()) if self.task.classifies else None

    def _teacher_line(self):
        """The line of the figures of what taught the student; None where nothing did."""
        if self.row.taught_by is not None:
            return line_of(self.record, self.row.taught_by)
        line = self.record.teacher_lines().get(self.row.teacher)
        return line if line in self.record.figures else None

    def _drawn(self):
        """What the picture of costs shows: (name in the legend, style, line)."""
        lines = list(dict.fromkeys(filter(None, (self.teacher, self.base, self.main))))
        lines += [line for line in self.record.figures if line not in lines]
        return [(line, style, line) for style, line in enumerate(lines[: charts.STYLES])]

    def _gain(self, line):
        row = next(row for row in self.record.rows if line_of(self.record, row.name) == line)
        images = self.record.data[row.data].sizes["test"]
        return verdict.judged(self.record.gains[line][self.task.judged], images, self.task)

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
            what = minus(self.record.main, self.row.baseline, self.task)
            said.append(verdict.sentence(self.gain, what, self.images, self.task))
        said.append(verdict.cost(self.record, self.main, self.base, self.teacher, self.task))
        return [own for own in said if own]

    @property
    def caption(self):
        return caption(self.record) + "."

    @cached_property
    def figures(self):
        several = len(self.record.seeds) > 1
        title = "Figures on the test split" + ", mean ± standard deviation" * several
        return of_figures(title, shown(self.record), measures=measures(self.task))

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
            error = ABSENT if gain.error is None else f"{gain.factor * gain.error:.2f}"
            between = ABSENT if gain.error is None else gain.interval
            seeds = ", ".join(map(gain.points, gain.values))
            compared = self.record.kind == "compare"
            label = line if compared else minus(line, baseline, self.task)
            own = [label, gain.points(gain.mean), error, between]
            lines.append([*own, gain.read, seeds])
        headings = ["difference", "mean", "standard error", "95 % interval", "reading"]
        return Table(
            f"Differences on the test split, in {self.task.unit}"
            + ", from the same student alone" * (self.record.kind == "compare")
            + ", paired by seed",
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
        if self.row.taught_by is not None:
            rows[0] = self.row.taught_by
        elif self.row.teacher is not None:
            rows[0] = self.record.teachers[self.row.teacher].file.removesuffix(".keras")
            histories.setdefault(rows[0], self._as_given(rows[0], histories))
        if self.record.kind != "compare":
            rows += [row.name for row in self.record.rows if row.name not in rows]
        chosen = {
            row: (style, histories[row])
            for style, row in enumerate(rows[: charts.STYLES])
            if row in histories
        }
        judge = self.task.figures[self.task.judged]
        name = judge.heading.partition(" (")[0]
        keys, label = (f"val_{self.task.judged}",), f"validation {judge.heading}"
        pictures = (
            (f"Validation {name}", label, keys, judge.factor),
            (
                f"Training loss on the {self.task.learns_from}",
                "training loss (nats)",
                LABEL_LOSSES,
                1,
            ),
        )
        drawn = []
        for title, label, keys, factor in pictures:
            lines = {
                name: (style, [next((s[k] for k in keys if k in s), []) for s in seeds])
                for name, (style, seeds) in chosen.items()
            }
            drawn.append(charts.curves(f"{title}, epoch by epoch", label, lines, factor))
        return [own for own in drawn if own is not None]

    def _as_given(self, teacher, histories):
        """The history of a teacher that was not trained here: its figure in every epoch."""
        longest = max(
            (len(own) for seeds in histories.values() for s in seeds for own in s.values()),
            default=0,
        )
        training = self.record.trainings.get(teacher)
        judged = self.task.judged
        return [{f"val_{judged}": [training.figures[judged]] * longest}] if training else []

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
        command = self.record.command.partition(" --")[0]
        more = " --trust" * names_code(self.record.settings)
        more += " --ablate" * self.record.command.endswith(" --ablate")
        return f"{command} --config run.toml{more} --out again", self.record.command


def _histories(path):
    """{row: list of {metric: one value an epoch}, one a seed}."""
    histories = {}
    with open(path, newline="", encoding="utf-8") as file:
        for line in csv.DictReader(file):
            seed = histories.setdefault(line["row"], {}).setdefault(line["seed"], {})
            for name, value in line.items():
                if name not in ("row", "seed", "epoch", "kept") and value:
                    seed.setdefault(name, []).append(float(value))
    return {row: list(seeds.values()) for row, seeds in histories.items()}
