"""What models cost and how good they are, exports included."""

from pydantic import BaseModel, ConfigDict

from tfkd import tasks
from tfkd.evaluation.tables import MEASURES
from tfkd.runs.directory import EXPORT, EXPORT_RECORD
from tfkd.runs.page import charts
from tfkd.runs.page.tables import Table, of_figures
from tfkd.runs.wording import FEW, measures

COSTS = ("accuracy", "parameters", "multiply_adds", "file_bytes", "latency_ms", "seconds")


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


def _exports(path):
    """(`Exports` in a file, ""), or (None, why there is none)."""
    try:
        return Exports.model_validate_json(path.read_text(encoding="utf-8")), ""
    except FileNotFoundError:
        return None, "Nothing was exported yet."
    except (OSError, ValueError):
        return None, f"{EXPORT}/{EXPORT_RECORD} is damaged: make the export again."


class Costs:
    """The costs of a run's models.

    Args:
        directory: `RunDirectory`.
        record: its `Record`.
        drawn: list of (name in the legend or "", style, line of its figures).
    """

    def __init__(self, directory, record, drawn):
        self.record, self.drawn, self.task = record, drawn, tasks.get(record.task)
        self.exports, self.without = _exports(directory / EXPORT / EXPORT_RECORD)

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
        headings += [f"latency of one {self.task.thing} (ms)", "95 % below (ms)"]
        return Table(
            f"Exports of {self.exports.row}, measured on one thread in turns", headings, lines
        )

    @property
    def table(self):
        """The table of what models cost, one line a model; None where they are many, for then the
        table of results is such a one."""
        if len(self.record.figures) > FEW:
            return None
        figures = {
            line: [{key: own[key] for key in COSTS if key in own} for own in seeds]
            for line, seeds in self.record.figures.items()
        }
        return of_figures("Cost and accuracy", figures, True, measures(self.task))

    @property
    def pictures(self):
        """Accuracy over multiply-adds, and over the size of files where exports are there."""
        means = self.record.summary
        places = [
            (name, style, own["multiply_adds"]["mean"], own["accuracy"]["mean"], line)
            for name, style, line in self.drawn
            if (own := means[line]).get("multiply_adds", {"mean": 0})["mean"] > 0
        ]
        upright = {"label": "test accuracy (%)", "factor": 100}
        across = {"label": MEASURES["multiply_adds"].heading, "log": True, "factor": 1e-6}
        pictures = [charts.scatter("Test accuracy over multiply-adds", across, upright, places)]
        if self.exports is not None:
            places = [
                (own.name, style, own.bytes, own.accuracy, own.name)
                for style, own in enumerate(self.exports.figures)
            ]
            across = {"label": "file size (kB)", "log": True, "factor": 1e-3}
            title = "Test accuracy over the size of the file, exports included"
            pictures.append(charts.scatter(title, across, upright, places))
        return [own for own in pictures if own is not None]
