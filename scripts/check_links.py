"""Looks for dead links within the project: what Markdown pages and notebooks name and is not there.

    python scripts/check_links.py

Prints each and ends with 1 where there are any.
"""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
# An address of its own: a scheme before the colon.
OUTSIDE = re.compile(r"[a-z]+:")


def pages(root=ROOT):
    """The Markdown pages and notebooks of the project."""
    found = [*root.glob("*.md")]
    for folder in ("docs", "examples", "benchmarks", "saved_models", "tfkd"):
        for ending in ("md", "ipynb"):
            found += [p for p in (root / folder).rglob(f"*.{ending}") if "_build" not in p.parts]
    return sorted(found)


def anchors(text):
    """The anchors of a page's headings, as GitHub and MyST make them."""
    headings = re.findall(r"^#+ (.+)$", re.sub(r"```.*?```", "", text, flags=re.S), re.M)
    plain = [re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings]
    return {heading.strip().replace(" ", "-") for heading in plain}


def dead_links(page):
    """The links of a page that lead nowhere, list of str."""
    text = page.read_text(encoding="utf-8")
    dead = []
    for link in LINK.findall(re.sub(r"```.*?```|`[^`\n]*`", "", text, flags=re.S)):
        if OUTSIDE.match(link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (
            anchor and target.suffix == ".md" and anchor not in anchors(target.read_text("utf-8"))
        ):
            dead.append(link)
    return dead


def main():
    count = 0
    for page in pages():
        for link in dead_links(page):
            print(f'{page.relative_to(ROOT)}: "{link}" leads nowhere')
            count += 1
    return 1 if count else 0


if __name__ == "__main__":
    sys.exit(main())
