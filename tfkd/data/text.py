"""Texts as data sets: windows of a running text, and pairs of sentences."""

from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from tfkd._extras import needs_extra
from tfkd.data import small_grammar, vocabulary
from tfkd.data.pipeline import Source, from_arrays, from_source, source_of
from tfkd.data.splits import DataInfo, Splits, divide, fingerprint, roles, subset
from tfkd.data.vocabulary import END, START, Vocabulary

_ROLES = ("train", "validation", "test")


@dataclass(frozen=True)
class TextInfo(DataInfo):
    """What a data set of text is.

    Attributes:
        vocabularies: `Vocabulary` of the text; of pairs of the source and of the target.
        lengths: the longest sequence of tokens of each.
    """

    vocabularies: tuple = ()
    lengths: tuple = ()


def windows(name, length, data_dir=None, limit=None):
    """A running text as windows of tokens, for a language model over characters.

    Characters, because a small text has few of them: nothing is unknown, the model's embedding and
    head are small beside its blocks, and perplexity needs no word of what a token is.

    Args:
        name: "small_grammar", or a TFDS name of a set with one feature of text.
        length: tokens that a model sees at once.
        data_dir: where TFDS data lies.
        limit: at most so many training windows.

    Returns:
        `Splits` of (tokens int32 (length,), next tokens int64 (length,)), in the text's order. What
        the training text has no character of is unknown in the other two.

    Raises:
        ValueError: a text that is shorter than a window, or data of another kind.
    """
    texts = _running_texts(name, data_dir)
    known = Vocabulary.of("characters", [texts["train"]])
    arrays = {}
    for role, text in texts.items():
        tokens = known.encode(tf.constant([text])).flat_values.numpy()
        count = (len(tokens) - 1) // length
        if count < 1:
            raise ValueError(
                f'The {role} text of "{name}" has {len(tokens)} characters, too few for one window '
                f"of {length} and the one after it. Give a smaller length."
            )
        cut = [tokens[shift : shift + count * length].reshape(-1, length) for shift in (0, 1)]
        arrays[role] = (cut[0].astype("int32"), cut[1].astype("int64"))
    parts = divide({r: np.zeros(len(a[0]), np.int64) for r, a in arrays.items()}, name, limit=limit)
    cut = {}
    for role in _ROLES:
        given, following = arrays[parts[role].split]
        cut[role] = (given[parts[role].indices], following[parts[role].indices])
    pieces = [part for role in _ROLES for part in (role, *cut[role])]
    sizes = {role: len(cut[role][0]) for role in _ROLES}
    info = _info(name, sizes, fingerprint(*pieces), (known,), (length,))
    return Splits(*(from_arrays(*cut[role]) for role in _ROLES), info)


def sentence_pairs(name, length, words, data_dir=None, limit=None, monolingual=0.0):
    """Pairs of sentences, for a translator over words.

    Words in lower case, because TensorFlow's own string operations cut and join them, in an export
    too, where word pieces need those of TensorFlow Text.

    Args:
        name: "small_grammar", or a TFDS name of a set with two features of text.
        length: tokens of the longest sentence, its end included. Longer pairs are no training
            examples; of longer sentences of the other splits the beginning is read.
        words: size of each vocabulary at most.
        data_dir: where TFDS data lies.
        limit: at most so many training pairs, and a twentieth as many for validation (but 100).
        monolingual: training sentences without a translation, as a share of the pairs: sources
            that `limit` leaves out, or, as far as there are none, those of the pairs again.

    Returns:
        `Splits` of (source string, target string); a sentence without a translation has the target
        "". Its info's findings say what was left out.

    Raises:
        ValueError: no pairs are left, or data of another kind.
    """
    pairs, findings = _pairs(name, data_dir), []
    for role, (sources, targets) in pairs.items():
        kept = [bool(s.strip() and t.strip()) for s, t in zip(sources, targets, strict=True)]
        if not all(kept):
            findings.append(f"{kept.count(False)} pairs of {role} with an empty side are left out.")
            pairs[role] = tuple(
                [text for text, keep in zip(side, kept, strict=True) if keep]
                for side in (sources, targets)
            )
    parts = divide({r: np.zeros(len(p[0]), np.int64) for r, p in pairs.items()}, name, limit=limit)
    rows = {role: parts[role].indices for role in _ROLES}
    if limit is not None:  # every epoch translates them
        few = min(max(100, limit // 20), len(rows["validation"]))
        rows["validation"] = rows["validation"][subset(rows["validation"] * 0, few, 0)]
    cut = {role: _at(pairs[parts[role].split], rows[role]) for role in _ROLES}
    fits = _fit(cut["train"], length)
    if not any(fits):
        raise ValueError(f'No training pair of "{name}" has less than {length} tokens a side.')
    if not all(fits):
        long = fits.count(False)
        findings.append(f"{long} training pairs of more than {length - 1} tokens are left out.")
        cut["train"] = _at(cut["train"], np.flatnonzero(fits))
    known = tuple(Vocabulary.of("words", list(side), words) for side in cut["train"])
    wanted = round(monolingual * len(cut["train"][0]))
    if wanted:
        others = np.setdiff1d(np.arange(len(pairs["train"][0])), parts["train"].indices)
        used = {parts[role].split: parts[role].indices for role in ("validation", "test")}
        others = np.setdiff1d(others, used.get("train", []))
        alone = _at(pairs["train"], others)[0] or cut["train"][0]
        alone = [alone[i % len(alone)] for i in range(wanted)]
        cut["train"] = (cut["train"][0] + alone, cut["train"][1] + [""] * wanted)
        findings.append(f"{wanted} training sentences have no translation.")
    pieces = [text for role in _ROLES for text in (role, *cut[role][0], *cut[role][1])]
    sizes = {role: len(cut[role][0]) for role in _ROLES}
    info = _info(name, sizes, fingerprint(*pieces), known, (length, length), tuple(findings))
    return Splits(*(_of_strings(*cut[role]) for role in _ROLES), info)


def source_tokens(info, sources):
    """Sources as a translator reads them: words and end, int32 (batch, sources), padded with 0.

    Args:
        info: `TextInfo` of pairs.
        sources: string tensor (batch,). What is longer than the model is cut before its end; an
            empty sentence is its end alone.
    """
    words = info.vocabularies[0].encode(sources)[:, : info.lengths[0] - 1]
    return _framed(words, after=END).to_tensor()


def target_tokens(info, targets):
    """Translations so far as a translator reads them: start and words, int32 (batch, positions).

    Args:
        info: `TextInfo` of pairs.
        targets: string tensor (batch,). What is longer than the model is cut.
    """
    words = info.vocabularies[1].encode(targets)[:, : info.lengths[1] - 1]
    return _framed(words, before=START).to_tensor()


def pair_tokens(info, sources, targets):
    """Pairs as a translator learns from them.

    Args:
        info: `TextInfo` of pairs.
        sources, targets: string tensors (batch,). A pair with the target "" has no translation: all
            its positions are padding, which counts in no loss.

    Returns:
        ({"source": int32 (batch, sources), "target": int32 (batch, positions)}, next tokens int64
        (batch, positions)), as long as the longest of the batch.
    """
    words = info.vocabularies[1].encode(targets)[:, : info.lengths[1] - 1]
    framed = _framed(words, START, END).to_tensor()
    framed *= tf.cast(targets != "", tf.int32)[:, None]
    # The end is a label, and no input.
    given = tf.where(framed[:, 1:] == 0, 0, framed[:, :-1])
    x = {"source": source_tokens(info, sources), "target": given}
    return x, tf.cast(framed[:, 1:], tf.int64)


def token_pairs(dataset, info):
    """Pairs of sentences as `pair_tokens` makes them, unbatched, all padded to the longest.

    Args:
        dataset: unbatched, of (source string, target string).
        info: `TextInfo` of pairs.

    Returns:
        Unbatched `tf.data.Dataset` of ({"source": int32 (lengths[0],), "target": int32
        (lengths[1],)}, next tokens int64 (lengths[1],)).
    """
    source = source_of(dataset)

    def gather(indices):
        x, y = pair_tokens(info, *source.gather(indices))
        sides = {"source": info.lengths[0], "target": info.lengths[1]}
        return {name: _filled(x[name], sides[name]) for name in sides}, _filled(y, sides["target"])

    return from_source(Source(source.size, gather))


def without_padding(x, y, *others):
    """A batch of `token_pairs` as long as the longest of its sentences.

    Args:
        x, y: as of `pair_tokens`, padded further.
        others: sample weights and stored answers, {"output": (batch, positions, ...)} and the
            examples' numbers; or nothing.
    """
    sources = tf.reduce_max(tf.math.count_nonzero(x["source"], axis=1))
    targets = tf.maximum(tf.reduce_max(tf.math.count_nonzero(y, axis=1)), 1)
    x = {"source": x["source"][:, :sources], "target": x["target"][:, :targets]}
    if not others:
        return x, y[:, :targets]
    weights, said = others
    return x, y[:, :targets], weights, {**said, "output": said["output"][:, :targets]}


def lines_of(dataset):
    """(sources, targets) of an unbatched dataset of pairs, lists of str."""
    pairs = list(dataset.batch(4096).as_numpy_iterator())
    return tuple([text.decode("utf-8") for part in pairs for text in part[i]] for i in range(2))


def with_targets(splits, targets):
    """The same data, its training targets others: those of a teacher, say.

    Args:
        splits: as `sentence_pairs` returns them.
        targets: list of str, one for each training example.
    """
    sources, old = lines_of(splits.train)
    if len(targets) != len(old):
        raise ValueError(
            f"Expected {len(old)} targets, one a training example; got {len(targets)}."
        )
    new = [text if was else "" for text, was in zip(targets, old, strict=True)]
    return splits._replace(train=_of_strings(sources, new))


def _filled(tokens, length):
    missing = length - tf.shape(tokens)[1]
    return tf.ensure_shape(tf.pad(tokens, [[0, 0], [0, missing]]), (None, length))


def _framed(words, before=None, after=None):
    rows = tf.fill((words.nrows(), 1), 0)
    parts = [] if before is None else [tf.RaggedTensor.from_tensor(rows + before)]
    parts.append(words)
    parts += [] if after is None else [tf.RaggedTensor.from_tensor(rows + after)]
    return tf.concat([tf.cast(p.with_row_splits_dtype(tf.int64), tf.int32) for p in parts], axis=1)


def _fit(pair, length):
    """Whether both sentences of each pair have room for their end: list of bool."""
    counts = [vocabulary.split("words", tf.constant(side)).row_lengths().numpy() for side in pair]
    return [max(both) < length for both in zip(*counts, strict=True)]


def _of_strings(sources, targets):
    sources, targets = tf.constant(sources, tf.string), tf.constant(targets, tf.string)
    gather = lambda rows: (tf.gather(sources, rows), tf.gather(targets, rows))  # noqa: E731
    return from_source(Source(len(sources), gather))


def _at(pair, rows):
    return tuple([side[row] for row in rows] for side in pair)


def _info(name, sizes, print_, known, lengths, findings=()):
    return TextInfo(
        name=name,
        image_shape=(),
        num_classes=known[-1].size,
        label_names=(),
        sizes=sizes,
        fingerprint=print_,
        findings=findings,
        vocabularies=known,
        lengths=lengths,
    )


def _running_texts(name, data_dir):
    """{role: str} of a set with one feature of text; several texts a split are lines of one."""
    if name == small_grammar.NAME:
        return {role: "\n".join(pair[0]) for role, pair in _small_grammar().items()}
    return {role: "\n".join(texts) for role, (texts,) in _read(name, data_dir, 1).items()}


def _pairs(name, data_dir):
    if name == small_grammar.NAME:
        return _small_grammar()
    return _read(name, data_dir, 2)


def _small_grammar():
    counts = small_grammar.PAIRS.items()
    return {role: small_grammar.pairs(count, seed) for seed, (role, count) in enumerate(counts)}


def _read(name, data_dir, count):
    """{role: one list of str a feature} of a TFDS set with so many features of text."""
    needs_extra("data", f'Reading "{name}"')
    import tensorflow_datasets as tfds

    from tfkd.data import loading

    _, builder = loading.find(name, data_dir)
    wanted = "one feature of text" if count == 1 else "two features of text, a pair of sentences"
    if not hasattr(builder, "info"):
        raise ValueError(
            f'"{name}" is no set of text: expected a TFDS name of a set with {wanted}.'
        )
    features = builder.info.features
    keys = [key for key in features if isinstance(features[key], tfds.features.Text)]
    supervised = builder.info.supervised_keys
    if count == 2 and supervised and set(supervised) <= set(keys):
        keys = list(supervised)
    if len(keys) != count:
        raise ValueError(
            f'"{name}" has the features {list(features)}, of which {keys} are text; expected '
            f"{wanted}."
        )
    if not builder.info.splits:
        raise FileNotFoundError(f'"{name}" is not prepared in {builder.data_path}.')
    found = {}
    for role, split in roles(list(builder.info.splits), name).items():
        examples = builder.as_dataset(split=split, shuffle_files=False).as_numpy_iterator()
        rows = [[example[key].decode("utf-8") for key in keys] for example in examples]
        found[role] = tuple(list(side) for side in zip(*rows, strict=True))
    return found
