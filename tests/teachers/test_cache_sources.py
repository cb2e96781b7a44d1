"""What the teacher cache stores of sources, Python functions, views and inputs of every kind."""

import functools
import json

import keras
import numpy as np
import pytest
import small_cache
import tensorflow as tf
from small_cache import CLASSES, CROP_FLIP, dataset, examples, network

import tfkd
from tfkd import data
from tfkd.heads import Head
from tfkd.losses import DistillationLoss, FeatureDistillation, LogitsDistillation
from tfkd.teachers import CallableTeacher, Source
from tfkd.teachers.cache import TeacherCache

layers = keras.layers
# Eagerly: values alone are asked for, and a step takes less time than its trace.
distiller = functools.partial(small_cache.distiller, run_eagerly=True)


def stored(cache, count=40, **options):
    """(x, y, knowledge) of one epoch in one batch, in order, as arrays."""
    batches = cache.dataset(dataset(), count, shuffle=False, **options)
    x, y, _, knowledge = next(iter(batches))
    return x.numpy(), y.numpy(), {name: values.numpy() for name, values in knowledge.items()}


def softmax(values):
    powers = np.exp(values - values.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def kl(teacher, student, temperature):
    """Mean KL of softened logits times T², by NumPy in float64."""
    p, q = (softmax(np.float64(logits) / temperature) for logits in (teacher, student))
    return (p * np.log(p / q)).sum(-1).mean() * temperature**2


# Sources.


@keras.saving.register_keras_serializable("tests")
class Committee(Source):
    """Three teachers; the label of an example says which of them counts how much."""

    needs = ("labels",)

    def __init__(self, teachers, sharpness=1.0):
        self.teachers, self.sharpness = teachers, sharpness

    def signature(self):
        return tf.TensorSpec((None, 8, 8, 3))

    def trace(self, signature):
        return {"output": (None, CLASSES)}

    def call(self, x, labels):
        answers = tf.stack([teacher(x, training=False) for teacher in self.teachers], axis=1)
        right = tf.gather(answers, labels, axis=2, batch_dims=1)
        weights = tf.nn.softmax(self.sharpness * right)
        return {"output": tf.reduce_sum(answers * weights[..., tf.newaxis], axis=1)}

    def models(self):
        return self.teachers

    def get_config(self):
        serialized = [keras.saving.serialize_keras_object(model) for model in self.teachers]
        return {"teachers": serialized, "sharpness": self.sharpness}


@pytest.fixture
def teachers():
    return [network(width) for width in (3, 4, 5)]


def logits_only(teacher, **options):
    return distiller(teacher, [LogitsDistillation(2.0)], **options)


def test_a_source_that_needs_labels_is_stored_with_them(tmp_path, teachers):
    made, (images, labels) = logits_only(Committee(teachers)), examples()
    cache = TeacherCache.build(tmp_path, made, dataset(), batch_size=16, dtype="float32")
    answers = np.stack([teacher(images).numpy() for teacher in teachers], axis=1)
    right = answers[np.arange(40), :, labels]
    expected = (answers * softmax(right)[..., np.newaxis]).sum(1)
    _, y, knowledge = stored(cache)
    np.testing.assert_array_equal(y, labels)
    np.testing.assert_allclose(knowledge["output"], expected, rtol=1e-4, atol=1e-5)
    live = made.evaluate(data.batches(dataset(), 40), verbose=0, return_dict=True)
    read = made.evaluate(cache.dataset(dataset(), 40), verbose=0, return_dict=True)
    assert read == pytest.approx(live, rel=1e-5)


def test_a_source_is_known_by_its_settings_and_weights(tmp_path, teachers):
    TeacherCache.build(tmp_path, logits_only(Committee(teachers)), dataset(), batch_size=16)
    TeacherCache(tmp_path, logits_only(Committee(teachers)))
    others = [Committee(teachers, 2.0), Committee(teachers[:2]), Committee(teachers[::-1])]
    for other in others:
        with pytest.raises(ValueError, match="the teacher, its weights or its config"):
            TeacherCache(tmp_path, logits_only(other))


class Unknowable(Committee):
    get_config = None

    def serialized(self):
        raise TypeError("no get_config")


class Learning(Committee):
    storable = False


class Forgetful(Committee):
    def call(self, x, labels):
        return {"logits": super().call(x, labels)["output"]}


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (Unknowable, "Unknowable cannot be stored.*get_config"),
        (Learning, "Learning cannot be stored.*does not stay the same.*storable = False"),
        (Forgetful, r"read \['output'\] of the teacher, which gives \['logits'\]"),
    ],
)
def test_sources_that_cannot_be_stored(tmp_path, teachers, kind, message):
    with pytest.raises(ValueError, match=message):
        TeacherCache.build(tmp_path / "cache", logits_only(kind(teachers)), dataset())
    assert not (tmp_path / "cache").exists()


def test_what_metrics_read_is_stored_too(tmp_path):
    made = distiller(losses=[FeatureDistillation("mse", "stage1_out", "stage1_out")])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    agreement = tfkd.metrics.TeacherAgreement()
    made.compile("sgd", loss, teacher_metrics=[agreement], run_eagerly=True)
    cache = TeacherCache.build(tmp_path, made, dataset(), batch_size=16)
    assert sorted(cache.knowledge_shapes) == ["output", "stage1_out"]
    read = made.evaluate(cache.dataset(dataset(), 40), verbose=0, return_dict=True)
    live = made.evaluate(data.batches(dataset(), 40), verbose=0, return_dict=True)
    assert read["teacher_agreement"] == live["teacher_agreement"]


# Python functions.


def function(images):
    """An answer to each image, and a feature of it."""
    pixels = images.reshape(len(images), -1).astype("float64") / 255
    weights = np.sin(np.arange(pixels.shape[1] * CLASSES)).reshape(-1, CLASSES)
    return {"output": pixels @ weights, "means": pixels.reshape(-1, 64, 3).mean(1)}


def taught_by(answer, losses=None, **options):
    return distiller(
        CallableTeacher(answer, name="sines", **options), losses or [LogitsDistillation(2.0)]
    )


def test_a_function_is_asked_here_and_never_again(tmp_path):
    """With augmented NumPy arrays; what it says is what a fit reads."""
    asked = []

    def counted(images):
        assert isinstance(images, np.ndarray) and images.dtype == np.uint8
        asked.append(len(images))
        return function(images)

    made = taught_by(counted, [LogitsDistillation(2.0), FeatureDistillation("mse", "means")])
    cache = TeacherCache.build(tmp_path, made, dataset(), CROP_FLIP, 2, 16, dtype="float32")
    assert asked == [16, 8] + 2 * [16] + 2 * [16] + 2 * [8]  # tried first, then three shards
    images = CROP_FLIP(examples()[0], data.view_seed(tf.range(40), 0)).numpy()
    x, _, knowledge = stored(cache)
    np.testing.assert_array_equal(x, images)
    for name, values in function(images).items():
        np.testing.assert_allclose(knowledge[name], values, rtol=1e-6)
    asked.clear()
    before = made.evaluate(cache.dataset(dataset(), 40), verbose=0, return_dict=True)
    second = CROP_FLIP(examples()[0], data.view_seed(tf.range(40), 0)).numpy()
    expected = kl(function(second)["output"], made.student(second).numpy(), 2.0)
    assert before["logits_distillation"] == pytest.approx(expected, rel=1e-4)
    history = made.fit(cache.dataset(dataset(), 16), epochs=9, verbose=0).history
    assert history["distillation_loss"][-1] < history["distillation_loss"][0]  # both of view 0
    assert not asked
    with pytest.raises(ValueError, match='"sines" is a Python function.*TeacherCache.build'):
        made.fit(data.batches(dataset(), 16), verbose=0)


def changing_shape():
    calls = iter(range(100))
    return lambda images: function(images)["output"][:, : 3 if next(calls) > 2 else 4]


def forgetting():
    calls = iter(range(100))
    return lambda x: function(x) if next(calls) < 3 else {"output": function(x)["output"]}


def dropping(images, random=np.random.default_rng(0)):  # noqa: B008
    logits = function(images)["output"]
    return logits * random.integers(0, 2, logits.shape)


def standardising(images):
    logits = function(images)["output"]
    return (logits - logits.mean(0)) / logits.std(0)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda x: function(x)["output"][1:], r"shape \(15, 4\) for 16 inputs.*one row an input"),
        (lambda x: function(x)["output"].astype(str), "array of <U.*must give numbers"),
        (lambda x: function(x)["output"] > 0, "array of bool.*must give numbers"),
        (lambda x: tuple(function(x).values()), "a tuple of 2, which names nothing"),
        (lambda x: 3.0, r"shape \(\) for 16 inputs"),
        (lambda x: function(x)["output"][:, :3], "same number of classes"),
        (lambda x: function(x)["output"].argmax(1), "same number of classes"),
        (
            lambda x: {"logits": function(x)["output"]},
            r"reads 'output' of the teacher, .*\['logits",
        ),
        (lambda x: function(x) | {"output": np.full((len(x), 4), np.nan)}, "is NaN, infinite"),
        (changing_shape(), r'"output" in the shape \(16, 3\), but \(None, 4\)'),
        (forgetting(), r"read \['means'\] of the teacher, which gives \['output'\]"),
        (dropping, r"changes from call to call.*model.eval\(\)"),
        (standardising, r"other examples of the batch.*model.eval\(\)"),
    ],
)
def test_functions_that_answer_wrongly(tmp_path, answer, message):
    losses = [LogitsDistillation(2.0)]
    if "means" in message:
        losses.append(FeatureDistillation("mse", "means"))
    with pytest.raises(ValueError, match=message):
        TeacherCache.build(tmp_path / "cache", taught_by(answer, losses), dataset(), batch_size=16)


def test_another_function_of_the_same_name(tmp_path):
    build = {"dataset": dataset(), "batch_size": 16}
    TeacherCache.build(tmp_path, taught_by(function), **build)
    TeacherCache.build(tmp_path, taught_by(lambda x: function(x)["output"] * (1 + 1e-7)), **build)
    for other in (
        lambda x: function(x)["output"] * 1.01,
        lambda x: function(x)["output"][:, ::-1],
        lambda x: function(x)["output"] + [1, 0, 0, 0],
    ):
        with pytest.raises(ValueError, match='another "output" for the first examples'):
            TeacherCache.build(tmp_path, taught_by(other), **build)
    renamed = distiller(CallableTeacher(function, name="cosines"), [LogitsDistillation(2.0)])
    with pytest.raises(ValueError, match="the teacher"):
        TeacherCache(tmp_path, renamed)


def test_a_pytorch_model_teaches(tmp_path):
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    net = torch.nn.Sequential(
        torch.nn.Conv2d(3, 6, 3, stride=2, padding=1),
        torch.nn.BatchNorm2d(6),
        torch.nn.ReLU(),
        torch.nn.AdaptiveAvgPool2d(1),
        torch.nn.Flatten(),
        torch.nn.Linear(6, CLASSES),
    )

    def answers(images):
        with torch.no_grad():
            return net(torch.from_numpy(images).permute(0, 3, 1, 2) / 255).numpy()

    made = distiller(CallableTeacher(answers, name="torch"), [LogitsDistillation(4.0)])
    with pytest.raises(ValueError, match=r"model.eval\(\)"):  # batch statistics are on
        TeacherCache.build(tmp_path, made, dataset(), batch_size=16)
    net.eval()
    cache = TeacherCache.build(tmp_path, made, dataset(), batch_size=16, dtype="float32")
    (images, _), batches = examples(), cache.dataset(dataset(), 16)
    made.fit(batches, epochs=2, verbose=0)
    now = made.evaluate(batches, verbose=0, return_dict=True)
    expected = kl(answers(images), made.student(images).numpy(), 4.0)
    assert now["logits_distillation"] == pytest.approx(expected, rel=1e-4)


# Heads.


def headed(width, activation, classes=CLASSES):
    plain = network(width, classes=classes)
    return keras.Model(plain.input, layers.Activation(activation)(plain.output))


@pytest.mark.parametrize(
    ("activation", "labels"), [("softmax", "one_of_many"), ("sigmoid", "independent")]
)
def test_probabilities_are_stored_as_their_logits(tmp_path, activation, labels):
    """By a model and by a function; and a Distiller made of the cache's heads knows them."""
    teacher, (images, _) = headed(6, activation), examples()
    logits = keras.Model(teacher.input, teacher.layers[-1].input)(images).numpy()
    function_head = f"{'independent_' * (labels == 'independent')}probabilities"
    ways = {
        "model": teacher,
        "function": CallableTeacher(lambda x: teacher(x).numpy(), "teacher", function_head),
    }
    for name, way in ways.items():
        made = tfkd.Distiller(way, headed(3, activation), LogitsDistillation(2.0))
        cache = TeacherCache.build(tmp_path / name, made, dataset(), dtype="float32")
        assert cache.heads == {"output": Head("logits", labels)}
        found = stored(cache)[2]["output"]
        if labels == "one_of_many" and name == "function":  # logits but for a constant
            found += (logits - found).mean(-1, keepdims=True)
        np.testing.assert_allclose(found, logits, rtol=1e-3, atol=1e-4)
        again = tfkd.Distiller(
            None, made.student, LogitsDistillation(2.0), teacher_head=cache.heads
        )
        values = []
        for reading in (made, again):
            reading.student_loss_weight = 0.0
            reading.compile("sgd", run_eagerly=True)
            logs = reading.evaluate(cache.dataset(dataset(), 40), verbose=0, return_dict=True)
            values.append(logs["distillation_loss"])
        assert values[0] == pytest.approx(values[1], rel=1e-6) and values[0] > 0
        again.save(tmp_path / "saved.keras")
        keras.models.load_model(tmp_path / "saved.keras")


def test_unknown_labels_stay_unknown(tmp_path):
    """Logits alone do not tell: what the student is then decides, live and stored."""
    cache = TeacherCache.build(tmp_path, distiller(), dataset())
    assert cache.heads["output"] == Head("logits", None)
    assert cache.manifest["knowledge"]["output"]["head"] == {"kind": "logits", "labels": None}


def test_an_output_that_nothing_tells_of_is_asked_for(tmp_path):
    def unit(images):
        return 1 / (1 + np.exp(-function(images)["output"]))

    for teacher in (unit, CallableTeacher(unit, name="unit")):
        made = distiller(teacher, [LogitsDistillation(2.0)])
        with pytest.raises(ValueError, match='between 0 and 1.*"independent_probabilities"'):
            TeacherCache.build(tmp_path / "cache", made, dataset())
        assert not (tmp_path / "cache").exists()
    made = distiller(CallableTeacher(unit, head="independent_probabilities"))
    made = distiller(made.teacher, [FeatureDistillation("mse", "output", "output")])
    cache = TeacherCache.build(tmp_path, made, dataset(), dtype="float32")
    expected = function(examples()[0])["output"]
    np.testing.assert_allclose(stored(cache)[2]["output"], expected, rtol=1e-2, atol=2e-3)


@pytest.mark.parametrize("side", ["teacher", "student", "function"])
def test_independent_labels_are_never_stored_as_top_k(tmp_path, side):
    teacher = headed(6, "sigmoid" if side == "teacher" else "linear", 20)
    if side == "function":
        model = teacher
        teacher = CallableTeacher(lambda x: model(x).numpy(), head="independent_logits")
    made = tfkd.Distiller(teacher, network(3, classes=20), LogitsDistillation())
    loss = keras.losses.BinaryCrossentropy(from_logits=True) if side == "student" else None
    made.compile("sgd", loss, run_eagerly=True)
    with pytest.raises(ValueError, match="top_k stores .* independent labels"):
        TeacherCache.build(tmp_path / "cache", made, dataset(), top_k=5)
    assert not (tmp_path / "cache").exists()


# Numbers of examples and several views of one.


@keras.saving.register_keras_serializable("tests")
class IndexSum(DistillationLoss):
    needs = ("index",)

    def call(self, teacher, student, index):
        return tf.cast(index, tf.float32) + 0 * tf.reduce_sum(student, -1)


def test_a_loss_reads_the_numbers_of_the_examples(tmp_path):
    made = distiller(losses=[IndexSum()])
    cache = TeacherCache.build(tmp_path, made, dataset(), batch_size=16)
    assert sorted(cache.knowledge_shapes) == ["output"]
    logs = made.evaluate(cache.dataset(dataset(), 16), verbose=0, return_dict=True)
    assert logs["index_sum"] == pytest.approx(19.5)


def test_a_layer_called_index_is_refused(tmp_path):
    teacher = network(6)
    teacher.get_layer("stage1_out").name = "index"
    made = distiller(teacher, [FeatureDistillation("mse", "index", "stage1_out")])
    with pytest.raises(ValueError, match='"index".*name of the examples'):
        TeacherCache.build(tmp_path / "cache", made, dataset())


@pytest.mark.parametrize("together", [2, 3, 5])
def test_several_views_stand_next_to_each_other(tmp_path, together):
    """Views e * V to e * V + V - 1 of the five, each with what the teacher says of it."""
    made, (images, labels) = distiller(losses=[LogitsDistillation()]), examples()
    cache = TeacherCache.build(tmp_path, made, dataset(), CROP_FLIP, 5, 16, dtype="float32")
    batches = cache.dataset(dataset(), 12, views_per_step=together)
    for epoch in range(3):
        seen = []
        for x, y, weights, knowledge in batches:
            index = knowledge["index"].numpy().reshape(-1, together)
            assert len(x) == len(weights) == index.size and len(index) in (12, 4)
            assert (index == index[:, :1]).all()
            for place in range(together):
                rows, view = index[:, place], (epoch * together + place) % 5
                expected = CROP_FLIP(images[rows], data.view_seed(rows, view))
                np.testing.assert_array_equal(x[place::together], expected)
                np.testing.assert_array_equal(y[place::together], labels[rows])
                np.testing.assert_allclose(
                    knowledge["output"][place::together], made.teacher(expected), atol=2e-5
                )
            seen += index[:, 0].tolist()
        assert sorted(seen) == list(range(40)) and seen != sorted(seen)
    assert int(batches.cardinality()) == 4


@pytest.mark.parametrize(
    ("given", "message"), [(6, "holds 5 views"), (0, "is 0"), (1.5, "whole"), (True, "whole")]
)
def test_views_that_are_not_stored(tmp_path, given, message):
    made = distiller(losses=[LogitsDistillation()])
    cache = TeacherCache.build(tmp_path, made, dataset(), CROP_FLIP, 5, 16)
    with pytest.raises(ValueError, match=f"views_per_step.*{message}"):
        cache.dataset(dataset(), 12, views_per_step=given)


# Inputs of every kind.


def two_sizes(augment=None):
    """Live batches and the dataset of images for the teacher, and at half the size."""
    images, labels = examples()
    half = images[:, ::2, ::2]
    x = {"teacher": images, "student": half}
    if augment is not None:
        seeds = data.view_seed(tf.range(40), 0)
        augmented = {side: augment(part, seeds) for side, part in x.items()}
    live = tf.data.Dataset.from_tensor_slices((augmented if augment else x, labels)).batch(40)
    return live, tf.data.Dataset.from_tensor_slices((x, labels))


def half_student():
    image = keras.Input((4, 4, 3))
    x = layers.GlobalAveragePooling2D()(layers.Conv2D(3, 3)(layers.Rescaling(1 / 255)(image)))
    return keras.Model(image, layers.Dense(CLASSES)(x))


def separate(teacher=None):
    losses = [LogitsDistillation(2.0)]
    made = tfkd.Distiller(teacher or network(6), half_student(), losses, separate_inputs=True)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    made.compile(keras.optimizers.SGD(0.1), loss, run_eagerly=True)
    return made


@pytest.mark.parametrize("augment", [None, CROP_FLIP])
def test_a_student_at_half_the_teachers_size(tmp_path, augment):
    live, unbatched = two_sizes(augment)
    by_teacher = separate()
    by_cache = separate(by_teacher.teacher)
    by_cache.student.set_weights(by_teacher.student.get_weights())
    cache = TeacherCache.build(tmp_path, by_teacher, unbatched, augment, dtype="float32")
    assert cache.manifest["inputs"] == {
        "student": {"shape": [4, 4, 3], "dtype": "uint8"},
        "teacher": {"shape": [8, 8, 3], "dtype": "uint8"},
    }
    by_teacher.fit(live, epochs=3, verbose=0)
    batches = cache.dataset(unbatched, 40, shuffle=False)
    history = by_cache.fit(batches, epochs=3, verbose=0).history
    assert history["loss"][2] < history["loss"][0]
    for own, other in zip(by_cache.student.weights, by_teacher.student.weights, strict=True):
        np.testing.assert_allclose(own, other, rtol=1e-5, atol=1e-6)


def test_an_augmentation_makes_both_inputs_of_one_image(tmp_path):
    def both(images, seeds):
        moved = CROP_FLIP(images, seeds)
        return {"teacher": moved, "student": moved[:, ::2, ::2]}

    made = separate()
    cache = TeacherCache.build(tmp_path, made, dataset(), both, 2, 16, augment_name="both")
    x, _, _, knowledge = next(iter(cache.dataset(dataset(), 40, augment=both)))
    np.testing.assert_array_equal(x["student"], x["teacher"][:, ::2, ::2])
    np.testing.assert_allclose(
        knowledge["output"], made.teacher(x["teacher"]), rtol=2e-3, atol=1e-4
    )
    assert made.fit(cache.dataset(dataset(), 20, augment=both), verbose=0).history["loss"][0] > 0


def test_inputs_that_are_not_for_each(tmp_path):
    with pytest.raises(ValueError, match="separate_inputs=True.*teacher.*student"):
        TeacherCache.build(tmp_path, separate(), dataset())


def many_inputs(count=24):
    """Words, a sequence of numbers and a picture, as one example's input."""
    random = np.random.default_rng(0)
    words = random.choice(["red", "green", "blue"], (count, 1))
    numbers = random.integers(0, 9, (count, 5)).astype("int32")
    pictures = random.normal(size=(count, 4, 4)).astype("float32")
    return {"words": words, "numbers": numbers, "pictures": pictures}, random.integers(0, 3, count)


def many_inputs_network(width):
    words = keras.Input((1,), dtype="string", name="words")
    numbers = keras.Input((5,), dtype="int32", name="numbers")
    pictures = keras.Input((4, 4), name="pictures")
    vocabulary = ["red", "green", "blue"]
    looked_up = layers.Flatten()(layers.StringLookup(vocabulary=vocabulary)(words))
    parts = [
        layers.Flatten()(layers.Embedding(5, width)(looked_up)),
        layers.Flatten()(layers.Embedding(10, width)(numbers)),
        layers.Flatten()(pictures),
    ]
    inputs = {"words": words, "numbers": numbers, "pictures": pictures}
    return keras.Model(inputs, layers.Dense(3)(layers.Concatenate()(parts)))


def test_words_numbers_and_pictures_at_once(tmp_path):
    x, y = many_inputs()
    unbatched = tf.data.Dataset.from_tensor_slices((x, y))
    made = tfkd.Distiller(many_inputs_network(4), many_inputs_network(2), LogitsDistillation())
    cache = TeacherCache.build(tmp_path, made, unbatched, batch_size=8, dtype="float32")
    whole, _, _, knowledge = next(iter(cache.dataset(unbatched, 24)))
    np.testing.assert_allclose(knowledge["output"], made.teacher(whole), atol=1e-5)
    for part in x:  # every part belongs to the example
        other = dict(x) | {part: np.roll(x[part], 1, axis=0)}
        with pytest.raises(ValueError, match=r"example \d+ of the dataset is not"):
            cache.dataset(tf.data.Dataset.from_tensor_slices((other, y)), 8)


def test_examples_without_labels(tmp_path):
    images = examples()[0]
    unbatched = tf.data.Dataset.from_tensor_slices(images).map(lambda image: (image, None))
    made = distiller(losses=[LogitsDistillation(2.0)])
    made.student_loss_weight = 0
    cache = TeacherCache.build(tmp_path, made, unbatched, CROP_FLIP, 2, 16, dtype="float32")
    for together in (1, 2):
        x, y, _, knowledge = next(iter(cache.dataset(unbatched, 10, views_per_step=together)))
        assert y is None and len(x) == 10 * together
        np.testing.assert_allclose(knowledge["output"], made.teacher(x), atol=2e-5)
    made.compile("sgd", run_eagerly=True)
    logs = made.evaluate(cache.dataset(unbatched, 40), verbose=0, return_dict=True)
    seen = CROP_FLIP(images, data.view_seed(tf.range(40), 0))
    expected = kl(made.teacher(seen).numpy(), made.student(seen).numpy(), 2.0)
    assert logs["logits_distillation"] == pytest.approx(expected, rel=1e-4)


def test_manifests_name_no_place(tmp_path):
    network(6).export(tmp_path / "teacher", verbose=False)
    layer = layers.TFSMLayer(str(tmp_path / "teacher"), call_endpoint="serve")
    (tmp_path / "elsewhere").mkdir()
    made = tfkd.Distiller(layer, network(3), LogitsDistillation())
    images, labels = examples()
    floats = tf.data.Dataset.from_tensor_slices((images.astype("float32"), labels))
    cache = TeacherCache.build(tmp_path / "cache", made, floats)
    assert str(tmp_path) not in json.dumps(cache.manifest)
    (tmp_path / "teacher").rename(tmp_path / "elsewhere" / "teacher")
    layer = layers.TFSMLayer(str(tmp_path / "elsewhere" / "teacher"), call_endpoint="serve")
    TeacherCache(tmp_path / "cache", tfkd.Distiller(layer, network(3), LogitsDistillation()))
