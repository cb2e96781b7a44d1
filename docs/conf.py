"""Sphinx's settings: Markdown pages by MyST, the PyData theme, API pages from docstrings."""

import os
import re
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, os.path.abspath(".."))

import tfkd  # noqa: E402

project = "tfkd"
author = copyright = "The tfkd authors"
release = version = tfkd.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
]
exclude_patterns = ["_build"]
myst_enable_extensions = ["colon_fence", "dollarmath"]
myst_heading_anchors = 3

add_module_names = False
autodoc_inherit_docstrings = False
autodoc_member_order = "bysource"
autodoc_typehints = "none"
autodoc_preserve_defaults = True
napoleon_numpy_docstring = False
napoleon_use_rtype = False

html_theme = "pydata_sphinx_theme"
html_title = "tfkd"
html_static_path = ["_static"]
html_css_files = ["tfkd.css"]
html_show_sourcelink = False
html_theme_options = {
    "header_links_before_dropdown": 6,
    "navigation_depth": 2,
    "show_toc_level": 1,
    "navbar_align": "left",
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": [],
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
}
html_sidebars = {"index": []}

SECTIONS = re.compile(r"\s*(Args|Returns|Raises|Attributes|Yields):")


def as_restructured_text(app, what, name, obj, options, lines):
    """Docstrings are written in Markdown; autodoc reads reStructuredText."""
    written, fence, section, literal = [], False, False, False
    for line in lines:
        bare, indent = line.strip(), len(line) - len(line.lstrip())
        if bare.startswith("```"):
            fence = not fence
            opening = ["", f"{' ' * indent}.. code-block:: {bare[3:] or 'text'}", ""]
            written += opening if fence else [""]
            continue
        section = section or bool(SECTIONS.fullmatch(line))
        if fence:
            written.append(f"    {line}" if bare else "")
            continue
        # Above the sections what is indented stands as it is: formulas, tables, sessions.
        if not section and bare and (indent > 0) != literal:
            literal = indent > 0
            written += ["", "::", ""] if literal else [""]
        if literal and not section:
            written.append(f"    {line}" if bare else "")
        else:
            written.append(_prose(line))
    lines[:] = written


def _prose(line):
    """A line of Markdown text: its code, and what is markup in the other language only."""
    parts = re.split(r"`+([^`]+)`+", line)
    for number, part in enumerate(parts):
        if number % 2:
            parts[number] = f"``{part}``"
        elif not re.match(r"\s*\*{1,2}\w+:", part):  # not the entry of **options in a section
            parts[number] = re.sub(r"(\||\*|_(?!\w))", r"\\\1", part)
    return "".join(parts)


def pages_for_files(app, path, parent, content):
    """What the recipes' README says of their files leads to their pages here."""
    if path.as_posix().endswith("tfkd/recipes/README.md"):
        content[0] = re.sub(r"\]\((\w+)\.py\)", r"](\1.md)", content[0])


def setup(app):
    # Before napoleon (500), which looks for the sections.
    app.connect("autodoc-process-docstring", as_restructured_text, priority=400)
    app.connect("include-read", pages_for_files)
