"""Writes the measured tables of README.md here from the `run.json` of finished runs.

    python -m tfkd.recipes.readme RUN_DIRECTORY...

Sections keep the order of the arguments; what stood between the marks before is replaced.
"""

import json
import sys
from pathlib import Path

from tfkd.files import written

BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"
README = Path(__file__).with_name("README.md")


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
    from tfkd.recipes.report import markdown

    records = [json.loads((Path(path) / "run.json").read_text("utf-8")) for path in directories]
    text = filled(README.read_text("utf-8"), [markdown(record) for record in records])
    with written(README) as partial:
        partial.write_text(text, "utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
