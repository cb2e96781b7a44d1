"""Writes the measured tables of tfkd/recipes/README.md from finished runs.

    python scripts/recipes_readme.py RUN_DIRECTORY...

Sections keep the order of the arguments; what stood between the marks before is replaced.
"""

import sys
from pathlib import Path

from tfkd.files import write_text
from tfkd.runs import RunDirectory
from tfkd.runs.report import markdown

BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"
README = Path(__file__).parents[1] / "tfkd" / "recipes" / "README.md"


def filled(text, sections):
    """The README's text with these sections between its marks.

    Raises:
        ValueError: the marks are not there.
    """
    if BEGIN not in text or END not in text:
        raise ValueError(f"The README has no {BEGIN} and {END} to write the tables between.")
    before, rest = text.split(BEGIN, 1)
    _, after = rest.split(END, 1)
    return "\n".join([before + BEGIN, "", *sections, END]) + after


def main(directories):
    sections = [markdown(RunDirectory(path).record()) for path in directories]
    write_text(README, filled(README.read_text("utf-8"), sections))


if __name__ == "__main__":
    main(sys.argv[1:])
