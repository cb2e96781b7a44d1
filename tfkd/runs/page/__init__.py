"""`report.html`: a run on one page that needs nothing beside it, neither network nor script.

It is written at the end of a run, and again by `tfkd report RUN`, from what stands in the run's
directory: run.json, history.csv, search.json, export/export.json, and report.json, which holds what
the page needs of data and models. No TensorFlow here.
"""

from pathlib import Path

import jinja2

from tfkd.files import DiskFullError, write_text
from tfkd.runs.directory import PAGE
from tfkd.runs.page.comparisons import ComparePage
from tfkd.runs.page.kept import read
from tfkd.runs.page.searches import SearchPage
from tfkd.runs.page.sections import RunPage
from tfkd.runs.page.unfinished import UnfinishedPage
from tfkd.runs.search.record import read as read_search

LARGEST = 3_000_000  # bytes, with room to spare: lists are cut to what can be read

_templates = jinja2.Environment(
    loader=jinja2.PackageLoader(__name__),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


def write(directory, out=None):
    """Writes the page of a run.

    Args:
        directory: `RunDirectory` of a run, finished or not.
        out: file to write; default `report.html` in the run.

    Returns:
        Path of the file.

    Raises:
        FileNotFoundError: there is no run. ValueError: its record is damaged, or of another
            version. OSError: the file cannot be written.
    """
    path = Path(out).expanduser() if out else directory / PAGE
    text = render(directory)
    try:
        write_text(path, text)
    except DiskFullError:
        raise
    except OSError as error:
        raise OSError(
            f'"{path}" cannot be written ({error.strerror}). Give another file: tfkd report '
            f"{directory.path} --out FILE"
        ) from error
    return path


def render(directory):
    """The text of the page.

    Args:
        directory: `RunDirectory`.

    Raises:
        FileNotFoundError, ValueError: as `write`.
    """
    if directory.begun and not directory.finished:
        return _filled("unfinished.html.jinja", UnfinishedPage(directory))
    record = directory.record()
    kept, missing = read(directory, record)
    given = (directory, record, kept, missing)
    if record.kind == "search" and (found := read_search(directory, lambda text: None)):
        return _filled("search.html.jinja", SearchPage(*given, found))
    if record.kind == "compare":
        return _filled("compare.html.jinja", ComparePage(*given))
    return _filled("run.html.jinja", RunPage(*given))


def _filled(name, page):
    return _templates.get_template(name).render(page=page)
