"""A tree of folders as the file system has it: what is visible, with sizes and times."""

import os
import stat
from collections import Counter
from typing import NamedTuple

SUFFIXES = {
    ".apng", ".bmp", ".dib", ".gif", ".jfif", ".jpe", ".jpeg", ".jpg", ".pbm", ".pgm", ".png",
    ".pnm", ".ppm", ".tif", ".tiff", ".webp",
}  # fmt: skip
# What goes along with images and is none: no warning speaks of it.
NOTES = {
    ".cfg", ".csv", ".doc", ".docx", ".htm", ".html", ".ini", ".ipynb", ".json", ".jsonl", ".log",
    ".m", ".mat", ".md", ".names", ".npy", ".npz", ".ods", ".parquet", ".pdf", ".py", ".rst",
    ".sha256", ".sh", ".toml", ".tsv", ".txt", ".xls", ".xlsx", ".xml", ".yaml", ".yml",
}  # fmt: skip
# What operating systems, network drives and editors put into folders, beside names with a dot.
_HIDDEN = {
    "$recycle.bin", "#recycle", "#snapshot", "@eadir", "@recently-snapshot", "@recycle", "@tmp",
    "__macosx", "__pycache__", "desktop.ini", "ehthumbs.db", "ehthumbs_vista.db", "icon\r",
    "lost+found", "network trash folder", "recycler", "system volume information",
    "temporary items", "thumbs.db", "~snapshot",
}  # fmt: skip


HIDDEN = "hidden"


class Kind(NamedTuple):
    """What a folder is to hold: what examples are called, and the suffixes of their files."""

    things: str
    suffixes: frozenset | set


IMAGES = Kind("images", SUFFIXES)


class Folder(NamedTuple):
    """A folder and what it visibly holds.

    Attributes:
        path: from the root, with slashes; "" for the root itself.
        folders: {name: Folder}, sorted by name.
        files: list of names with an example's suffix, in no order.
        sizes: list of their sizes in bytes, -1 for what is no file or a link to nowhere.
        times: list of their times of change in ns, -1 likewise.
        suffixes: Counter of suffixes of `files`.
        left_out: {suffix of other files, or `HIDDEN`: [number, path of the first from the root]};
            a hidden folder counts as one.
        images: number of such files at any depth.
    """

    path: str
    folders: dict
    files: list
    sizes: list
    times: list
    suffixes: Counter
    left_out: dict
    images: int


def hidden(name):
    """Whether a name is one that systems and editors hide or keep for themselves."""
    return name[0] == "." or name[-1] == "~" or name[:2] == "~$" or name.lower() in _HIDDEN


def scan(root, kind=IMAGES):
    """The tree of `root` as `Folder`: every visible folder and file, links followed.

    Args:
        root: the folder.
        kind: `Kind` of its examples.

    Raises:
        ValueError: for a folder that may not be read, or that holds itself.
    """
    return _scan(os.fspath(root), "", {}, kind)


def _scan(directory, path, above, kind):
    folders, files, sizes, times, suffixes, left_out = {}, [], [], [], Counter(), {}

    def leave_out(kind, name):
        left_out.setdefault(kind, [0, f"{path}/{name}" if path else name])[0] += 1

    try:
        status = os.stat(directory)
        identity = (status.st_dev, status.st_ino)
        if identity in above and status.st_ino:
            raise ValueError(
                f'The folder "{directory}" is a link to "{above[identity]}", which holds it: it '
                "has no end. Remove the link."
            )
        with os.scandir(directory) as entries:
            # No object a file beside what is kept: there may be hundreds of thousands.
            for entry in entries:
                name = entry.name
                if hidden(name):
                    leave_out(HIDDEN, name)
                    continue
                if entry.is_dir():
                    folders[name] = entry.path
                    continue
                suffix = os.path.splitext(name)[1].lower()
                if suffix in kind.suffixes:
                    size, changed = _size_and_time(entry)
                    files.append(name)
                    sizes.append(size)
                    times.append(changed)
                    suffixes[suffix] += 1
                else:
                    leave_out(suffix, name)
    except OSError as error:
        raise ValueError(
            f'Cannot read the folder "{directory}": {error.strerror or error}. Make it readable '
            "for this user (chmod u+rx), or remove it."
        ) from error
    above = {**above, identity: directory}
    inner = {
        name: _scan(folders[name], f"{path}/{name}" if path else name, above, kind)
        for name in sorted(folders)
    }
    images = len(files) + sum(folder.images for folder in inner.values())
    return Folder(path, inner, files, sizes, times, suffixes, left_out, images)


def _size_and_time(entry):
    try:
        status = entry.stat()
    except OSError:  # a link to nowhere: said when it is to be read
        return -1, -1
    # What is no file (a pipe, a device) would block whoever opens it.
    return (status.st_size if stat.S_ISREG(status.st_mode) else -1), status.st_mtime_ns


def walk(folder):
    """`folder` and every folder below it."""
    yield folder
    for inner in folder.folders.values():
        yield from walk(inner)
