"""Text from models: tokens are chosen one after the other, in one compiled loop."""

import tensorflow as tf

from tfkd import _extras
from tfkd.models.text import DECODER, ENCODER, FEATURES, PADDING


def continued(model, tokens, steps, length):
    """The likeliest continuations of token sequences, each token chosen greedily.

    Args:
        model: a language model, as `tfkd.models.text.language_model` makes it.
        tokens: int32 (batch, positions), padded with 0 on the right; rows may differ in length, and
            each begins with a token.
        steps: how many tokens to add.
        length: the longest sequence of the model.

    Returns:
        int32 (batch, steps).

    Raises:
        ValueError: sequences that would be too long.
    """
    tokens = tf.convert_to_tensor(tokens)
    wanted = tokens.shape[1]
    if wanted is not None and wanted + steps > length:
        raise ValueError(
            f"{wanted} tokens and {steps} more are longer than the model's {length}. Give the last "
            f"{max(length - steps, 0)} tokens, or fewer steps."
        )
    batch = tf.shape(tokens)[0]
    ends = tf.math.count_nonzero(tokens, axis=1, dtype=tf.int32)
    longest = tf.reduce_max(ends)
    rows = tf.range(batch)
    text = tf.pad(tokens, [[0, 0], [0, steps]])

    def step(number, text):
        logits = model(text[:, : longest + number], training=False)
        last = tf.gather(logits, ends + number - 1, batch_dims=1)
        places = tf.stack([rows, ends + number], axis=1)
        return number + 1, tf.tensor_scatter_nd_update(text, places, _likeliest(last))

    _, text = tf.while_loop(
        lambda number, _: number < steps, step, (tf.constant(0), text), maximum_iterations=steps
    )
    return tf.gather(text, ends[:, None] + tf.range(steps)[None], batch_dims=1)


def translated(model, source, start, end, length):
    """The likeliest translations, each token chosen greedily.

    The encoder runs once. A translation ends with its first `end`, and at the latest with `length`
    tokens.

    Args:
        model: as `tfkd.models.text.translator` makes it.
        source: int32 (batch, sources), padded with 0.
        start, end: tokens before the first and after the last of a translation.
        length: the longest translation, `start` not counted.

    Returns:
        int32 (batch, length): the translation with its `end`, padded with 0.
    """
    step_of = _decoder(model)
    encoded = _encoded(model, source)
    text = tf.pad(tf.fill((tf.shape(source)[0], 1), start), [[0, 0], [0, length]])
    done = tf.fill((tf.shape(source)[0],), False)

    def step(number, text, done):
        chosen = _likeliest(step_of(encoded, source, text[:, : number + 1]))
        chosen = tf.where(done, PADDING, chosen)
        text = tf.concat([text[:, : number + 1], chosen[:, None], text[:, number + 2 :]], axis=1)
        return number + 1, tf.ensure_shape(text, (None, length + 1)), done | (chosen == end)

    _, text, _ = tf.while_loop(
        lambda number, _, done: ~tf.reduce_all(done),
        step,
        (tf.constant(0), text, done),
        maximum_iterations=length,
    )
    return text[:, 1:]


def beams(model, source, start, end, length, count=4):
    """The best translation of each of several beams, by KerasHub's beam search.

    A translation that has ended keeps its probability: what could follow counts no more.

    Args:
        model, source, start, end, length: as of `translated`.
        count: number of beams.

    Returns:
        int32 (batch, length): as of `translated`.

    Raises:
        ModuleNotFoundError: without the extra "hub".
    """
    _extras.needs_extra("hub", "Beam search")
    from keras_hub.samplers import BeamSampler

    step_of = _decoder(model)
    encoded = _encoded(model, source)

    def following(prompt, cache, index):
        encoded, source = cache
        logits = step_of(encoded, source, prompt[:, :index])
        ended = tf.reduce_any(prompt[:, :index] == end, axis=1, keepdims=True)
        only = tf.one_hot(
            PADDING, logits.shape[-1]
        )  # after the end padding, before it anything else
        return tf.where(ended == (only > 0), logits, -1e9), None, cache

    prompt = tf.pad(tf.fill((tf.shape(source)[0], 1), start), [[0, 0], [0, length]])
    search = BeamSampler(num_beams=count)
    return search(following, prompt, (encoded, source), index=1, stop_token_ids=[end])[:, 1:]


def _encoded(model, source):
    # Without its mask, which models do not take: the decoder sees by the source what is padding.
    return tf.identity(model.get_layer(ENCODER)(source, training=False))


def _decoder(model):
    """A function of (encoded, source, target) to the logits after the last token of the target."""
    decoder = model.get_layer(DECODER)
    # All positions' features, but the logits of the last alone: they are what is wide.
    features = type(model)(decoder.inputs, decoder.get_layer(FEATURES).output)
    head = decoder.get_layer("logits")
    return lambda *given: head(features(list(given), training=False)[:, -1])


def _likeliest(logits):
    """The likeliest token but padding, which is none."""
    return 1 + tf.argmax(logits[:, 1:], axis=-1, output_type=tf.int32)
