"""Transformers over tokens: who sees what, padding, and the text that they make."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfkd
from tfkd.models import generation, language_model, one_pass, translator, two_passes
from tfkd.models.text import EMBEDDED

SIZE, LENGTH, START, END = 11, 8, 2, 3


@pytest.fixture(scope="module")
def language():
    keras.utils.set_random_seed(0)
    return bold(language_model(SIZE, LENGTH, width=8, depth=1, heads=2))


@pytest.fixture(scope="module")
def translating():
    keras.utils.set_random_seed(1)
    return bold(translator((9, SIZE), (6, LENGTH), width=8, depth=1, heads=2, dropout=0.3))


def test_words_are_told_apart_from_the_start():
    """Embeddings begin as large as what blocks add, each table with values of its own."""
    model = translator((900, 900), (30, 30), width=16, depth=1)
    halves = [model.get_layer(name) for name in ("encoder", "decoder")]
    tables = [
        half.get_layer(f"{s}_embedding").embeddings.numpy()
        for half, s in zip(halves, ("source", "target"), strict=True)
    ]
    for table in tables:
        np.testing.assert_allclose(table.std(), 0.5, rtol=0.05)
    assert abs(np.corrcoef(*(table.ravel() for table in tables))[0, 1]) < 0.1


def bold(model):
    """Weights far from zero, so that no two tokens are about equally likely."""
    model.set_weights([3 * weight for weight in model.get_weights()])
    return model


def tokens(*rows):
    return tf.constant(rows, tf.int32)


def test_a_token_is_not_drowned_by_what_blocks_add_to_it(language, translating):
    """Embeddings begin at a size of the order of the blocks' answers, each drawn by itself."""
    for model in (language, translating.get_layer("encoder")):
        drawn = [
            layer.embeddings.numpy() / 3
            for layer in model.layers
            if isinstance(layer, keras.layers.Embedding)
        ]
        assert np.concatenate(drawn).std() == pytest.approx(EMBEDDED, rel=0.2)
        assert len({own.ravel()[0] for own in drawn}) == 2


def test_no_position_sees_what_comes_after_it(language):
    first, second = (language(tokens([4, 5, 6, last, last])).numpy() for last in (7, 8))
    np.testing.assert_allclose(first[:, :3], second[:, :3], atol=1e-6)
    assert np.abs(first[:, 3:] - second[:, 3:]).max() > 0.1


def test_padding_changes_nothing_and_is_masked(language, translating):
    short, padded = language(tokens([4, 5, 6])), language(tokens([4, 5, 6, 0, 0]))
    np.testing.assert_allclose(padded[:, :3], short, atol=1e-5)
    assert padded._keras_mask.numpy().tolist() == [[True] * 3 + [False] * 2]
    alone = translating({"source": tokens([4, 5]), "target": tokens([2, 6])})
    beside = translating({"source": tokens([4, 5, 0, 0]), "target": tokens([2, 6, 0])})
    np.testing.assert_allclose(beside[:, :2], alone, atol=1e-5)


def test_a_batch_of_padding_alone_is_no_loss_and_no_nan(translating):
    x = {"source": tokens([4, 3], [5, 3]), "target": tf.zeros((2, 3), tf.int32)}
    out = translating(x, training=True)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    labels = tf.zeros((2, 3), tf.int64)
    assert float(loss(labels, out)) == 0.0
    assert float(tfkd.losses.LogitsDistillation()(out.numpy(), out)) == 0.0
    nothing = translating({"source": tf.zeros((1, 2), tf.int32), "target": tokens([2])})
    assert np.isfinite(nothing).all()


def test_a_token_out_of_the_vocabulary_and_a_position_too_far_are_errors(language):
    for rows in ([4, SIZE], [4] * (LENGTH + 1)):
        with pytest.raises(tf.errors.InvalidArgumentError, match="is not in"):
            language(tokens(rows))


def test_continuations_are_the_likeliest_tokens_one_by_one(language):
    prompts = tokens([4, 5, 6], [7, 0, 0])
    found = generation.continued(language, prompts, 4, LENGTH).numpy()
    one = tf.function(language, [tf.TensorSpec((1, None), tf.int32)])
    for row, prompt in zip(found, ([4, 5, 6], [7]), strict=True):
        own = list(prompt)
        for _ in range(4):
            own.append(1 + int(np.argmax(one(tokens(own))[0, -1, 1:])))
        assert row.tolist() == own[len(prompt) :]
    with pytest.raises(ValueError, match="3 tokens and 6 more are longer than the model's 8"):
        generation.continued(language, prompts, 6, LENGTH)


@pytest.fixture(scope="module")
def compiled(translating):
    """The model of one sentence by itself; the loops under test take no part."""
    signature = [tf.TensorSpec((1, None), tf.int32)] * 2
    return tf.function(
        lambda source, target: translating({"source": source, "target": target}), signature
    )


def greedy(compiled, source):
    own = [START]
    while len(own) <= LENGTH and own[-1] != END:
        own.append(1 + int(np.argmax(compiled(source, tokens(own))[0, -1, 1:])))
    return own[1:] + [0] * (LENGTH + 1 - len(own))


def test_translations_are_greedy_and_end(translating, compiled):
    head = translating.get_layer("decoder").get_layer("logits")
    before = head.bias.numpy()
    lengths = set()
    sources = tokens([4, 5, 3], [6, 3, 0])
    for end in (-40.0, 4.0, 40.0):  # the end by no means, perhaps, at once
        head.bias.assign(before + end * (np.arange(SIZE) == END))
        found = generation.translated(translating, sources, START, END, LENGTH).numpy()
        assert found.tolist() == [greedy(compiled, sources[i : i + 1]) for i in range(2)]
        lengths |= set(np.count_nonzero(found, axis=1).tolist())
    head.bias.assign(before)
    assert {1, LENGTH} <= lengths


def score(compiled, source, found):
    """Log-probability of a translation, its end included, without padding as a choice."""
    given = [START, *found[:-1]]
    logits = compiled(source, tokens(given))[0].numpy().astype("float64")
    logits = logits[:, 1:] - np.log(np.exp(logits[:, 1:]).sum(axis=-1, keepdims=True))
    return sum(logits[i, token - 1] for i, token in enumerate(found) if token)


def test_one_beam_is_greedy_and_more_find_no_less_likely_ones(translating, compiled):
    pytest.importorskip("keras_hub")
    head, source = translating.get_layer("decoder").get_layer("logits"), tokens([4, 5, 3])
    before = head.bias.numpy()
    head.bias.assign(before + 3.0 * (np.arange(SIZE) == END))
    one, several = (
        generation.beams(translating, source, START, END, 4, count).numpy()[0] for count in (1, 6)
    )
    plain = generation.translated(translating, source, START, END, 4).numpy()[0]
    assert one.tolist() == plain.tolist()
    assert score(compiled, source, several) >= score(compiled, source, plain) - 1e-6
    ends = np.flatnonzero(several == END)
    assert not len(ends) or not several[ends[0] + 1 :].any()
    head.bias.assign(before)


def test_two_passes_share_the_weights_and_differ_by_dropout_alone(translating):
    both = two_passes(translating)
    x = {"source": tokens([4, 5, 3]), "target": tokens([2, 6, 7])}
    assert both.count_params() == translating.count_params()
    still = both(x, training=False)
    np.testing.assert_array_equal(still["output"], still["again"])
    np.testing.assert_array_equal(one_pass(both)(x), translating(x))
    padded = both({"source": tokens([4, 3, 0]), "target": tokens([2, 6, 0])})
    for name in ("output", "again", "encoded", "encoded_again"):
        assert padded[name]._keras_mask.numpy().tolist() == [[True, True, False]], name
    moved = both(x, training=True)
    assert np.abs(moved["output"] - moved["again"]).max() > 1e-2
    assert np.abs(moved["encoded"] - moved["encoded_again"]).max() > 1e-2


def test_sizes_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match="must be a multiple of heads"):
        language_model(5, 4, width=6, heads=4)
    with pytest.raises(ValueError, match="depth must be a whole number"):
        language_model(5, 4, depth=0)
