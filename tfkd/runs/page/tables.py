"""Tables of the page as plain values, and settings in words."""

from typing import NamedTuple

from tfkd.evaluation.tables import ABSENT, MEASURES, grid


class Table(NamedTuple):
    """A table: what it shows, headings (the corner first), lines (their names first)."""

    caption: str
    headings: list
    lines: list


def of_figures(title, figures, models_down=False, measures=MEASURES):
    """The `Table` of some lines of a record's figures.

    Args:
        title: its caption.
        figures, models_down, measures: as for `tfkd.evaluation.markdown`.
    """
    headings, lines = grid(figures, models_down, measures)
    headings = [headings[0] or "figure", *(own.strip() for own in headings[1:])]
    return Table(title, headings, [[cell.strip() for cell in line] for line in lines])


def text_of(value):
    """A setting in words."""
    if isinstance(value, dict):
        return ", ".join(f"{name}={own}" for name, own in value.items()) or ABSENT
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value)) or ABSENT
    return str(value)
