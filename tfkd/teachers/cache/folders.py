"""Where a teacher cache lies: a directory, or a URL of an object store."""

from tfkd.teachers.cache.disk import LocalFolder
from tfkd.teachers.cache.remote import RemoteFolder

# The files by which a folder is known: of a finished cache, and of one that is being built.
MANIFEST, BUILDING = "manifest.json", "building.json"


def folder_of(directory):
    """The folder of a path or a URL, or the folder that is given.

    Args:
        directory: a path ("file://..." too), or a URL that fsspec knows ("s3://bucket/cache").
    """
    if isinstance(directory, LocalFolder | RemoteFolder):
        return directory
    text = str(directory)
    if text.startswith("file://"):
        return LocalFolder(text.removeprefix("file://"))
    return RemoteFolder(text) if "://" in text else LocalFolder(directory)


def stores_in(directory, prefix=""):
    """Names, beginning so, of the folders in a directory or under a URL that hold a cache."""
    folder = folder_of(directory)
    names = sorted(n for n, size in folder.sizes().items() if size is None and n.startswith(prefix))
    return [n for n in names if {MANIFEST, BUILDING} & set(folder_of(joined(folder, n)).sizes())]


def joined(directory, name):
    """The path or URL of what lies in a directory."""
    return f"{str(directory).rstrip('/')}/{name}"
