"""A tree of folders as the file system has it: what is visible, with sizes and times; no meaning."""

import os
import stat
from collections import Counter
from typing import NamedTuple

SUFFIXES = (
    ".apng", ".bmp", ".dib", ".gif", ".jfif", ".jpe", ".jpeg", ".jpg", ".pbm", ".pgm", ".png",
    ".pnm", ".ppm", ".tif", ".tiff", ".webp",
)  # fmt: skip
# What goes along with images and is none: left out without a word.
_NOTES = (
    ".cfg", ".csv", ".doc", ".docx", ".htm", ".html", ".ini", ".ipynb", ".json", ".jsonl", ".log",
    ".m", ".mat", ".md", ".names", ".npy", ".npz", ".ods", ".parquet", ".pdf", ".py", ".rst",
    ".sha256", ".sh", ".toml", ".tsv", ".txt", ".xls", ".xlsx", ".xml", ".yaml", ".yml",
)  # fmt: skip
# What operating systems, network drives and editors put into folders, beside names with a dot.
_HIDDEN = {
    "$recycle.bin", "#recycle", "#snapshot", "@eadir", "@recently-snapshot", "@recycle", "@tmp",
    "__macosx", "__pycache__", "desktop.ini", "ehthumbs.db", "ehthumbs_vista.db", "icon\r",
    "lost+found", "network trash folder", "recycler", "system volume information",
    "temporary items", "thumbs.db", "~snapshot",
}  # fmt: skip


class File(NamedTuple):
    """A file that may be an image: its name, and what the file system says."""

    name: str
    size: int
    time: int


class Folder(NamedTuple):
    """A folder and what it visibly holds, sorted by name.

    Attributes:
        path: from the root, "" for the root itself.
        folders: {name: Folder}, only those with images at any depth or with nothing at all inside.
        files: list of `File`, those with an image's suffix.
        others: Counter of suffixes of other visible files.
        images: number of image files at any depth.
    """

    path: str
    folders: dict
    files: list
    others: Counter
    images: int


def hidden(name):
    """Whether a name is one that systems and editors hide or keep for themselves."""
    return name.startswith((".", "~$")) or name.endswith("~") or name.lower() in _HIDDEN


def scan(root):
    """The tree of `root` as `Folder`: every visible folder and file, links followed.

    Raises:
        ValueError: for a folder that may not be read, or that holds itself.
    """
    return _scan(os.fspath(root), "", {})


def _scan(directory, path, above):
    try:
        with os.scandir(directory) as found:
            entries = sorted((entry.name, entry) for entry in found)
        status = os.stat(directory)
    except OSError as error:
        raise ValueError(
            f'Cannot read the folder "{directory}": {error.strerror or error}. Make it readable '
            "for this user (chmod u+rx), or remove it."
        ) from error
    identity = (status.st_dev, status.st_ino)
    if identity in above and status.st_ino:
        raise ValueError(
            f'The folder "{directory}" is a link to "{above[identity]}", which holds it: it has no '
            "end. Remove the link."
        )
    folders, files, others = {}, [], Counter()
    for name, entry in entries:
        if hidden(name):
            continue
        inner = f"{path}/{name}" if path else name
        if entry.is_dir():
            folders[name] = _scan(entry.path, inner, {**above, identity: directory})
        elif (suffix := os.path.splitext(name)[1].lower()) in SUFFIXES:
            files.append(_file(name, entry))
        elif suffix not in _NOTES:
            others[suffix] += 1
    images = len(files) + sum(folder.images for folder in folders.values())
    return Folder(path, folders, files, others, images)


def _file(name, entry):
    try:
        status = entry.stat()
    except OSError:  # a link to nowhere: said when it is to be read
        return File(name, -1, -1)
    # What is no file (a pipe, a device) would block whoever opens it.
    return File(name, status.st_size if stat.S_ISREG(status.st_mode) else -1, status.st_mtime_ns)


def walk(folder):
    """`folder` and every folder below it."""
    yield folder
    for inner in folder.folders.values():
        yield from walk(inner)
