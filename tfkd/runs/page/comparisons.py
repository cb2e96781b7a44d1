"""What the page of a comparison says more: one matrix of all gains."""

from typing import NamedTuple

from tfkd.runs.page.sections import RunPage
from tfkd.runs.page.verdict import Gain
from tfkd.runs.rows import ALONE
from tfkd.runs.wording import line_of


class Cell(NamedTuple):
    """A gain, and the accuracy that it leads to."""

    gain: Gain
    accuracy: float


class ComparePage(RunPage):
    """A finished comparison, and what its page says."""

    def _drawn(self):
        """Every student on the data set of the one that was kept, in a style for each way."""
        rows = [row for row in self.record.rows if row.data == self.row.data]
        styles, drawn = {ALONE: 1}, [("teacher", 0, self.teacher)] * (self.teacher is not None)
        for row in rows:
            way = ALONE if row.baseline is None else _place_and_way(row)[1]
            name = way if way not in {own[0] for own in drawn} else ""
            style = styles.setdefault(way, len(styles) + 1)
            drawn.append((name, style, line_of(self.record, row.name)))
        return drawn

    @property
    def matrix(self):
        """(where, list of (way, list of `Cell` or None)): a column for each student, data set and
        fraction, a line for each way of distilling."""
        where, ways = {}, {}
        for row in self.record.rows:
            line = line_of(self.record, row.name)
            if row.baseline is None or line not in self.record.gains:
                continue
            place, way = _place_and_way(row)
            where[place] = None
            accuracy = self.record.summary[line]["accuracy"]["mean"]
            ways.setdefault(way, {})[place] = Cell(self._gain(line), accuracy)
        lines = [(way, [cells.get(place) for place in where]) for way, cells in ways.items()]
        return [place or "the student" for place in where], lines

    @property
    def headline(self):
        gains = [cell.gain.reading for _, cells in self.matrix[1] for cell in cells if cell]
        if len(self.record.seeds) == 1:
            return (
                f"{len(gains)} gains over the same student alone, of one seed each: any of them "
                "may be chance."
            )
        counts = {reading: gains.count(reading) for reading in ("better", "worse")}
        return (
            f"Of {len(gains)} comparisons with the same student alone {counts['better']} are "
            f"better and {counts['worse']} worse beyond chance."
        )

    @property
    def verdict(self):
        chosen = f"The student that the run kept is {self.record.main}, chosen on validation."
        return [chosen, *super().verdict]


def _place_and_way(row):
    """("data, fraction, student" as far as a comparison tells them apart, way of distilling)."""
    place = row.baseline.removesuffix(ALONE).removesuffix(", ")
    return place, row.name.removeprefix(f"{place}, ")
