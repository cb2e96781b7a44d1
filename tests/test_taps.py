"""Models as dicts of named tensors: one pass, right tensors, nothing left behind."""

import threading

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers, ops

from tfkd.heads import Head
from tfkd.taps import Taps, find_layer, layer_paths, output_names


def batch(*shape):
    return tf.constant(np.random.default_rng(6).normal(size=shape).astype("float32"))


def functional():
    image = keras.Input((6,))
    hidden = layers.Dense(4, activation="relu", name="hidden")(image)
    return keras.Model(image, layers.Dense(3, name="head")(hidden), name="functional")


def sequential(built=True):
    model = keras.Sequential([layers.Dense(4, activation="relu", name="hidden")], name="sequence")
    model.add(layers.Dense(3, name="head"))
    if built:
        model.build((None, 6))
    return model


def nested(model=None, levels=2):
    """`functional`, wrapped as inner1, inner2, ...: paths "inner2/inner1/hidden"."""
    model = model or functional()
    for level in range(1, levels + 1):
        model.name = "deepest" if level == 1 else f"inner{level - 1}"
        image = keras.Input((6,))
        model = keras.Model(image, layers.Dense(3, name="after")(model(image)), name="outermost")
    return model


class Blocks(keras.Model):
    """Layers in a list, as subclassed models keep them."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.blocks = [layers.Dense(4, activation="relu", name=f"block{i}") for i in range(3)]
        self.head = layers.Dense(3, name="head")

    def call(self, x):
        for block in self.blocks:
            x = block(x)
        return self.head(x)


class Counted(layers.Layer):
    """Counts its calls as they run."""

    def __init__(self):
        super().__init__(name="counted")
        self.runs = tf.Variable(0)

    def call(self, x):
        self.runs.assign_add(1)
        return 2.0 * x


class NamedOutputs(keras.Model):
    def __init__(self):
        super().__init__()
        self.first, self.second = layers.Dense(2, name="one"), layers.Dense(3, name="two")

    def call(self, x):
        return {"a": self.first(x), "b": self.second(x)}


class Softmaxed(keras.Model):
    """Ends in an operation of Keras, which leaves no trace on an eager tensor."""

    def __init__(self, activation=ops.softmax):
        super().__init__()
        self.head, self.activation = layers.Dense(3, name="head"), activation

    def call(self, x):
        return self.activation(self.head(x))


def relu_of(layer, x):
    return np.maximum(x @ layer.kernel.numpy() + layer.bias.numpy(), 0)


@pytest.mark.parametrize("graph", [False, True])
@pytest.mark.parametrize(
    ("make", "name"),
    [
        (functional, "hidden"),
        (sequential, "hidden"),
        (lambda: sequential(built=False), "hidden"),
        (lambda: nested(levels=1), "deepest/hidden"),
        (nested, "inner1/deepest/hidden"),
        (lambda: nested(sequential()), "inner1/deepest/hidden"),
    ],
)
def test_a_tap_gives_what_the_layer_gave(make, name, graph):
    model, x = make(), batch(5, 6)
    taps = Taps(model, [name])
    run = lambda x: taps(x, training=False)  # noqa: E731
    returned, tensors = (tf.function(run) if graph else run)(x)
    assert taps.outputs == ("output", name)
    assert list(tensors) == ["output", name]
    np.testing.assert_allclose(tensors["output"], model(x), rtol=1e-6)
    np.testing.assert_array_equal(returned, tensors["output"])
    wanted = relu_of(find_layer(model, name), x.numpy())
    np.testing.assert_allclose(tensors[name], wanted, atol=1e-6)


def test_subclassed_models_with_layers_in_a_list():
    model, x = Blocks(), batch(5, 6)
    _, tensors = Taps(model, ["block0", "block2"])(x, training=False)
    first = relu_of(model.blocks[0], x.numpy())
    np.testing.assert_allclose(tensors["block0"], first, atol=1e-6)
    last = relu_of(model.blocks[2], relu_of(model.blocks[1], first))
    np.testing.assert_allclose(tensors["block2"], last, atol=1e-6)


def test_the_model_runs_once_whatever_is_tapped():
    counted = Counted()
    image = keras.Input((6,))
    hidden = layers.Dense(4, name="hidden")(counted(image))
    model = keras.Model(image, layers.Dense(3, name="head")(hidden))
    counted.runs.assign(0)
    taps = Taps(model, ["counted", "hidden", "head"])
    step = tf.function(lambda x: taps(x, training=True)[1])
    for count in (1, 2, 3):
        step(batch(2, 6))
        assert int(counted.runs) == count
    taps(batch(2, 6), training=False)
    assert int(counted.runs) == 4


def test_gradients_flow_through_a_tap():
    model, x = functional(), batch(5, 6)
    taps = Taps(model, ["hidden"])
    with tf.GradientTape() as tape:
        total = tf.reduce_sum(taps(x, training=True)[1]["hidden"])
    gradient = tape.gradient(total, model.trainable_variables)
    active = (relu_of(model.get_layer("hidden"), x.numpy()) > 0).astype("float32")
    np.testing.assert_allclose(gradient[0], x.numpy().T @ active, rtol=1e-5)
    assert gradient[2] is None  # the head lies behind the tap


def test_training_reaches_the_model():
    image = keras.Input((400,))
    model = keras.Model(image, layers.Dropout(0.5, name="drop")(image))
    taps = Taps(model, ["drop"])
    x = tf.ones((1, 400))
    assert 100 < np.sum(taps(x, training=True)[1]["drop"] == 0) < 300
    np.testing.assert_array_equal(taps(x, training=False)[1]["drop"], x)


def test_two_taps_on_one_model_each_get_their_own():
    model, x = functional(), batch(2, 6)
    one, other, again = Taps(model, ["hidden"]), Taps(model, ["head"]), Taps(model, ["hidden"])
    assert list(one(x, training=False)[1]) == ["output", "hidden"]
    assert list(other(x, training=False)[1]) == ["output", "head"]
    got, first = again(x, training=False)[1]["hidden"], one(x, training=False)[1]["hidden"]
    np.testing.assert_array_equal(got, first)


def test_of_a_layer_called_twice_the_last_call_counts():
    shared, image = layers.Dense(6, name="shared", use_bias=False), keras.Input((6,))
    model = keras.Model(image, layers.Dense(2)(shared(shared(image))))
    x = batch(3, 6)
    _, tensors = Taps(model, ["shared"])(x, training=False)
    kernel = shared.kernel.numpy()
    np.testing.assert_allclose(tensors["shared"], x.numpy() @ kernel @ kernel, atol=1e-5)


def test_threads_do_not_see_each_other():
    """Two passes overlap inside the tapped layer, each with its own input."""
    meeting = threading.Barrier(2, timeout=20)

    class Waits(layers.Layer):
        def call(self, x):
            if model.built:  # Keras builds by a call of its own
                meeting.wait()
            return x + 1.0

    model = keras.Sequential([Waits(name="waits"), layers.Activation("linear")])
    model.build((None, 2))
    taps, seen = Taps(model, ["waits"]), {}

    def run(value):
        tensors = taps(tf.fill((1, 2), value), training=False)[1]
        seen[value] = tensors["waits"].numpy()

    threads = [threading.Thread(target=run, args=(value,)) for value in (1.0, 5.0)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for value in (1.0, 5.0):
        np.testing.assert_array_equal(seen[value], np.full((1, 2), value + 1))


def test_the_caller_may_keep_calling_the_model():
    model, x = functional(), batch(2, 6)
    before = model(x)
    Taps(model, ["hidden"])(x, training=False)
    np.testing.assert_array_equal(model(x), before)
    history = keras.Sequential([model])
    np.testing.assert_array_equal(history(x), before)


def test_nothing_of_a_tap_is_saved_cloned_or_exported(tmp_path):
    model, x = functional(), batch(2, 6)
    wanted, config = model(x), model.get_config()
    taps = Taps(model, ["hidden"])
    taps(x, training=False)
    assert model.get_config() == config
    model.save(tmp_path / "model.keras")
    model.export(tmp_path / "exported", verbose=False)
    loaded = keras.models.load_model(tmp_path / "model.keras")
    cloned = keras.models.clone_model(model)
    cloned.set_weights(model.get_weights())
    for other in (loaded, cloned):
        assert not any("call" in vars(layer) for layer in other.layers)
        np.testing.assert_allclose(other(x), wanted, rtol=1e-6)
    exported = tf.saved_model.load(tmp_path / "exported")
    np.testing.assert_allclose(exported.serve(x), wanted, rtol=1e-6)
    # and the tap still works
    assert taps(x, training=False)[1]["hidden"].shape == (2, 4)


# Names.


def test_a_wrong_name_lists_near_matches_and_paths():
    with pytest.raises(ValueError, match='No layer "hiden" in teacher "functional"') as error:
        Taps(functional(), ["hiden"], "teacher")
    assert 'Did you mean "hidden"' in str(error.value)
    with pytest.raises(ValueError, match='Did you mean "inner1/deepest/hidden"'):
        Taps(nested(), ["hidden"], "student")
    with pytest.raises(ValueError, match='"inner1/deepest/hidden"'):
        Taps(nested(), ["inner1/deepest/hiden"])
    with pytest.raises(ValueError, match='It has: "'):
        Taps(functional(), ["zzz"])


def test_layer_paths_go_inside():
    inside = ["inner1/deepest", "inner1/deepest/hidden", "inner1/deepest/head", "inner1/after"]
    model = nested()
    paths = layer_paths(model)
    assert [path for path in paths if path in inside] == inside
    for path in paths:
        assert find_layer(model, path).name == path.rsplit("/", 1)[-1]


def test_two_layers_of_one_name_are_refused():
    class Twins(keras.Model):
        def __init__(self):
            super().__init__()
            self.one, self.two = layers.Dense(4, name="twin"), layers.Dense(3, name="twin")

        def call(self, x):
            return self.two(self.one(x))

    with pytest.raises(ValueError, match='"twin"'):
        Taps(Twins(), ["twin"])


def test_a_layer_that_is_not_called_is_refused():
    class Idle(Blocks):
        def call(self, x):
            return self.head(self.blocks[0](x))

    taps = Taps(Idle(), ["block1"], "student")
    with pytest.raises(ValueError, match='"block1" of the student .* is not called'):
        taps(batch(2, 6), training=False)


def test_a_layer_of_several_tensors_is_refused():
    image = keras.Input((4, 6))
    states = layers.LSTM(3, return_state=True, name="lstm")(image)
    taps = Taps(keras.Model(image, states[0]), ["lstm"])
    with pytest.raises(ValueError, match="not one tensor"):
        taps(batch(2, 4, 6), training=False)


# Several outputs.


def two_outputs(structure):
    image = keras.Input((6,))
    first, second = layers.Dense(2, name="one")(image), layers.Dense(3, name="two")(image)
    return keras.Model(image, structure(first, second))


@pytest.mark.parametrize(
    ("structure", "names"),
    [
        (lambda a, b: [a, b], ("one", "two")),
        (lambda a, b: {"x": a, "y": b}, ("x", "y")),
        (lambda a, b: {"y": a, "x": b}, ("y", "x")),
    ],
)
def test_several_outputs_stand_under_their_names(structure, names):
    model, x = two_outputs(structure), batch(2, 6)
    assert sorted(output_names(model)) == sorted(names)
    taps = Taps(model, [names[0]])
    _, tensors = taps(x, training=False)
    assert sorted(tensors) == sorted(names)
    assert [tensors[name].shape[-1] for name in names] == [2, 3]
    shapes = taps.trace(tf.TensorSpec((None, 6)))
    assert shapes == {name: tuple([None, *tensors[name].shape[1:]]) for name in tensors}
    assert set(taps.output_heads.values()) == {Head("logits")}


def test_a_head_shared_by_two_outputs_stays_two_outputs():
    head, image = layers.Dense(2, name="head"), keras.Input((6,))
    model = keras.Model(image, [head(image), head(2 * image)])
    returned, tensors = Taps(model)(batch(2, 6), training=False)
    assert len(tensors) == len(returned) == 2


def test_a_dict_of_one_output_is_the_output():
    image = keras.Input((6,))
    model = keras.Model(image, {"only": layers.Dense(2)(image)})
    assert list(Taps(model)(batch(2, 6), training=False)[1]) == ["output"]


def test_subclassed_models_may_name_their_outputs():
    model, x = NamedOutputs(), batch(2, 6)
    _, tensors = Taps(model)(x, training=False)
    assert {name: t.shape[-1] for name, t in tensors.items()} == {"a": 2, "b": 3}
    assert sorted(Taps(model, ["a"])(x, training=False)[1]) == ["a", "b"]


# Heads.


HEADS = {
    "softmax": Head("probabilities", "one_of_many"),
    "sigmoid": Head("probabilities", "independent"),
    None: Head("logits"),
}


def head_models(tmp_path=None):
    def model(ending):
        image = keras.Input((6,))
        return keras.Model(image, ending(layers.Dense(3, name="head")(image)))

    def dense(activation):
        image = keras.Input((6,))
        return keras.Model(image, layers.Dense(3, activation, name="head")(image))

    half = lambda z: layers.Activation("softmax", dtype="float16")(z)  # noqa: E731
    return {
        "dense softmax": (dense("softmax"), "softmax"),
        "dense sigmoid": (dense("sigmoid"), "sigmoid"),
        "softmax layer": (model(layers.Softmax()), "softmax"),
        "activation layer": (model(layers.Activation("sigmoid")), "sigmoid"),
        "functional op": (model(ops.softmax), "softmax"),
        "dropout behind": (model(lambda z: layers.Dropout(0.5)(ops.softmax(z))), "softmax"),
        "named linear behind": (
            model(lambda z: layers.Activation("linear", name="last")(layers.Softmax()(z))),
            "softmax",
        ),
        "cast behind": (
            model(lambda z: layers.Activation("linear", dtype="float32")(half(z))),
            "softmax",
        ),
        "subclassed": (Softmaxed(), "softmax"),
        "subclassed sigmoid": (Softmaxed(ops.sigmoid), "sigmoid"),
        "logits": (dense(None), None),
        "relu": (dense("relu"), None),
    }


@pytest.mark.parametrize("graph", [True, False])
@pytest.mark.parametrize("kind", list(head_models()))
def test_a_head_gives_its_logits(kind, graph):
    (model, activation), x = head_models()[kind], batch(4, 6)
    taps = Taps(model)
    plain = model(x)
    taps.trace(tf.TensorSpec((None, 6)))
    assert taps.output_heads == {"output": HEADS[activation]}
    run = lambda x: taps(x, training=False)  # noqa: E731
    returned, tensors = (tf.function(run) if graph else run)(x)
    # What the model returned is left alone: it is what metrics and the user's loss see.
    np.testing.assert_allclose(returned, plain, rtol=1e-6)
    head = model.head if isinstance(model, Softmaxed) else model.get_layer("head")
    wanted = x.numpy() @ head.kernel.numpy() + head.bias.numpy()
    if kind == "relu":
        wanted = np.maximum(wanted, 0)
    found = tensors["output"].numpy()
    if kind == "cast behind":  # half precision; a distribution knows its logits up to a shift
        np.testing.assert_allclose(found - found[:, :1], wanted - wanted[:, :1], atol=2e-2)
    else:
        np.testing.assert_allclose(found, wanted, atol=1e-5)


@pytest.mark.parametrize("graph", [True, False])
@pytest.mark.parametrize("activation", ["softmax", "sigmoid", None])
def test_a_saved_model_gives_its_logits(tmp_path, activation, graph):
    image = keras.Input((6,))
    model = keras.Model(image, layers.Dense(3, activation, name="head")(image))
    model.export(tmp_path / "exported", verbose=False)
    teacher = layers.TFSMLayer(tmp_path / "exported", call_endpoint="serve")
    taps, x = Taps(teacher, role="teacher"), batch(4, 6)
    shapes = taps.trace(tf.TensorSpec((None, 6)))
    assert (shapes["output"][-1], taps.output_heads) == (3, {"output": HEADS[activation]})
    run = lambda x: taps(x, training=False)[1]  # noqa: E731
    found = (tf.function(run) if graph else run)(x)["output"].numpy()
    head = model.get_layer("head")
    wanted = x.numpy() @ head.kernel.numpy() + head.bias.numpy()
    if activation == "softmax":  # a distribution knows its logits up to a shift
        found, wanted = found - found[:, :1], wanted - wanted[:, :1]
    np.testing.assert_allclose(found, wanted, atol=1e-4)


def test_a_tapped_final_softmax_gives_logits_as_well():
    """`LogitsDistillation(teacher_layer_name="predictions")`, the head of keras.applications."""
    image = keras.Input((6,))
    model = keras.Model(image, layers.Dense(3, "softmax", name="predictions")(image))
    x = batch(4, 6)
    _, tensors = Taps(model, ["predictions"])(x, training=False)
    head = model.get_layer("predictions")
    wanted = x.numpy() @ head.kernel.numpy() + head.bias.numpy()
    np.testing.assert_allclose(tensors["predictions"], wanted, atol=1e-5)


def test_a_softmax_head_keeps_its_padding_mask():
    tokens = keras.Input((4,), dtype="int32")
    hidden = layers.Embedding(9, 5, mask_zero=True)(tokens)
    model = keras.Model(tokens, layers.Dense(3, activation="softmax")(hidden))
    ids = tf.constant([[1, 2, 0, 0], [3, 0, 0, 0]])
    _, tensors = Taps(model)(ids, training=False)
    np.testing.assert_array_equal(tensors["output"]._keras_mask, ids != 0)


def test_recovered_logits_stay_finite_for_certain_outputs():
    image = keras.Input((2,))
    model = keras.Model(image, layers.Softmax()(image))
    certain = tf.constant([[500.0, -500.0]])
    np.testing.assert_array_equal(Taps(model)(certain, training=False)[1]["output"], certain)
    recovered = HEADS["softmax"].logits(tf.constant([[1.0, 0.0]]))
    assert np.isfinite(recovered).all()
    np.testing.assert_allclose(tf.nn.softmax(recovered), [[1.0, 0.0]])
