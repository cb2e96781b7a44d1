"""What a tree of folders means: which folders are splits, which are classes, what is no example.

Names decide where they can (`train`, `Training`, `seg_train`, `training_set`, ...); a tree that may
be read in two ways is refused with what was seen, never guessed.
"""

import os
import re
import warnings
from typing import NamedTuple

from tfkd.data.tree import IMAGES

_ROLE_WORDS = {
    "train": ("train", "training"),
    "validation": ("validation", "validate", "valid", "val", "dev", "devel", "development"),
    "test": ("test", "testing"),
}
_WORDS = {word: role for role, words in _ROLE_WORDS.items() for word in words}
# Of these names a class may be, too.
_CLASSES_TOO = {"dev", "development", "test", "train", "val", "valid"}
# Words beside a split's own that say nothing more.
_FILLERS = {
    "data", "dataset", "datasets", "folder", "image", "images", "img", "imgs", "photos", "pics",
    "pictures", "sample", "samples", "set", "sets", "split",
}  # fmt: skip
_FOLD = re.compile(r"(k?folds?|splits?|cv)[ _.-]?\d+", re.IGNORECASE)
NAMES_SHOWN = 12


class Layout(NamedTuple):
    """A tree as it is meant.

    Attributes:
        splits: {role: {class name: Folder}}, always with "train".
        class_names: tuple of str, sorted.
        where: {role: path of the split's folder from the root}.
        empty: paths of class folders without an image, which are left out.
    """

    splits: dict
    class_names: tuple
    where: dict
    empty: tuple


def read(tree, root, without_empty=False, kind=IMAGES):
    """What the tree means.

    Args:
        tree: `Folder`, from `scan`.
        root: the folder's name, for messages.
        without_empty: leave out classes that have no image in any split; else they are refused.
        kind: `tfkd.data.tree.Kind` of its examples.

    Returns:
        `Layout`.

    Raises:
        ValueError: for a tree without classes, or of two meanings; the message says what was seen.
    """
    tree = _unwrapped(tree)
    roles = split_roles([name for name, folder in tree.folders.items() if folder.images])
    if len(set(roles.values())) < 2 and not any(
        len(_classes(tree.folders[name])) > 1 for name in roles
    ):
        _refuse_lone_splits(tree, roles, root)
        _refuse_hidden_splits(tree, root, kind)
        splits, where = {"train": tree}, {"train": tree.path}
    else:
        splits = _splits(tree, roles, root, kind)
        where = {role: folder.path for role, folder in splits.items()}
    empty = _empty(splits) if without_empty else {}
    class_names = _class_names(splits, root, kind, empty)
    found = {
        role: {name: folder.folders[name] for name in class_names}
        for role, folder in splits.items()
    }
    return Layout(found, class_names, where, tuple(path for own in empty.values() for path in own))


def split_roles(names):
    """Which of some sibling folders are splits, by their names alone.

    A name is a split's if it says one role ("train", "Training", "TRAIN_SET", "images-val") and
    nothing else, or if names of two roles or more say the same besides ("seg_train", "seg_test").

    Args:
        names: list of str.

    Returns:
        {name: role}, role "train", "validation" or "test".
    """
    said = {}
    for name in names:
        words = re.findall(r"[a-z]+|\d+", re.sub(r"([a-z])([A-Z])", r"\1 \2", name).lower())
        roles = [_WORDS[word] for word in words if word in _WORDS]
        if len(roles) == 1:
            rest = tuple(word for word in words if word not in _WORDS and word not in _FILLERS)
            said[name] = roles[0], rest
    shared = {}
    for role, rest in said.values():
        shared.setdefault(rest, set()).add(role)
    return {name: role for name, (role, rest) in said.items() if not rest or len(shared[rest]) > 1}


def _classes(folder):
    """Names of the folders in `folder` (looked through if it only wraps) that hold images."""
    return [name for name, inner in _unwrapped(folder).folders.items() if inner.images]


def _unwrapped(folder):
    """`folder`, or the one inside it if that only wraps: the sole one there, without images of its
    own beside its folders."""
    while not folder.files and len(folder.folders) == 1:
        (name, inner), *_ = folder.folders.items()
        holding = [name for name, below in inner.folders.items() if below.images]
        wraps = holding and not inner.files or len(set(split_roles(holding).values())) > 1
        # A lone test split is no wrapping.
        if not wraps or set(split_roles([name]).values()) - {"train"}:
            return folder
        folder = inner
    return folder


def _splits(tree, roles, root, kind):
    """{role: Folder} of a folder that holds splits."""
    where = _at(root, tree)
    by_role = {}
    for name, role in roles.items():
        by_role.setdefault(role, []).append(name)
    for role, names in by_role.items():
        if len(names) > 1:
            raise ValueError(
                f'"{where}" has {len(names)} {role} splits: {listed(names)}. Keep one of them '
                "there, or join them in one folder."
            )
    if "train" not in by_role:
        raise ValueError(
            f'"{where}" has no train split to learn from; it has: {listed(tree.folders)}. Name '
            'the folder to learn from "train".'
        )
    strangers = {
        name: folder for name, folder in tree.folders.items() if folder.images and name not in roles
    }
    known = set(_classes(tree.folders[by_role["train"][0]]))
    refused = [
        name
        for name, folder in strangers.items()
        if len(by_role) < 2 or not _unlabelled(folder, known)
    ]
    if refused:
        raise ValueError(
            f'"{where}" holds split folders and others: {listed(refused)} beside '
            f"{listed(roles)}. "
            "Expected either split folders (train, validation or val, test) or class folders. "
            "Rename a split to one of these names; move what is neither out of the folder."
        )
    splits = {}
    for role in ("train", "validation", "test"):
        for name in by_role.get(role, ()):
            folder = _unwrapped(tree.folders[name])
            if not _classes(folder):
                raise ValueError(
                    f'The {role} split "{_at(root, folder)}" holds {folder.images} {kind.things}, '
                    "but no class folders: their labels are not known. Expected a folder for each "
                    f"class in it; if the {kind.things} have no labels, move the folder elsewhere."
                )
            splits[role] = folder
    return splits


def _unlabelled(folder, class_names):
    """Whether a folder beside splits holds images without classes, such as `seg_pred`."""
    while not folder.files and len(folder.folders) == 1:
        (folder,) = folder.folders.values()
        if os.path.basename(folder.path) in class_names:
            return False
    return not any(inner.images for inner in folder.folders.values())


def _refuse_lone_splits(tree, roles, root):
    """Of one split's name, without class folders inside, beside folders of other names: a class
    where the name may be one (a train, a valid one), with a warning; else refused."""
    for name, role in roles.items():
        others = listed(other for other in tree.folders if other != name)
        if name.lower() not in _CLASSES_TOO:
            raise ValueError(
                f'The folder "{_at(root, tree.folders[name])}" is named like a {role} split, but '
                f"holds no class folders, and stands beside {others}. Expected split folders "
                "(train, validation, test) with a folder for each class in each; or, if it is a "
                "class, another name."
            )
        warnings.warn(
            f'The folder "{_at(root, tree.folders[name])}" is read as a class, not as a split: it '
            f"holds no class folders, and stands beside {others}.",
            stacklevel=5,
        )


def _refuse_hidden_splits(tree, root, kind):
    """Refuses folders that look like splits, folds or domains under names that are not known."""
    candidates = {
        name: set(_classes(folder))
        for name, folder in tree.folders.items()
        if folder.images and not _unwrapped(folder).files
    }
    seen, names_inside = [], []
    for name, inside in candidates.items():
        for other, others in candidates.items():
            if name < other and len(inside & others) > 1:
                seen, names_inside = sorted({*seen, name, other}), sorted(inside & others)
    names = [name for name, folder in tree.folders.items() if folder.images]
    if not seen and len(names) > 1 and all(_FOLD.fullmatch(name) for name in names):
        seen = names
    if not seen:
        return
    why, else_ = "are named like folds", "rename them"
    if names_inside:
        why = f"hold folders of the same names ({listed(names_inside)})"
        else_ = f"put their {kind.things} directly into them"
    raise ValueError(
        f'The folders {listed(seen)} in "{_at(root, tree)}" {why}: they look like splits rather '
        "than classes, but their names do not say which. Rename them to train, validation and "
        "test; or give one of them as the folder, if it is all you want; or, if they are classes, "
        f"{else_}."
    )


def _empty(splits):
    """{name: paths of its folders} of classes that have no image in any split."""
    found = {}
    for folder in splits.values():
        for name, inner in folder.folders.items():
            found.setdefault(name, []).append(inner)
    return {
        name: [inner.path for inner in inners]
        for name, inners in found.items()
        if not any(inner.images for inner in inners)
    }


def _class_names(splits, root, kind, left_out=()):
    """The classes of all splits, checked to be the same; some names are left out."""
    train = splits["train"]
    names = sorted(set(train.folders) - set(left_out))
    if len(names) < 2:
        raise ValueError(
            f'Expected a folder for each of two or more classes in "{_at(root, train)}"; found '
            f"{names or 'none'}{_loose(train, kind)}."
        )
    for role, folder in splits.items():
        own = set(folder.folders) - set(left_out)
        if different := sorted(own ^ set(names)):
            only, lacking = sorted(own - set(names)), sorted(set(names) - own)
            said = [f"{listed(only)} only in {role}"] * bool(only)
            said += [f"{listed(lacking)} only in train"] * bool(lacking)
            raise ValueError(
                f'The class folders of "{_at(root, folder)}" and "{_at(root, train)}" differ in: '
                f"{listed(different)} ({'; '.join(said)}). Every split needs the same classes, "
                "spelled alike."
            )
    empty = [
        _at(root, folder.folders[name])
        for folder in splits.values()
        for name in names
        if not folder.folders[name].images
    ]
    if empty:
        folders = f'class folder "{empty[0]}" holds'
        if len(empty) > 1:
            folders = f"{len(empty)} class folders {listed(empty)} hold"
        raise ValueError(
            f"The {folders} no {kind.things} ({', '.join(sorted(kind.suffixes))}). Add some, or "
            "remove the folder; a class that is empty in every split is left out with "
            "--skip-damaged (skip_damaged=True in Python)."
            + " `tfkd data FOLDER` names all that is amiss at once."
            * (kind is IMAGES)
        )
    return tuple(names)


def _loose(folder, kind):
    count = len(folder.files)
    return (
        f", and {count} {kind.things} directly in it, whose labels are not known" if count else ""
    )


def _at(root, folder):
    return os.path.join(root, folder.path) if folder.path else str(root)


def listed(names):
    """Names with commas between them, not too many."""
    names = list(names)
    more = f" and {len(names) - NAMES_SHOWN} more" if len(names) > NAMES_SHOWN else ""
    return ", ".join(names[:NAMES_SHOWN]) + more
