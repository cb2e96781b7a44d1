"""Where labelled texts come from: the built-in ones, folders, tables and TFDS sets."""

import csv
import io
import warnings
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tfkd.data import layout, left_out, loading, small_grammar, tree
from tfkd.data.folder import files_of
from tfkd.data.pipeline import MEMORY_LIMIT
from tfkd.data.splits import SPLIT_NAMES

TEXTS = tree.Kind("texts", frozenset({".txt"}))
DELIMITERS = {".csv": ",", ".tsv": "\t"}  # of tables, by their suffix
_TEXT, _LABEL, _SPLIT = "text", "label", "split"
_ROLES = ("train", "validation", "test")
_SHOWN = 5


class Labelled(NamedTuple):
    """Texts of a published split, their class numbers, and where each stands, for messages."""

    texts: list
    labels: np.ndarray
    places: list


def read(name, data_dir, skip_damaged):
    """({role: `Labelled`}, names of the classes) of what a name means.

    Args:
        name, data_dir, skip_damaged: as for `tfkd.data.labelled_texts.load`.

    Raises:
        ValueError, FileNotFoundError: what cannot be read, and how to fix it.
    """
    if str(name) == small_grammar.WHO_ACTED:
        return _built_in()
    path = Path(name).expanduser()
    if path.suffix.lower() in DELIMITERS and not path.is_dir():
        return _table(path)
    text, found = loading.find(name, data_dir)
    if found in loading.EMBEDDED:
        raise ValueError(
            f'"{name}" is images. Give texts: "{small_grammar.WHO_ACTED}" (built in), a folder of '
            "classes with files .txt, a table (.csv, .tsv), or a TFDS set of texts with a class."
        )
    if found == loading.FOLDER:
        return _folder(Path(text).expanduser(), skip_damaged)
    return _tfds(text, found, skip_damaged)


def read_files(paths):
    """The texts of files.

    Args:
        paths: list of `pathlib.Path`.

    Returns:
        ({path: text} of those that are UTF-8, {path: why} of the others).
    """
    texts, bad = {}, {}
    for path in paths:
        try:
            texts[path] = path.read_bytes().decode("utf-8-sig")
        except UnicodeDecodeError as error:
            bad[path] = f"byte {error.start} is not UTF-8"
        except OSError as error:
            bad[path] = error.strerror or str(error)
    return texts, bad


def _built_in():
    published, names = {}, sorted(small_grammar.NAMES)
    for seed, (role, count) in enumerate(small_grammar.TEXTS.items()):
        texts, actors = small_grammar.who_acted(count, seed)
        published[role] = _labelled(texts, actors, names, [f"{role} {n}" for n in range(count)])
    return published, names


def _folder(root, skip_damaged):
    scanned = tree.scan(root, TEXTS)
    found = layout.read(scanned, root, skip_damaged, TEXTS)
    left_out.warn(scanned, found, root, TEXTS)
    files = files_of(found)
    _require_room(root, int(files.stats[:, 0].clip(0).sum()))
    paths = {root / name: name for name in files.names}
    texts, bad = read_files(list(paths))
    _refuse(root, bad, len(paths), skip_damaged)
    published = {}
    for role in files.spans:
        numbers = files.numbers(role)
        numbers = [n for n in numbers if root / files.names[n] in texts]
        published[role] = Labelled(
            [texts[root / files.names[n]] for n in numbers],
            files.labels[numbers],
            [files.names[n] for n in numbers],
        )
    return published, list(files.class_names)


def _table(path):
    if not path.is_file():
        raise FileNotFoundError(f'No table "{path}" (from {Path.cwd()}).')
    _require_room(path, path.stat().st_size)
    texts, bad = read_files([path])
    if bad:
        raise ValueError(f'The table "{path}": {bad[path]}. Save it as UTF-8.')
    delimiter, before = DELIMITERS[path.suffix.lower()], csv.field_size_limit(MEMORY_LIMIT)
    try:
        rows = csv.reader(io.StringIO(texts[path], newline=""), delimiter=delimiter, strict=True)
        lines = [(rows.line_num, row) for row in rows if row]
    except csv.Error as error:
        raise ValueError(f'Line {rows.line_num} of "{path}" cannot be read: {error}.') from None
    finally:
        csv.field_size_limit(before)
    heading = lines[0][1] if lines else []
    places = {column: heading.index(column) for column in heading}
    if not {_TEXT, _LABEL} <= set(heading) or len(places) < len(heading):
        raise ValueError(
            f'"{path}" begins with {heading[:10]}; expected a line with the columns "{_TEXT}" and '
            f'"{_LABEL}", perhaps "{_SPLIT}", each name once.'
        )
    found = {}
    for number, row in lines[1:]:
        own = dict(zip(heading, row, strict=False))
        label = own.get(_LABEL, "").strip()
        if len(row) != len(heading) or not label:
            what = f"{len(row)} columns" if len(row) != len(heading) else "no label"
            raise ValueError(
                f'The row that ends in line {number} of "{path}" has {what}; expected '
                f"{len(heading)} columns, a label in each row."
            )
        role = _role(own.get(_SPLIT, "train").strip(), number, path)
        found.setdefault(role, []).append((own[_TEXT], label, f"line {number}"))
    if "train" not in found:
        raise ValueError(f'"{path}" has no train split to learn from; it has: {sorted(found)}.')
    names = sorted({label for _, label, _ in found["train"]})
    strange = {label: place for own in found.values() for _, label, place in own}
    strange = {label: place for label, place in strange.items() if label not in names}
    if strange:
        some = ", ".join(f'"{label}" ({place})' for label, place in list(strange.items())[:_SHOWN])
        raise ValueError(f'No training text of "{path}" has the label {some}: it cannot be learnt.')
    roles = [role for role in _ROLES if role in found]
    return {role: _labelled(*_columns(found[role], names)) for role in roles}, names


def _columns(rows, names):
    texts, labels, places = (list(column) for column in zip(*rows, strict=True))
    return texts, labels, names, places


def _tfds(name, builder, skip_damaged):
    import tensorflow_datasets as tfds

    from tfkd.data.splits import roles
    from tfkd.data.tfds_source import how_to_prepare

    features = builder.info.features
    features = dict(features) if isinstance(features, tfds.features.FeaturesDict) else {}
    kinds = {_TEXT: tfds.features.Text, _LABEL: tfds.features.ClassLabel}
    keys = {
        what: [k for k, own in features.items() if isinstance(own, kind)]
        for what, kind in kinds.items()
    }
    pair = builder.info.supervised_keys
    if pair and len(pair) == 2 and pair[0] in keys[_TEXT] and pair[1] in keys[_LABEL]:
        keys = {_TEXT: [pair[0]], _LABEL: [pair[1]]}
    if any(len(own) != 1 for own in keys.values()):
        own = ", ".join(f"{key}: {type(kind).__name__}" for key, kind in features.items())
        raise ValueError(
            f'"{name}" is no set of texts with a class: expected one Text and one ClassLabel; it '
            f"has {own or 'none'}."
        )
    if not builder.info.splits:
        raise FileNotFoundError(how_to_prepare(name, builder))
    (text,), (label,) = keys.values()
    published, bad, count = {}, {}, 0
    for role, split in roles(list(builder.info.splits), name).items():
        rows = []
        examples = builder.as_dataset(split=split, shuffle_files=False).as_numpy_iterator()
        for number, example in enumerate(examples):
            count, place = count + 1, f"{split} {number}"
            try:
                rows.append((example[text].decode("utf-8"), int(example[label]), place))
            except UnicodeDecodeError as error:
                bad[place] = f"byte {error.start} is not UTF-8"
        texts, labels, places = ([row[n] for row in rows] for n in range(3))
        published[role] = Labelled(texts, np.array(labels, np.int64), places)
    _refuse(name, bad, count, skip_damaged)
    return published, list(features[label].names)


def _labelled(texts, labels, names, places):
    numbers = {name: number for number, name in enumerate(names)}
    return Labelled(texts, np.array([numbers[label] for label in labels], np.int64), places)


def _role(text, number, path):
    for role, aliases in SPLIT_NAMES.items():
        if text.lower() in aliases:
            return role
    raise ValueError(
        f'The row that ends in line {number} of "{path}" has the split "{text}"; expected train, '
        "validation or test."
    )


def _require_room(name, size):
    if size > MEMORY_LIMIT:
        raise ValueError(
            f'The texts of "{name}" are {size / 2**30:.1f} GiB, but they are held in memory, '
            f"{MEMORY_LIMIT / 2**30:g} GiB at most. Give a part of them."
        )


def _refuse(name, bad, count, skip_damaged):
    """Refuses, or warns of, texts that cannot be read."""
    if not bad:
        return
    some = ", ".join(f'"{place}" ({why})' for place, why in list(bad.items())[:_SHOWN])
    some += ", ..." * (len(bad) > _SHOWN)
    if not skip_damaged or len(bad) == count:
        raise ValueError(
            f'Cannot read {len(bad)} of {count} texts of "{name}": {some}. Save them as UTF-8, '
            "remove them, or leave out what cannot be read: --skip-damaged, skip_damaged=True in "
            "Python."
        )
    warnings.warn(
        f'{len(bad)} of {count} texts of "{name}" cannot be read and are left out: {some}.',
        stacklevel=5,
    )
