"""Texts of classes: built in, a folder of text files, a CSV or TSV table, or a TFDS set."""

from dataclasses import dataclass, field
from typing import ClassVar

import keras
import numpy as np
import tensorflow as tf

from tfkd.data import text_sources
from tfkd.data.findings import of_repeats, of_sizes, repeats
from tfkd.data.pipeline import Source, from_source
from tfkd.data.splits import DataInfo, Splits, check_labels, divide, fingerprint

_ROLES = ("train", "validation", "test")
# What a model reads of a text unless told: all of most texts, up to so many words.
_FITTING, _LONGEST = 0.95, 256
_LONG_WORD = 20  # characters: longer texts are no words


@dataclass(frozen=True)
class LabelledTextsInfo(DataInfo):
    """What a data set of labelled texts is.

    Attributes:
        words: tuple of str, the words of the training texts as `vectorizer` cuts them, the most
            frequent first.
        counts: sorted int array (training texts,), how many words each has.
    """

    things: ClassVar[str] = "texts"

    words: tuple = field(default=(), repr=False)
    counts: np.ndarray = field(default=None, repr=False, compare=False)

    @property
    def usual_length(self):
        """Words of a text that is longer than 19 of 20, and 256 at most."""
        longest = int(self.counts[int(np.ceil(_FITTING * len(self.counts))) - 1])
        return max(1, min(_LONGEST, longest))


def vectorizer(words=None, length=None, **options):
    """`keras.layers.TextVectorization` as models of text have it: words in lower case, cut at
    spaces, without ASCII's punctuation (capitals beyond ASCII stay capitals).

    Args:
        words: list of str that it knows; padding is token 0, any other word token 1.
        length: to which texts are padded and cut.
        **options: others of that layer.
    """
    vocabulary = None if words is None else list(words)
    return keras.layers.TextVectorization(
        vocabulary=vocabulary, output_sequence_length=length, name="vectorize", **options
    )


def load(name, data_dir=None, *, skip_damaged=False, **division):
    """Loads texts of classes as train, validation and test.

    A folder holds a folder for each class with files .txt, perhaps below a folder for each split,
    as `tfkd.data.load` reads images. A table (.csv or .tsv) has the columns "text" and "label",
    perhaps "split" (train, validation or test). A TFDS set has one Text and one ClassLabel. All of
    it is UTF-8, and held in memory. Texts without a word are left out, and the findings say so.

    Args:
        name: "who_acted" (built in), a folder, a table, or a TFDS name.
        data_dir: where TFDS data lies.
        skip_damaged: leave out texts that are not UTF-8, and classes without any text, with a
            warning, instead of stopping.
        **division: validation_fraction, seed, limit, as `tfkd.data.load` takes them.

    Returns:
        `tfkd.data.Splits`: unbatched datasets of (string, int64 label), and `LabelledTextsInfo`.

    Raises:
        ValueError, FileNotFoundError: what cannot be read, and how to fix it.
    """
    published, names = text_sources.read(name, data_dir, skip_damaged)
    findings = []
    for role, own in published.items():
        check_labels(own.labels, len(names), role, name)
        published[role] = _with_words(role, own, findings)
    _require_classes(published, names, name)
    parts = divide({role: own.labels for role, own in published.items()}, str(name), **division)
    cut = {role: _at(published[parts[role].split], parts[role].indices) for role in _ROLES}
    findings += _repeated(cut)
    counts = {role: np.bincount(own.labels, minlength=len(names)) for role, own in cut.items()}
    findings += of_sizes(counts, names, "text")
    words, lengths = _words(cut["train"].texts, name)
    if np.median(lengths) <= 1 < _LONG_WORD <= np.median([*map(len, cut["train"].texts)]):
        findings.append(
            "Half of the training texts are one word each, for texts are cut at spaces. Of a "
            "language without spaces give models of your own, as .keras files, whose "
            'TextVectorization has split="character".'
        )
    pieces = [(role, *own.texts, own.labels) for role, own in cut.items()]
    info = LabelledTextsInfo(
        name=str(name),
        image_shape=(),
        num_classes=len(names),
        label_names=tuple(names),
        sizes={role: len(own.labels) for role, own in cut.items()},
        fingerprint=fingerprint(*names, *(piece for own in pieces for piece in own)),
        findings=tuple(findings),
        words=words,
        counts=lengths,
    )
    return Splits(*(_dataset(cut[role]) for role in _ROLES), info)


def cut(model, info):
    """(how many training texts are longer than a model reads, how many words it reads).

    (0, None) where that is not known: a model whose words are others than those of `vectorizer`.

    Args:
        model: `keras.Model` of strings.
        info: `LabelledTextsInfo`.
    """
    own = [layer for layer in model.layers if isinstance(layer, keras.layers.TextVectorization)]
    if len(own) != 1:
        return 0, None
    usual, config = vectorizer().get_config(), own[0].get_config()
    length = config["output_sequence_length"]
    same = all(usual[key] == config[key] for key in ("standardize", "split", "ngrams"))
    return (int((info.counts > length).sum()), length) if same and length else (0, None)


def _with_words(role, own, findings):
    """The texts that hold a word; a sentence about the others."""
    kept = np.array([bool(text.strip()) for text in own.texts], bool)
    if not kept.all():
        first = own.places[int(np.argmin(kept))]
        findings.append(
            f"{int((~kept).sum())} empty texts of {role} are left out, such as {first}."
        )
    return _at(own, np.flatnonzero(kept))


def _require_classes(published, names, name):
    counts = np.bincount(published["train"].labels, minlength=len(names))
    if len(names) < 2:
        raise ValueError(
            f'All texts of "{name}" are of one class{"".join(f", {own!r}" for own in names)}: '
            "there is nothing to tell apart."
        )
    if not counts.all():
        lacking = [own for own, count in zip(names, counts, strict=True) if not count]
        raise ValueError(
            f'No training text of "{name}" has the class {", ".join(map(repr, lacking[:5]))}: '
            "it cannot be learnt. Add some, or leave the class out."
        )


def _at(own, rows):
    texts, places = ([side[n] for n in rows] for side in (own.texts, own.places))
    return own._replace(texts=texts, labels=own.labels[rows], places=places)


def _repeated(cut):
    """Sentences about texts that are there more than once."""
    texts = [text.strip() for own in cut.values() for text in own.texts]
    roles = [role for role, own in cut.items() for _ in own.texts]
    labels = np.concatenate([own.labels for own in cut.values()])
    places = [place for own in cut.values() for place in own.places]
    return of_repeats(repeats(texts), roles, labels, places.__getitem__, "text", "texts")


def _words(texts, name):
    """(words of the texts, the most frequent first; sorted array of how many each text has).

    Raises:
        ValueError: they have none.
    """
    layer = vectorizer(ragged=True)
    batches = tf.data.Dataset.from_tensor_slices(tf.constant(texts)).batch(1024)
    layer.adapt(batches)
    words = layer.get_vocabulary(include_special_tokens=False)
    if not words:
        raise ValueError(
            f'The training texts of "{name}" are punctuation alone: there is no word to learn from.'
        )
    counts = [layer(batch).row_lengths().numpy() for batch in batches]
    return tuple(map(str, words)), np.sort(np.hstack(counts))


def _dataset(own):
    texts, labels = tf.constant(own.texts, tf.string), tf.constant(own.labels)

    def gather(rows):
        return tf.gather(texts, rows), tf.gather(labels, rows)

    return from_source(Source(len(own.labels), gather))
