"""One tiny model for each task: its exports answer as the Keras model does, or say why not.

The expected numbers are computed in NumPy from what the Keras model itself returns.
"""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers, ops

from tfkd.export.errors import ExportCheckError
from tfkd.export.saved_model import export_saved_model
from tfkd.export.tflite import export_tflite, read_metadata
from tfkd.runtime.interpreter import Interpreter

RANDOM = np.random.default_rng(5)
PIXELS = RANDOM.integers(0, 256, (6, 8, 8, 3)).astype("float32")
TOKENS = np.array([[3, 1, 4, 0, 0], [2, 7, 0, 0, 0], [5, 5, 5, 5, 5], [1, 0, 0, 0, 0]], "int32")
WORDS = np.array([["good film"], ["bad"], ["so bad, so good"], ["unheard"]], object)
SIZES = np.array([[0.1, 2.0], [3.0, -1.0], [0.5, 0.5]], "float32")
KINDS = np.array([[10], [20], [99]], "int64")
COLOURS = np.array([["red"], ["green"], ["mauve"]], object)


def dense(units, activation=None, name=None):
    """A layer whose outputs differ widely from each other."""
    wide = keras.initializers.RandomNormal(stddev=3.0, seed=units)
    return layers.Dense(units, activation, kernel_initializer=wide, name=name)


def softmax(z):
    powers = np.exp(z - z.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def both(p):
    return np.concatenate([1 - p, p], axis=-1)


def image(head, dtype=None):
    given = keras.Input((8, 8, 3), dtype=dtype)
    x = layers.Conv2D(4, 3, activation="relu")(layers.Rescaling(1 / 255)(given))
    return keras.Model(given, head(layers.GlobalAveragePooling2D()(x)))


def sequential(state, folder):
    stack = [layers.Rescaling(1 / 255), layers.Flatten(), dense(3)]
    if state == "deferred":
        model = keras.Sequential(stack)
        model(PIXELS[:2])
        return model
    model = keras.Sequential([keras.Input((8, 8, 3)), *stack])
    if state == "fitted":
        model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        model.fit(PIXELS, np.arange(6) % 3, verbose=0)
    if state == "loaded":
        model.save(folder / "sequential.keras")
        return keras.models.load_model(folder / "sequential.keras")
    return model


def tokens(mask, cell=None, head=None):
    given = keras.Input((5,), dtype="int32", name="tokens")
    x = layers.Embedding(8, 4, mask_zero=mask, embeddings_initializer="normal")(given)
    x = layers.GlobalAveragePooling1D()(x) if cell is None else cell(x)
    return keras.Model(given, (head or dense(2))(x))


def text():
    vectorizer = layers.TextVectorization(output_sequence_length=4)
    vectorizer.adapt(["so good film", "so bad film"])
    given = keras.Input((1,), dtype="string", name="text")
    x = layers.Embedding(10, 3, embeddings_initializer="normal")(vectorizer(given))
    return keras.Model(given, dense(2)(layers.GlobalAveragePooling1D()(x)))


def segmentation(channels, activation):
    given = keras.Input((8, 8, 3))
    x = layers.Conv2D(4, 3, padding="same", activation="relu")(layers.Rescaling(1 / 255)(given))
    wide = keras.initializers.RandomNormal(stddev=3.0, seed=1)
    end = layers.Conv2D(channels, 1, activation=activation, kernel_initializer=wide)
    return keras.Model(given, end(x))


def mixed_inputs():
    """Numbers, a number out of a vocabulary, words and buckets."""
    sizes = keras.Input((2,), name="sizes")
    kinds = keras.Input((1,), dtype="int64", name="kinds")
    colours = keras.Input((1,), dtype="string", name="colours")
    encoded = [
        layers.CategoryEncoding(4, output_mode="one_hot")(
            layers.IntegerLookup(vocabulary=[10, 20, 30])(kinds)
        ),
        layers.StringLookup(vocabulary=["red", "green"], output_mode="one_hot")(colours),
        layers.CategoryEncoding(6, output_mode="one_hot")(layers.Hashing(6)(colours)),
        layers.Normalization(mean=[1.0, 1.0], variance=[2.0, 2.0])(sizes),
        ops.cast(layers.Discretization([0.0, 1.0])(sizes), "float32"),
    ]
    inputs = {"sizes": sizes, "kinds": kinds, "colours": colours}
    return keras.Model(inputs, dense(3)(layers.Concatenate()(encoded)))


def looked_up():
    """A vocabulary that TFLite has ops for."""
    colours = keras.Input((1,), dtype="string", name="colours")
    encoded = layers.StringLookup(vocabulary=["red", "green"], output_mode="one_hot")(colours)
    return keras.Model(colours, dense(3)(encoded))


def nest():
    first, second = keras.Input((4,), name="left"), keras.Input((2,), name="right")
    third = keras.Input((2,), name="third")
    joined = layers.Concatenate()([first, second, third])
    return keras.Model([(first, second), {"deep": third}], dense(3)(joined))


def two_inputs(structure):
    first, second = keras.Input((4,), name="left"), keras.Input((2,), name="right")
    model = keras.Model([first, second], dense(3)(layers.Concatenate()([first, second])))
    if structure is list:
        return model
    return keras.Model({"a": first, "b": second}, model([first, second]))


def two_outputs(structure):
    given = keras.Input((8, 8, 3))
    x = layers.Flatten()(layers.Rescaling(1 / 255)(given))
    ends = {"age": dense(1, name="age")(x), "kind": dense(3, "softmax", name="kind")(x)}
    return keras.Model(given, ends if structure is dict else list(ends.values()))


class Subclassed(keras.Model):
    def __init__(self, units):
        super().__init__()
        self.flatten, self.head = layers.Flatten(), dense(units)

    def call(self, x):
        x = self.head(self.flatten(x / 255))
        return {"first": x, "second": x[:, :1]}


def subclassed():
    model = Subclassed(3)
    model(PIXELS[:2])
    return model


TABLE = SIZES.repeat(2, axis=1)

# name: (model, inputs by the names that are served, options of the exports, NumPy's answer from
# what the Keras model returns, the ops that TFLite lacks or None)
TASKS = {
    "classification": (lambda f: image(dense(3)), {"image": PIXELS}, {}, softmax, None),
    "classification_softmax": (
        lambda f: image(dense(3, "softmax")), {"image": PIXELS}, {}, None, None,
    ),
    "bytes_of_pixels": (
        lambda f: image(dense(3), "uint8"), {"image": PIXELS.astype("uint8")},
        {"image_dtype": "uint8"}, softmax, None,
    ),
    "binary": (
        lambda f: image(dense(1, "sigmoid")), {"image": PIXELS}, {}, both, None,
    ),
    "binary_logit": (
        lambda f: image(dense(1)), {"image": PIXELS}, {"head": "independent_logits"},
        lambda z: both(sigmoid(z)), None,
    ),
    "multi_label": (
        lambda f: image(dense(3)), {"image": PIXELS}, {"head": "independent_logits"}, sigmoid, None,
    ),
    "multi_label_sigmoid": (
        lambda f: image(dense(3, "sigmoid")), {"image": PIXELS}, {}, None, None,
    ),
    "regression": (lambda f: image(dense(1)), {"image": PIXELS}, {}, None, None),
    "regression_squeezed": (
        lambda f: image(lambda x: ops.squeeze(dense(1)(x), -1)), {"image": PIXELS},
        {"head": "numbers"}, None, None,
    ),
    "box_regression": (
        lambda f: image(dense(4)), {"image": PIXELS}, {"head": "numbers"}, None, None,
    ),
    "hash_code": (lambda f: image(dense(12)), {"image": PIXELS}, {"head": "code"}, None, None),
    "sequential_fresh": (lambda f: sequential("fresh", f), {"image": PIXELS}, {}, softmax, None),
    "sequential_deferred": (
        lambda f: sequential("deferred", f), {"image": PIXELS}, {}, softmax, None,
    ),
    "sequential_fitted": (lambda f: sequential("fitted", f), {"image": PIXELS}, {}, softmax, None),
    "sequential_loaded": (lambda f: sequential("loaded", f), {"image": PIXELS}, {}, softmax, None),
    "tokens": (lambda f: tokens(False), {"tokens": TOKENS}, {}, softmax, None),
    "tokens_masked": (lambda f: tokens(True), {"tokens": TOKENS}, {}, softmax, None),
    "tokens_lstm_masked": (
        lambda f: tokens(True, layers.LSTM(3)), {"tokens": TOKENS}, {}, softmax,
        "no built-in TFLite op: TensorListReserve. .*unroll=True",
    ),
    "tokens_lstm_unrolled": (
        lambda f: tokens(True, layers.Bidirectional(layers.LSTM(3, unroll=True))),
        {"tokens": TOKENS}, {}, softmax, None,
    ),
    "sequence_labelling": (
        lambda f: tokens(True, layers.Conv1D(4, 3, padding="same"), dense(3, "softmax")),
        {"tokens": TOKENS}, {}, None, None,
    ),
    "text": (
        lambda f: text(), {"text": WORDS}, {}, softmax, "no built-in TFLite op: .*StringLower",
    ),
    "segmentation": (lambda f: segmentation(3, None), {"image": PIXELS}, {}, softmax, None),
    "segmentation_softmax": (
        lambda f: segmentation(3, "softmax"), {"image": PIXELS}, {}, None, None,
    ),
    "segmentation_binary": (
        lambda f: segmentation(1, "sigmoid"), {"image": PIXELS}, {}, both, None,
    ),
    "list_of_one_input": (
        lambda f: keras.Model([x := keras.Input((4,), name="x")], dense(3)(x)), {"x": TABLE}, {},
        softmax, None,
    ),
    "words_looked_up": (
        lambda f: looked_up(), {"colours": COLOURS}, {}, softmax, None,
    ),
    "inputs_in_a_nest": (
        lambda f: nest(), {"left": TABLE, "right": SIZES, "third": SIZES}, {}, softmax, None,
    ),
    "inputs_in_a_list": (
        lambda f: two_inputs(list), {"left": TABLE, "right": SIZES}, {}, softmax, None,
    ),
    "inputs_in_a_dict": (lambda f: two_inputs(dict), {"a": TABLE, "b": SIZES}, {}, softmax, None),
    "lookups": (
        lambda f: mixed_inputs(), {"sizes": SIZES, "kinds": KINDS, "colours": COLOURS}, {}, softmax,
        "no built-in TFLite op: .*StringToHashBucketFast",
    ),
    "outputs_in_a_dict": (
        lambda f: two_outputs(dict), {"image": PIXELS}, {"output": "kind"}, None, None,
    ),
    "outputs_in_a_list": (
        lambda f: two_outputs(list), {"image": PIXELS}, {"output": "age"}, None, None,
    ),
    "subclassed_outputs": (
        lambda f: subclassed(), {"image": PIXELS}, {"output": "first"}, softmax, None,
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def tasks(tmp_path_factory):
    """{task: (model, feeds, options, expected answer, missing ops)}, each built once."""
    folder, built = tmp_path_factory.mktemp("tasks"), {}
    for name, (make, feeds, options, answer, missing) in TASKS.items():
        keras.utils.set_random_seed(1)
        model = make(folder)
        tensors = {key: tf.constant(array) for key, array in feeds.items()}
        given = tensors if len(tensors) > 1 else next(iter(tensors.values()))
        if isinstance(getattr(model, "input", None), list) and len(tensors) > 1:
            given = keras.tree.pack_sequence_as(model.input, list(tensors.values()))
        returned = model(given, training=False)
        if isinstance(returned, list | dict):
            returned = returned[options["output"]] if isinstance(returned, dict) else returned[0]
        own = np.asarray(returned, "float64")
        built[name] = model, feeds, options, own if answer is None else answer(own), missing
    return built


def answer_of(found, expected):
    """The served numbers that stand for what the head means."""
    answer = found["values"] if "values" in found else found["probabilities"]
    assert np.shape(answer) == expected.shape
    assert expected.std(axis=0).max() > 1e-3  # the inputs tell the answers apart
    return answer


def require_codes(name, found, expected):
    """Of a hash code the bits as ±1 and packed, here 12 in two bytes."""
    assert ("codes" in found) == ("packed" in found) == (name == "hash_code")
    if name == "hash_code":
        assert 0.2 < (expected > 0).mean() < 0.8
        codes, packed = np.asarray(found["codes"]), np.asarray(found["packed"])
        assert (codes.dtype, packed.dtype, packed.shape) == ("int8", "uint8", (6, 2))
        np.testing.assert_array_equal(codes, np.where(expected > 0, 1, -1))
        np.testing.assert_array_equal(packed, np.packbits(expected > 0, axis=-1))


@pytest.mark.parametrize("name", TASKS)
def test_a_saved_model_answers_as_the_keras_model(tasks, tmp_path, name):
    model, feeds, options, expected, _ = tasks[name]
    # The check by the C++ loader takes seconds: for the kinds that differ in it alone.
    check = name in ("text", "lookups", "segmentation", "hash_code")
    path = export_saved_model(
        model, tmp_path / "m", warmup_batch_sizes=(1,), check=check, **options
    )
    served = tf.saved_model.load(str(path)).signatures["serving_default"]
    assert set(served.structured_input_signature[1]) == set(feeds)
    found = served(**{key: tf.constant(array) for key, array in feeds.items()})
    np.testing.assert_allclose(answer_of(found, expected), expected, atol=2e-6, rtol=1e-5)
    if "class_id" in found:
        np.testing.assert_array_equal(found["class_id"], expected.argmax(-1))
    require_codes(name, found, expected)


@pytest.mark.parametrize("name", TASKS)
def test_a_tflite_file_answers_as_the_keras_model_or_names_the_op(tasks, tmp_path, name):
    model, feeds, options, expected, missing = tasks[name]
    options = {key: value for key, value in options.items() if key != "image_dtype"}
    path = tmp_path / "m.tflite"
    if missing is not None:
        with pytest.raises(ExportCheckError, match=missing):
            export_tflite(model, path, **options)
        assert not list(tmp_path.iterdir())
        return
    export_tflite(model, path, check=name in ("inputs_in_a_dict", "hash_code"), **options)
    found = Interpreter(path).run(feeds)
    np.testing.assert_allclose(answer_of(found, expected), expected, atol=2e-6, rtol=1e-5)
    require_codes(name, found, expected)
    assert set(read_metadata(path)["inputs"]) == set(feeds)
