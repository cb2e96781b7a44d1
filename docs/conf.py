"""Sphinx's settings: Markdown pages by MyST, the PyData theme, API pages from docstrings."""

import inspect
import os
import re
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, os.path.abspath(".."))

from sphinx.util.inspect import stringify_signature  # noqa: E402

import tfkd  # noqa: E402
from tfkd.runs.tensorflow_output import import_tensorflow  # noqa: E402

import_tensorflow()  # without its notes on this machine

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

highlight_language = "none"

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
    written, prose, fence, section, literal = [], [], False, False, False
    for line in [*lines, ""]:
        bare, indent = line.strip(), len(line) - len(line.lstrip())
        opens = bare.startswith("```")
        section = section or bool(SECTIONS.fullmatch(line))
        # Above the sections what is indented stands as it is: formulas, tables, sessions.
        verbatim = fence or opens or not section and (indent > 0 if bare else literal)
        if not bare or verbatim or literal:
            written += _prose("\n".join(prose)).split("\n") if prose else []
            prose = []
        if opens:
            fence = not fence
            directive = f"{' ' * indent}.. code-block:: {bare[3:] or 'text'}"
            written += ["", directive, ""] if fence else [""]
        elif verbatim:
            if bare and not fence and not literal:
                written += ["", "::", ""]
            literal = literal or bool(bare) and not fence
            written.append(f"    {line}" if bare else "")
        else:
            written += [""] if literal else []
            literal = False
            (prose if bare else written).append(line)
    lines[:] = written


def _prose(text):
    """Text in Markdown: its code, and what is markup in the other language only."""
    parts = re.split(r"`+([^`]+)`+", text)
    # Not the entry of **options in a section.
    markup = r"(\||\*(?!\*?\w+:)|_(?!\w))"
    for number, part in enumerate(parts):
        parts[number] = f"``{part}``" if number % 2 else re.sub(markup, r"\\\1", part)
    return "".join(parts)


def signature_of_init(app, what, name, obj, options, signature, returned):
    """Keras's models hide it behind a `__new__` of their own."""
    if what == "class" and signature == "(*args, **kwargs)":
        given = inspect.signature(obj.__init__)
        own = given.replace(parameters=list(given.parameters.values())[1:])
        return stringify_signature(own, show_annotation=False), None


def pages_for_files(app, path, parent, content):
    """What the recipes' README says of their files leads to their pages here."""
    if path.as_posix().endswith("tfkd/recipes/README.md"):
        content[0] = re.sub(r"\]\((\w+)\.py\)", r"](\1.md)", content[0])


def setup(app):
    # Before napoleon (500), which looks for the sections.
    app.connect("autodoc-process-docstring", as_restructured_text, priority=400)
    app.connect("autodoc-process-signature", signature_of_init)
    app.connect("include-read", pages_for_files)
