"""Classifiers of strings: what padding, word order and the vocabulary do to their logits."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfkd.data.labelled_texts import vectorizer
from tfkd.evaluation import multiply_adds
from tfkd.models import text_classifiers

WORDS = ("red", "boat", "old", "house", "king")
TEXTS = ["red boat", "boat red", "Red, boat!", "", "?!", "red boat old house king red boat"]


def build(name, length=4, **options):
    builder = getattr(text_classifiers, name)
    model = builder(vectorizer(WORDS, length), 3, width=8, depth=1, **options)
    model.set_weights([3 * weight for weight in model.get_weights()])
    return model


@pytest.fixture(params=["text_cnn", "text_transformer"], scope="module")
def model(request):
    keras.utils.set_random_seed(0)
    return build(request.param)


def test_what_counts_in_a_text(model, tmp_path):
    logits = model(tf.constant(TEXTS)).numpy()
    assert logits.shape == (6, 3) and logits.dtype == np.float32
    np.testing.assert_array_equal(logits[0], logits[2])  # capitals and punctuation
    assert np.abs(logits[0] - logits[1]).max() > 1e-3  # the order of words
    np.testing.assert_array_equal(logits[3], logits[4])  # no word at all
    cut = model(tf.constant(["red boat old house"])).numpy()
    np.testing.assert_allclose(logits[5], cut[0], rtol=1e-5)  # longer than the model
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded(tf.constant(TEXTS)), logits)


def test_padding_counts_nowhere(model):
    """The same weights with room for twice as many words."""
    longer = build(model.name, length=8)
    weights = model.get_weights()
    for number, (own, other) in enumerate(zip(weights, longer.get_weights(), strict=True)):
        if own.shape != other.shape:  # embeddings of positions
            weights[number] = np.concatenate([own, other[len(own) :]])
    longer.set_weights(weights)
    short = tf.constant(TEXTS[:5])
    np.testing.assert_allclose(model(short), longer(short), atol=1e-5)


def test_the_part_behind_the_words(model):
    part, own = text_classifiers.from_tokens(model)
    tokens = own(tf.constant(TEXTS))
    assert tokens.numpy()[0].tolist() == [2, 3, 0, 0]  # 0 is padding, 1 what is not known
    np.testing.assert_allclose(part(tokens), model(tf.constant(TEXTS)), atol=1e-6)
    with pytest.raises(ValueError, match="has no one layer TextVectorization"):
        text_classifiers.from_tokens(part)


def test_multiply_adds_of_a_text_of_full_length():
    # 4 positions of a convolution over 3 words of 8 features, then 8 features to 3 logits.
    assert multiply_adds(build("text_cnn")) == 4 * 3 * 8 * 8 + 8 * 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"width": 0}, "width must be a whole number of at least 1"),
        ({"width": 6, "heads": 4}, r"width \(6\) must be a multiple of heads \(4\)"),
        ({"depth": True}, "depth must be a whole number"),
        ({"dropout": 1}, "dropout must be at least 0 and below 1"),
    ],
    ids=["width", "heads", "depth", "dropout"],
)
def test_numbers_that_cannot_be(options, message):
    with pytest.raises(ValueError, match=message):
        text_classifiers.text_transformer(vectorizer(WORDS, 4), 3, **options)
