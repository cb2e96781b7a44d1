"""Which text is which tokens: characters, or words, by TensorFlow's string operations alone.

Both ways back and forth run in a graph, so that an exported model takes text and gives text.
"""

import collections

import keras
import tensorflow as tf

from tfkd.data.splits import fingerprint

PADDING, UNKNOWN, START, END = range(4)
SPECIAL = ("", "[UNK]", "[START]", "[END]")
# Between letters, digits, apostrophes and hyphens nothing is cut; every other sign is a word.
_SIGN = r"([^\pL\pM\pN\s'-])"


class Vocabulary:
    """Text to tokens and back.

    Tokens 0 to 3 are padding, what is not in the vocabulary, the start and the end of a sentence.

    Args:
        kind: "characters", or "words": lower case, cut at spaces, each punctuation mark a word.
        tokens: tuple of str, each once, without the first four.

    Attributes:
        size: number of tokens, the first four included.
        identity: eight hexadecimal digits that tell vocabularies apart.

    Raises:
        ValueError: another kind, or tokens that repeat.
    """

    def __init__(self, kind, tokens):
        if kind not in ("characters", "words"):
            raise ValueError(f'kind must be "characters" or "words", got {kind!r}.')
        tokens = tuple(tokens)
        if not tokens or len({*tokens, *SPECIAL}) < len(tokens) + len(SPECIAL):
            raise ValueError(
                f"A vocabulary needs tokens, each once and none of {list(SPECIAL)}; got "
                f"{len(tokens)}."
            )
        self.kind, self.tokens, self.size = kind, tokens, len(tokens) + len(SPECIAL)
        self.identity = fingerprint(kind, *tokens).removeprefix("sha256:")[:8]
        known = {
            "vocabulary": [*SPECIAL[2:], *tokens],
            "mask_token": SPECIAL[PADDING],
            "oov_token": SPECIAL[UNKNOWN],
        }
        with tf.init_scope():
            self._ids = keras.layers.StringLookup(**known)
            self._names = keras.layers.StringLookup(**known, invert=True)

    @classmethod
    def of(cls, kind, texts, limit=None):
        """The vocabulary of texts: their most frequent tokens, the more frequent first.

        Args:
            kind: as of the class.
            texts: list of str.
            limit: at most so many tokens, the first four included; None for all.

        Raises:
            ValueError: there is no token in the texts, or the limit leaves none.
        """
        counts = collections.Counter()
        for start in range(0, len(texts), 4096):
            part = split(kind, tf.constant(texts[start : start + 4096]))
            counts.update(token.decode("utf-8") for token in part.flat_values.numpy())
        for special in SPECIAL:
            counts.pop(special, None)
        if not counts:
            raise ValueError("There is no text to make a vocabulary of: all texts are empty.")
        if limit is not None and limit <= len(SPECIAL):
            raise ValueError(
                f"A vocabulary of {limit} tokens has no room: {len(SPECIAL)} of them are padding, "
                "unknown, start and end."
            )
        ordered = sorted(counts, key=lambda token: (-counts[token], token))
        return cls(kind, ordered[: None if limit is None else limit - len(SPECIAL)])

    @property
    def tables(self):
        """The lookup tables, for whoever saves a function that reads them."""
        return [self._ids.lookup_table, self._names.lookup_table]

    def encode(self, texts):
        """Tokens of texts, without start and end: `tf.RaggedTensor` int32 (batch, tokens).

        Args:
            texts: string tensor, shape (batch,). What is not in the vocabulary becomes token 1.
        """
        pieces = split(self.kind, texts)
        return pieces.with_flat_values(tf.cast(self._ids(pieces.flat_values), tf.int32))

    def decode(self, tokens):
        """Text of tokens: string tensor (batch,).

        Args:
            tokens: int tensor (batch, positions). What follows the first end is left out, and so
                are padding and starts.
        """
        tokens = tf.convert_to_tensor(tokens)
        ends = tf.cast(tokens == END, tf.int32)
        shown = (tf.cumsum(ends, axis=1) == 0) & (tokens != PADDING) & (tokens != START)
        names = tf.ragged.boolean_mask(self._names(tokens), shown)
        return tf.strings.reduce_join(names, 1, separator=" " if self.kind == "words" else "")


def split(kind, texts):
    """Texts in pieces, as a vocabulary of that kind reads them: ragged strings (batch, pieces)."""
    if kind == "characters":
        return tf.strings.unicode_split(texts, "UTF-8", errors="replace")
    lowered = tf.strings.lower(texts, encoding="utf-8")
    return tf.strings.split(tf.strings.regex_replace(lowered, _SIGN, r" \1 "))
