"""Text as tokens and back, windows of it, pairs of sentences, the small grammar."""

import numpy as np
import pytest
import tensorflow as tf

from tfkd.data import small_grammar, text
from tfkd.data.vocabulary import END, PADDING, START, UNKNOWN, Vocabulary


@pytest.fixture(scope="module")
def words():
    return Vocabulary.of("words", ["The boat, the man's boat.", "Ein Käse-Boot!"])


@pytest.fixture(scope="module")
def pairs():
    return text.sentence_pairs("small_grammar", 10, 40, limit=200, monolingual=0.5)


def test_words_are_lower_case_and_cut_at_signs_but_not_inside(words):
    # The more frequent first, then by the alphabet.
    assert words.tokens[:2] == ("boat", "the")
    assert set(words.tokens[2:]) == {"!", ",", ".", "ein", "käse-boot", "man's"}
    assert words.size == len(words.tokens) + 4
    encoded = words.encode(tf.constant(["THE KÄSE-BOOT, gone", "", "[END]"]))
    names = dict(zip(words.tokens, range(4, words.size), strict=True))
    assert encoded.to_list() == [
        [names["the"], names["käse-boot"], names[","], UNKNOWN],
        [],
        [UNKNOWN] * 3,  # what a text says is no token of ours
    ]


def test_text_ends_at_the_first_end(words):
    names = {token: i for i, token in enumerate(words.tokens, 4)}
    row = [START, names["the"], names["boat"], END, names["the"], PADDING]
    assert words.decode([row]).numpy().tolist() == [b"the boat"]
    assert words.decode([[UNKNOWN, END]]).numpy().tolist() == [b"[UNK]"]


def test_characters_of_any_script_come_back():
    known = Vocabulary.of("characters", ["Grüße,\nÆ ☃"])
    line = "ÆÜ ☃\n"
    found = known.decode(known.encode(tf.constant([line])).to_tensor())
    assert found.numpy()[0].decode() == "Æ[UNK] ☃\n"
    assert known.encode(tf.constant([b"\xff"])).to_list() == [[UNKNOWN]]  # no UTF-8


def test_vocabularies_are_told_apart_and_cut_to_the_frequent(words):
    few = Vocabulary.of("words", ["a a b b b c"], 6)
    assert few.tokens == ("b", "a")
    assert few.identity == Vocabulary("words", ("b", "a")).identity
    assert few.identity != Vocabulary("words", ("a", "b")).identity
    assert few.identity != Vocabulary("characters", ("b", "a")).identity
    with pytest.raises(ValueError, match="no text to make a vocabulary of"):
        Vocabulary.of("words", ["", " "])
    with pytest.raises(ValueError, match="has no room"):
        Vocabulary.of("words", ["a"], 4)
    with pytest.raises(ValueError, match="each once"):
        Vocabulary("words", ("a", "[END]"))


def test_windows_are_the_text_and_its_next_characters():
    splits = text.windows("small_grammar", 50, limit=30)
    (known,) = splits.info.vocabularies
    given, following = next(iter(splits.train.batch(30)))
    assert given.shape == (30, 50) and splits.info.sizes["train"] == 30
    np.testing.assert_array_equal(given[:, 1:], following[:, :-1])
    whole = "\n".join(small_grammar.pairs(small_grammar.PAIRS["test"], 2)[0])
    test = known.decode(next(iter(splits.test.batch(2)))[0]).numpy()
    assert b"".join(test).decode() == whole[:100]
    again = text.windows("small_grammar", 50, limit=30)
    assert again.info.fingerprint == splits.info.fingerprint
    with pytest.raises(ValueError, match="too few for one window of 99999"):
        text.windows("small_grammar", 99999)


def test_pairs_become_what_a_translator_reads(pairs):
    info = pairs.info
    known = info.vocabularies[1]
    sources, targets = tf.constant(["the boat .", "", "a boat"]), tf.constant(["ke .", "ke", ""])
    x, y = text.pair_tokens(info, sources, targets)
    ke, stop = known.encode(tf.constant(["ke ."])).to_list()[0]
    assert y.numpy().tolist() == [[ke, stop, END], [ke, END, 0], [0, 0, 0]]
    assert x["target"].numpy().tolist() == [[START, ke, stop], [START, ke, 0], [0, 0, 0]]
    assert x["source"].numpy()[1].tolist() == [END, 0, 0, 0]  # an empty sentence is its end
    long = text.source_tokens(info, tf.constant(["boat " * 30])).numpy()[0]
    assert long.shape == (10,) and long[-1] == END
    assert text.target_tokens(info, tf.constant([""])).numpy().tolist() == [[START]]


def test_long_pairs_are_left_out_and_said_and_sentences_without_translation_are_others(pairs):
    sources, targets = text.lines_of(pairs.train)
    whole = small_grammar.pairs(small_grammar.PAIRS["train"], 0)
    alone = [source for source, target in zip(sources, targets, strict=True) if not target]
    both = [(s, t) for s, t in zip(sources, targets, strict=True) if t]
    assert len(alone) == round(0.5 * len(both)) and pairs.info.sizes["train"] == len(sources)
    assert set(both) <= set(zip(*whole, strict=True))
    assert all(len(side.split()) < 10 for pair in both for side in pair)
    left_out, told = pairs.info.findings
    assert left_out == f"{200 - len(both)} training pairs of more than 9 tokens are left out."
    assert told == f"{len(alone)} training sentences have no translation."
    assert pairs.info.sizes["validation"] == 100  # few, but no fewer
    assert pairs.info.sizes["test"] == small_grammar.PAIRS["test"]
    assert all(own.size <= 40 for own in pairs.info.vocabularies)
    taught = text.with_targets(pairs, ["x"] * len(sources))
    assert text.lines_of(taught.train) == (sources, ["x" if t else "" for t in targets])
    with pytest.raises(ValueError, match="one a training example; got 1"):
        text.with_targets(pairs, ["x"])


def test_empty_sentences_are_left_out_and_said(monkeypatch):
    made = {"train": (["a b", "", "c d"] * 9, ["x", "y", " "] * 9)}
    monkeypatch.setattr(text, "_pairs", lambda name, data_dir: dict(made))
    splits = text.sentence_pairs("own", 5, 9)
    assert splits.info.findings == ("18 pairs of train with an empty side are left out.",)
    assert sum(splits.info.sizes.values()) == 9
    with pytest.raises(ValueError, match='No training pair of "own" has less than 2 tokens'):
        text.sentence_pairs("own", 2, 9)


def test_the_grammar_is_the_same_everywhere():
    english, translation = small_grammar.pairs(3, 0)
    assert english[2] == "anna sees a bell in the bridge , and the doctor sees a young house ."
    assert translation[2] == "anna boronu tima sopura femo , ke fifesto vanemi vepu femo ."
    table = dict(zip(*small_grammar.pairs(2000, 1), strict=True))
    again = dict(zip(*small_grammar.pairs(2000, 2), strict=True))
    shared = set(table) & set(again)
    assert len(shared) > 20 and all(table[line] == again[line] for line in shared)
