"""Small transformers over tokens: a causal language model, and a translator.

Built of stock Keras layers, so that a `.keras` file loads without tfkd. KerasHub's own layers for
the same blocks are not used here: their Dense layers cannot be exchanged for ones of low rank, and
the extra that brings them is 260 MB.

Token 0 is padding: it has position 0, is attended to by nobody, and the logits at padded positions
are masked, so that losses leave them out.
"""

import keras
from keras import layers, ops

PADDING = 0
ENCODER, DECODER, FEATURES = "encoder", "decoder", "features"
# Standard deviation of embeddings at first. What a block adds is of order 1: beside it Keras's own
# start, 0.03, would tell no words apart for the first epochs.
EMBEDDED = 0.5


def language_model(
    size,
    length,
    *,
    width=64,
    depth=2,
    heads=4,
    dropout=0.1,
    name="decoder",
    tokens="token_embedding",
):
    """A causal transformer: tokens (batch, positions) to logits of the token after each.

    Args:
        size: number of tokens in the vocabulary.
        length: the longest sequence.
        width: of the residual stream, a multiple of `heads`.
        depth: number of blocks.
        heads: of attention.
        dropout: share that is dropped of embeddings and of what each block adds.
        name: of the model.
        tokens: name of the embedding, which says of what vocabulary the tokens are.

    Returns:
        Functional `keras.Model`: int32 (batch, positions), padded with 0 -> float32 logits (batch,
        positions, size). The layer "features" is what the logits are of.

    Raises:
        ValueError: a number outside of its range.
    """
    _check(size, length, width, depth, heads, dropout)
    given = keras.Input((None,), dtype="int32", name="tokens")
    x = embedded(given, size, length, width, dropout, tokens)
    for _ in range(depth):
        x = attended(x, heads, dropout, causal=True)
        x = fed_forward(x, dropout)
    return keras.Model(given, _logits(x, size), name=name)


def translator(
    sizes,
    lengths,
    *,
    width=64,
    depth=2,
    heads=4,
    dropout=0.1,
    name="encoder_decoder",
    tokens=("source_embedding", "target_embedding"),
):
    """An encoder and a causal decoder: source tokens and the target so far to the next token.

    Args:
        sizes: numbers of tokens of the source's and of the target's vocabulary.
        lengths: the longest sequences of both.
        width, depth, heads, dropout: as of `language_model`; both halves have `depth` blocks.
        name: of the model.
        tokens: names of the two embeddings.

    Returns:
        Functional `keras.Model`: {"source": int32 (batch, sources), "target": int32 (batch,
        positions)}, padded with 0 -> float32 logits (batch, positions, size). Its layers "encoder"
        and "decoder" are models: source -> features, and (features, source, target) -> logits.

    Raises:
        ValueError: a number outside of its range.
    """
    for size, length in zip(sizes, lengths, strict=True):
        _check(size, length, width, depth, heads, dropout)
    source = keras.Input((None,), dtype="int32", name="source")
    x = embedded(source, sizes[0], lengths[0], width, dropout, tokens[0])
    for _ in range(depth):
        x = fed_forward(attended(x, heads, dropout), dropout)
    encoder = keras.Model(source, layers.LayerNormalization(name="encoded")(x), name=ENCODER)

    encoded = keras.Input((None, width), name="encoded")
    target = keras.Input((None,), dtype="int32", name="target")
    seen = ops.expand_dims(ops.not_equal(source, PADDING), 1)
    x = embedded(target, sizes[1], lengths[1], width, dropout, tokens[1])
    for _ in range(depth):
        x = attended(x, heads, dropout, causal=True)
        x = attended(x, heads, dropout, encoded=encoded, seen=seen)
        x = fed_forward(x, dropout)
    decoder = keras.Model([encoded, source, target], _logits(x, sizes[1]), name=DECODER)

    _, logits = _translated(encoder, decoder, source, target)
    return keras.Model({"source": source, "target": target}, logits, name=name)


def two_passes(model):
    """A translator's two passes through dropout as one model, for losses that compare them.

    Args:
        model: as `translator` makes it. Its weights are shared, not copied.

    Returns:
        `keras.Model` of the same inputs -> {"output", "again": logits of the two passes; "encoded",
        "encoded_again": the encoder's features of the two}.
    """
    given, found = (model.input["source"], model.input["target"]), {}
    for output, features in (("output", "encoded"), ("again", "encoded_again")):
        halves = model.get_layer(ENCODER), model.get_layer(DECODER)
        found[features], found[output] = _translated(*halves, *given)
    return keras.Model(model.input, found, name=model.name)


def one_pass(model):
    """The translator inside of `two_passes`, with the same weights."""
    given = model.input["source"], model.input["target"]
    _, logits = _translated(model.get_layer(ENCODER), model.get_layer(DECODER), *given)
    return keras.Model(model.input, logits, name=model.name)


def _translated(encoder, decoder, source, target):
    """(the encoder's features, masked where the source is padding; the decoder's logits)."""
    encoded = encoder(source)
    # A copy: Keras takes the mask off what a model is given that is not masked in every layer.
    return encoded, decoder([ops.copy(encoded), source, target])


def embedded(tokens, size, length, width, dropout, name):
    """Embeddings of tokens and of their positions, (batch, positions, width), padding masked."""
    known = ops.cast(ops.not_equal(tokens, PADDING), "int32")
    positions = ops.cumsum(known, axis=1) * known
    parts = [
        _embedding(size, width, name)(tokens),
        _embedding(length + 1, width, "positions")(positions),
    ]
    return layers.Dropout(dropout)(layers.Add()(parts))


def _embedding(size, width, name):
    # An initializer of its own: one that two layers share would give both the same values.
    start = keras.initializers.RandomNormal(stddev=EMBEDDED)
    return layers.Embedding(size, width, start, mask_zero=True, name=name)


def attended(x, heads, dropout, causal=False, encoded=None, seen=None):
    """x plus what attention to itself, or to an encoder's features, adds."""
    normal = layers.LayerNormalization()(x)
    attention = layers.MultiHeadAttention(heads, x.shape[-1] // heads)
    if encoded is None:
        added = attention(normal, normal, use_causal_mask=causal)
    else:
        added = attention(normal, encoded, attention_mask=seen)
    return layers.Add()([x, layers.Dropout(dropout)(added)])


def fed_forward(x, dropout, name=None):
    """x plus what two layers of each position's own add; `name` is that of the sum."""
    width = x.shape[-1]
    added = layers.Dense(4 * width, activation="gelu")(layers.LayerNormalization()(x))
    return layers.Add(name=name)([x, layers.Dropout(dropout)(layers.Dense(width)(added))])


def _logits(x, size):
    features = layers.LayerNormalization(name=FEATURES)(x)
    return layers.Dense(size, dtype="float32", name="logits")(features)


def _check(size, length, width, depth, heads, dropout):
    numbers = {"size": size, "length": length, "width": width, "depth": depth, "heads": heads}
    checked(numbers, dropout)


def checked(numbers, dropout):
    """Raises ValueError unless all numbers, {name: number}, are counts that fit together."""
    for name, number in numbers.items():
        if isinstance(number, bool) or not hasattr(number, "__index__") or number < 1:
            raise ValueError(f"{name} must be a whole number of at least 1, got {number!r}.")
    width, heads = numbers["width"], numbers.get("heads", 1)
    if width % heads:
        raise ValueError(f"width ({width}) must be a multiple of heads ({heads}).")
    if not 0 <= dropout < 1:
        raise ValueError(f"dropout must be at least 0 and below 1, got {dropout!r}.")
