"""Results: JSON under `results/`, and tables between markers in `README.md`."""

import json
import re
from pathlib import Path

HERE = Path(__file__).parent


def write(name, content, quick=False):
    """Writes `results/<name>.json`; a quick run's stands apart and is not committed."""
    path = HERE / "results" / f"{name}{'_quick' if quick else ''}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(content, indent=1) + "\n")
    print(f"written: {path}")


def read(name):
    path = HERE / "results" / f"{name}.json"
    return json.loads(path.read_text()) if path.exists() else None


def table(header, rows):
    """A Markdown table; first column to the left, the others to the right."""
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


def put(name, text, path=HERE / "README.md"):
    """Puts text between `<!-- name -->` and `<!-- /name -->` of the README.

    Raises:
        ValueError: the README has no such markers.
    """
    page = path.read_text()
    start, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    pattern = re.compile(f"{re.escape(start)}.*?{re.escape(end)}", re.DOTALL)
    if not pattern.search(page):
        raise ValueError(f"{path} has no markers {start} and {end} to put the table between.")
    path.write_text(pattern.sub(lambda _: f"{start}\n\n{text}\n\n{end}", page))
