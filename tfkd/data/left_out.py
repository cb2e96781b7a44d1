"""What of a folder is no example: other files, what systems hide, images outside of classes."""

import os
import warnings
from collections import Counter

from tfkd.data.layout import NAMES_SHOWN, listed
from tfkd.data.tree import HIDDEN, IMAGES, NOTES, walk

# Read by every version of tfkd; a folder that holds others beside them gets larger.
_LONG_READ = (".bmp", ".gif", ".jpeg", ".jpg", ".png")


def suffixes(found):
    """Counter of the suffixes of a `Layout`'s images."""
    counted = Counter()
    for classes in found.splits.values():
        for own in classes.values():
            for inner in walk(own):
                counted.update(inner.suffixes)
    return counted


def kinds(scanned, found):
    """{kind: (number, example)} of what is not read, anywhere in the folder."""
    seen = {}
    for own in walk(scanned):
        for kind, (count, example) in own.left_out.items():
            kind = kind or "without suffix"
            before, first = seen.get(kind, (0, example))
            seen[kind] = (before + count, first)
    for path, count in loose(scanned, found).items():
        before, first = seen.get("images outside of class folders", (0, path or "."))
        seen["images outside of class folders"] = (before + count, first)
    return seen


def loose(tree, layout):
    """{path of a folder outside of the classes: number of images in it} of a tree."""
    inside = {
        id(inner)
        for classes in layout.splits.values()
        for folder in classes.values()
        for inner in walk(folder)
    }
    return {
        folder.path: len(folder.files)
        for folder in walk(tree)
        if folder.files and id(folder) not in inside
    }


def warn(tree, layout, root, kind=IMAGES):
    """Warns of images outside of class folders, and of files in them that are not read.

    `kind` is the `tfkd.data.tree.Kind` of the folder's examples.
    """
    formats, others = suffixes(layout), Counter()
    for folders in layout.splits.values():
        for folder in folders.values():
            for inner in walk(folder):
                for suffix, (count, _) in inner.left_out.items():
                    if suffix != HIDDEN and suffix not in NOTES:
                        others[suffix] += count
    said = []
    if layout.empty:
        said.append(f"classes without any {kind.things} are left out: {listed(layout.empty)}")
    if others:
        kinds = ", ".join(
            f"{count} {suffix or 'without suffix'}" for suffix, count in others.items()
        )
        said.append(f"{sum(others.values())} files in class folders are not read: {kinds}")
    if outside := loose(tree, layout):
        places = ", ".join(
            f'{count} in "{os.path.join(root, path) if path else root}"'
            for path, count in list(outside.items())[:NAMES_SHOWN]
        )
        total = sum(outside.values())
        said.append(f"{total} {kind.things} outside of class folders are left out: {places}")
    new = {suffix: count for suffix, count in formats.items() if suffix not in _LONG_READ}
    if new and len(new) < len(formats):
        counts = ", ".join(f"{count} {suffix}" for suffix, count in formats.items())
        said.append(
            f"it mixes formats, and all of them are read: {counts} (earlier versions of tfkd left "
            f"out {', '.join(new)})"
        )
    if said:
        warnings.warn(f'The folder "{root}": {"; ".join(said)}.', stacklevel=4)
