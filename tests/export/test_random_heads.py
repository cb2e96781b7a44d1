"""Random small graphs that keep, move or break probabilities.

What is served equals what NumPy makes of the Keras model's own output, or the export is refused.
Which of the two is right is known from how the graph was put together, never from the export.
"""

import keras
import numpy as np
import tensorflow as tf
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from keras import layers, ops

from tfkd.export.saved_model import export_saved_model, signature_functions
from tfkd.export.student import examine

VIEWS, FEATURES = 2, 4
QUICK = settings(
    deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)

# What may stand behind any output and keeps the meaning of its numbers.
KEEPING = {
    "nothing": lambda x: x,
    "reshape": lambda x: layers.Reshape(x.shape[1:])(layers.Reshape((1, *x.shape[1:], 1))(x)),
    "permute": lambda x: layers.Reshape(x.shape[1:])(
        layers.Permute((2, 1))(layers.Permute((2, 1))(layers.Reshape((x.shape[-1], -1))(x)))
    ),
    "dropout": lambda x: layers.Dropout(0.5)(x),
    "identity": lambda x: layers.Identity()(x),
    "cast": lambda x: ops.cast(ops.cast(x, "float64"), "float32"),
    "linear": lambda x: layers.Activation("linear")(x),
    "squeeze": lambda x: ops.squeeze(ops.expand_dims(x, 1), 1),
    "nested": lambda x: keras.Model(i := keras.Input(x.shape[1:]), layers.Reshape(x.shape[1:])(i))(
        x
    ),
    "all_classes": lambda x: ops.take(x, list(range(x.shape[-1]))[::-1], axis=-1),
    "flip": lambda x: ops.flip(x, axis=-1),
    "views": lambda x: ops.mean(ops.stack([x, x], axis=1), axis=1),
    "lambda": lambda x: layers.Lambda(lambda t: t * 1.0)(x),
}
# What keeps probabilities besides.
OF_PROBABILITIES = {
    "clip": lambda x: ops.clip(x, 1e-7, 1.0),
    "average": lambda x: layers.Average()([x, ops.flip(x, axis=-1)]),
    "mixture": lambda x: 0.25 * x + 0.75 * ops.flip(x, axis=-1),
}
OF_INDEPENDENT = {
    "concatenate": lambda x: layers.Concatenate()([x, ops.flip(x, axis=-1)]),
    "some_labels": lambda x: x[:, : max(1, x.shape[-1] - 1)],
    "either": lambda x: ops.maximum(x, ops.flip(x, axis=-1)),
    "opposite": lambda x: 1.0 - x,
}
# What makes something else of a distribution over at least three classes.
BREAKING = {
    "some_classes": lambda x: x[:, :-1],
    "half": lambda x: 0.5 * x,
    "square": lambda x: x * x,
    "largest": lambda x: ops.maximum(x, ops.flip(x, axis=-1)),
    "affine": lambda x: 2.0 * x - 1.0,
}


@st.composite
def chains(draw):
    """(kind of head, temperature, number of outputs, whether over views, names of steps)."""
    kind = draw(st.sampled_from(["softmax", "sigmoid", "logits", "log_softmax", "broken"]))
    own = {
        "softmax": OF_PROBABILITIES,
        "broken": OF_PROBABILITIES,
        "sigmoid": OF_PROBABILITIES | OF_INDEPENDENT,
    }.get(kind, {})
    steps = draw(st.lists(st.sampled_from(sorted(KEEPING | own)), max_size=4))
    if kind == "broken":
        steps.append(draw(st.sampled_from(sorted(BREAKING))))
    width = draw(st.integers(3, 5)) if kind != "sigmoid" else draw(st.integers(1, 4))
    return kind, draw(st.sampled_from([0.5, 1.0, 3.0])), width, draw(st.booleans()), tuple(steps)


def build(chain):
    kind, temperature, width, over_views, steps = chain
    keras.utils.set_random_seed(width)
    features = keras.Input((FEATURES,))
    wide = keras.initializers.RandomNormal(stddev=2.0, seed=width)
    z = layers.Dense(width, kernel_initializer=wide)(layers.Dense(6, "tanh")(features))
    z = z / temperature
    activation = {"softmax": "softmax", "broken": "softmax", "sigmoid": "sigmoid"}.get(kind)
    z = layers.Activation(activation)(z) if activation else z
    z = ops.log_softmax(z) if kind == "log_softmax" else z
    if over_views and activation:  # the mean of the answers to several views of an example
        views = keras.Input((VIEWS, FEATURES), name="x")
        y = ops.mean(layers.TimeDistributed(keras.Model(features, z))(views), axis=1)
    else:
        views = keras.Input((FEATURES,), name="x")
        y = keras.Model(features, z)(views)
    for step in steps:
        y = (KEEPING | OF_PROBABILITIES | OF_INDEPENDENT | BREAKING)[step](y)
    return keras.Model(views, y)


def softmax(z):
    powers = np.exp(z - z.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def checked(chain, serve):
    """Compares what `serve(model, x)` gives with NumPy's answer; True if it was refused."""
    model = build(chain)
    x = np.random.default_rng(1).normal(size=(5, *model.input_shape[1:])).astype("float32")
    own = np.asarray(model(x, training=False), "float64")
    try:
        found = serve(model, x)
    except ValueError as refusal:
        assert "head" in str(refusal)
        return True
    assert chain[0] != "broken", "something else than probabilities was served as such"
    expected = own if chain[0] in ("softmax", "sigmoid") else softmax(own)
    if own.shape[-1] == 1:
        expected = np.concatenate([1 - own, own], axis=-1)
    np.testing.assert_allclose(found["probabilities"], expected, atol=2e-6)
    logits = np.asarray(found["logits"], "float64")
    implied = 1 / (1 + np.exp(-logits)) if chain[0] == "sigmoid" else softmax(logits)
    implied = implied if own.shape[-1] > 1 else np.concatenate([1 - implied, implied], axis=-1)
    np.testing.assert_allclose(implied, expected, atol=2e-5)
    if chain[0] == "sigmoid" and own.shape[-1] > 1:
        assert "class_id" not in found and "labels" in found
    else:
        np.testing.assert_array_equal(found["class_id"], expected.argmax(-1))
    return False


REFUSED = {}


@settings(QUICK, max_examples=30)
@given(chains())
def test_probabilities_are_those_of_the_model_or_the_export_is_refused(chain):
    def serve(model, x):
        return signature_functions(examine(model))["serving_default"](x=tf.constant(x))

    REFUSED[chain] = checked(chain, serve)


def test_refusals_are_the_exception():
    """Nothing of the above is worth anything if most graphs are refused."""
    asked = [refused for chain, refused in REFUSED.items() if chain[0] != "broken"]
    assert not REFUSED or sum(asked) <= 0.25 * len(asked), REFUSED


@settings(QUICK, max_examples=3)
@given(chains())
def test_the_files_hold_the_same(tmp_path_factory, chain):
    def serve(model, x):
        path = export_saved_model(model, tmp_path_factory.mktemp("m") / "m", check=False)
        return tf.saved_model.load(str(path)).signatures["serving_default"](x=tf.constant(x))

    checked(chain, serve)
