"""The page of a run that is not finished: what is there so far."""

import csv
from functools import cached_property

from tfkd.runs.directory import SEEDS, SETTINGS
from tfkd.runs.page import charts
from tfkd.runs.page.tables import Table, text_of
from tfkd.runs.record import Outcome
from tfkd.runs.wording import without_paths
from tfkd.settings import SettingsError
from tfkd.settings.base import read_toml

LISTED = 200  # trainings, or trials


class UnfinishedPage:
    """What an unfinished run has come to.

    Args:
        directory: `RunDirectory`.
    """

    def __init__(self, directory):
        self.directory = directory
        paths = [*sorted(directory.path.glob("teacher*.json"))]
        paths += sorted((directory / SEEDS).glob("*/*.json"))
        read = {path: Outcome.read(path) for path in paths}
        self.outcomes = {self._part(path): own for path, own in read.items() if own is not None}
        try:
            self.known = read_toml(directory / SETTINGS)
        except (OSError, SettingsError, ValueError):
            self.known = {}

    def _part(self, path):
        part = path.relative_to(self.directory.path).with_suffix("").as_posix()
        return part.removeprefix(f"{SEEDS}/")

    @property
    def goes_on(self):
        """How the run is continued."""
        how = "" if "trials" in self.known else " with --resume"
        return f"The command that began it goes on{how}."

    @property
    def heading(self):
        data = self.known.get("data", "")
        names = [data] if isinstance(data, str) else data
        return " on ".join(filter(None, ["run", ", ".join(n.rpartition("/")[2] for n in names)]))

    @property
    def trainings(self):
        """The table of what is trained, and how many lines were left out."""
        lines = [
            [
                *(part, f"{100 * own.training.accuracy:.2f}", str(own.training.epoch)),
                f"{own.training.seconds:.0f}",
            ]
            for part, own in self.outcomes.items()
        ]
        headings = ["training", "validation accuracy (%)", "epoch kept", "seconds"]
        table = Table("Trainings that are done", headings, lines[:LISTED])
        return table, max(0, len(lines) - LISTED)

    @cached_property
    def trials(self):
        """The table of a search's trials so far, and how many were left out; or None."""
        try:
            with open(self.directory / "results.csv", newline="", encoding="utf-8") as file:
                headings, *lines = csv.reader(file)
        except (OSError, ValueError):
            return None
        table = Table("Trials so far", headings, lines[:LISTED])
        return table, max(0, len(lines) - LISTED)

    @property
    def curves(self):
        rows = {}
        for part, own in self.outcomes.items():
            rows.setdefault(part.rpartition("/")[2], []).append(own.history.get("val_accuracy", []))
        lines = dict(list(rows.items())[: charts.STYLES])
        lines = {row: (style, seeds) for style, (row, seeds) in enumerate(lines.items())}
        drawn = charts.curves(
            "Validation accuracy so far, epoch by epoch", "validation accuracy (%)", lines, 100
        )
        return [drawn] if drawn else []

    @property
    def settings(self):
        """(name, value) of every setting."""
        return [(name, text_of(own)) for name, own in without_paths(self.known).items()]
