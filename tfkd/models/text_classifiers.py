"""Small classifiers of texts: a convolutional network and a transformer, from strings to logits.

Built of stock Keras layers, the one that cuts texts into words included, so that a `.keras` file
holds the vocabulary, takes strings and loads without tfkd. A text without a known word is all
unknown words; one without any word is padding alone, and gets the same finite logits each time.
"""

import keras
from keras import layers, ops

from tfkd.models.text import FEATURES, PADDING, attended, checked, embedded, fed_forward

KERNEL = 3  # words that a convolution sees at once


def text_cnn(vectorizer, num_classes, *, width=64, depth=1, dropout=0.1):
    """Convolutions over embeddings, the largest value of each feature, logits (Kim 2014).

    Source: "Convolutional Neural Networks for Sentence Classification", arXiv:1408.5882, with one
    width of windows.

    Args:
        vectorizer: `keras.layers.TextVectorization` that knows its vocabulary and a length.
        num_classes: number of logits.
        width: of embeddings and features.
        depth: number of convolutions, each over three words.
        dropout: share of the features that is dropped.

    Returns:
        Functional `keras.Model`: strings (batch,) -> float32 logits (batch, num_classes).

    Raises:
        ValueError: a number outside of its range.
    """
    checked({"width": width, "depth": depth, "num_classes": num_classes}, dropout)
    text, tokens = _read(vectorizer)
    x = layers.Embedding(vectorizer.vocabulary_size(), width, name="word_embedding")(tokens)
    known = ops.expand_dims(ops.cast(ops.not_equal(tokens, PADDING), x.dtype), -1)
    x = ops.multiply(x, known)
    for number in range(1, depth + 1):
        name = f"stage{number}"
        x = layers.Conv1D(width, KERNEL, padding="same", activation="relu", name=f"{name}_conv")(x)
        x = layers.Multiply(name=f"{name}_out")([x, known])  # padding stays 0
    x = layers.GlobalMaxPooling1D(name=FEATURES)(x)
    return keras.Model(text, _logits(layers.Dropout(dropout)(x), num_classes), name="text_cnn")


def text_transformer(vectorizer, num_classes, *, width=64, depth=2, heads=4, dropout=0.1):
    """A transformer over words, its features' mean over the text, logits.

    Args:
        vectorizer, num_classes: as for `text_cnn`.
        width: of the residual stream, a multiple of `heads`.
        depth: number of blocks.
        heads: of attention.
        dropout: share that is dropped of embeddings and of what each block adds.

    Returns, Raises:
        as `text_cnn`.
    """
    numbers = {"width": width, "depth": depth, "heads": heads, "num_classes": num_classes}
    checked(numbers, dropout)
    text, tokens = _read(vectorizer)
    sizes = vectorizer.vocabulary_size(), tokens.shape[1]
    x = embedded(tokens, *sizes, width, dropout, "word_embedding")
    for number in range(1, depth + 1):
        x = fed_forward(attended(x, heads, dropout), dropout, name=f"stage{number}_out")
    x = layers.LayerNormalization(name=FEATURES)(x)
    known = ops.expand_dims(ops.cast(ops.not_equal(tokens, PADDING), x.dtype), -1)
    mean = ops.sum(ops.multiply(x, known), 1) / ops.maximum(ops.sum(known, 1), 1)
    return keras.Model(text, _logits(mean, num_classes), name="text_transformer")


def from_tokens(model):
    """The part of a model of text behind its `TextVectorization`: tokens to what it gives.

    Its weights are shared, not copied. TFLite, which knows no strings, takes this part.

    Args:
        model: functional `keras.Model` of strings (batch,).

    Returns:
        (`keras.Model` of what that gives, an input "tokens", int32 (batch, length) unless it gives
        other numbers; the layer).

    Raises:
        ValueError: the model has no such layer, or it does not give tokens of a fixed length.
    """
    found = [own for own in model.layers if isinstance(own, layers.TextVectorization)]
    shape = found[0].output.shape if len(found) == 1 else ()
    if len(shape) != 2 or shape[1] is None:
        raise ValueError(
            f'Model "{model.name}" has no one layer TextVectorization that gives tokens of a fixed '
            "length (output_sequence_length), behind which it could be cut."
        )
    (vectorizer,) = found
    given = vectorizer.output
    kind = "int32" if given.dtype == "int64" else given.dtype
    tokens = keras.Input(shape[1:], dtype=kind, name="tokens")
    part = keras.Model(given, model.output)
    return keras.Model(tokens, part(ops.cast(tokens, given.dtype)), name=model.name), vectorizer


def _read(vectorizer):
    """(the input of strings, tokens (batch, length))."""
    text = keras.Input((), dtype="string", name="text")
    return text, vectorizer(text)


def _logits(features, num_classes):
    return layers.Dense(num_classes, dtype="float32", name="logits")(features)
