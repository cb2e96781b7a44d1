"""The Distiller: a test or more for each thing that `keras.distillation` gets wrong, C1 to C17."""

import json

import h5py
import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import tfkd
from tfkd.losses import FeatureDistillation, LogitsDistillation

CLASSES = 4


def cross_entropy():
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def network(width, name, size=8, stages=2, dropout=0.0, regularizer=None):
    """A small convolutional classifier on raw pixels, tapped at stage1_out, stage2_out, ..."""
    image = keras.Input((size, size, 3), name="image")
    x = layers.Rescaling(1 / 255)(image)
    for stage in range(1, stages + 1):
        # Without bias: before BatchNormalization its gradient is rounding error and nothing else.
        x = layers.Conv2D(
            width * stage,
            3,
            strides=stage,
            padding="same",
            use_bias=False,
            kernel_regularizer=regularizer,
        )(x)
        x = layers.BatchNormalization()(x)
        x = layers.ReLU(name=f"stage{stage}_out")(x)
    x = layers.GlobalAveragePooling2D()(x)
    x = layers.Dropout(dropout)(x)
    return keras.Model(image, layers.Dense(CLASSES, name="logits")(x), name=name)


def images(count=16, size=8, seed=0):
    random = np.random.default_rng(seed)
    x = random.integers(0, 256, (count, size, size, 3)).astype("float32")
    return x, random.integers(0, CLASSES, count)


def hint(**options):
    return FeatureDistillation("mse", "stage2_out", "stage2_out", **options)


def distiller(teacher=None, student=None, losses=None, optimizer="sgd", **options):
    made = tfkd.Distiller(
        teacher or network(6, "teacher"),
        student or network(3, "student"),
        losses or [LogitsDistillation(2.0), hint()],
        **options,
    )
    made.compile(optimizer, cross_entropy(), metrics=["accuracy"])
    return made


def weights_of(model):
    return [weight.numpy() for weight in model.weights]


def assert_equal_weights(first, second, tolerance=0.0):
    # Threads add up in no fixed order: two equal runs may differ in the last digit.
    for a, b in zip(first, second, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance)


class Counted(layers.Layer):
    """Counts how often a model that contains it is run, and how often it is traced."""

    def build(self, input_shape):
        self.runs = self.add_weight(shape=(), initializer="zeros", trainable=False)
        self.traces = 0

    def call(self, inputs):
        self.traces += 1
        self.runs.assign_add(1.0)
        return inputs


def counted(width, name):
    image = keras.Input((8, 8, 3))
    x = layers.Conv2D(width, 3, name="stage2_out")(Counted(name="counted")(image))
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(image, layers.Dense(CLASSES)(x), name=name)


# C1: the default loss distils.


def test_default_loss_reaches_a_linear_teacher():
    """With labels left out, a linear student ends up agreeing with its linear teacher."""
    x = np.random.default_rng(0).normal(size=(512, 8)).astype("float32")
    teacher = keras.Sequential([layers.Input((8,)), layers.Dense(CLASSES)])
    teacher.layers[0].kernel.assign(3 * teacher.layers[0].kernel)
    student = keras.Sequential([layers.Input((8,)), layers.Dense(CLASSES)])
    made = tfkd.Distiller(teacher, student, LogitsDistillation(), student_loss_weight=0)
    made.compile(keras.optimizers.Adam(0.03))
    made.fit(x, epochs=30, verbose=0)
    classes = [np.argmax(model.predict(x, verbose=0), axis=1) for model in (teacher, student)]
    assert np.mean(classes[0] == classes[1]) > 0.97


# C2, C3: one pass, and evaluation leaves no trace.


def test_each_model_runs_once_a_step():
    teacher, student = counted(6, "teacher"), counted(3, "student")
    made = distiller(teacher, student)
    for model in (teacher, student):
        model.get_layer("counted").runs.assign(0.0)
    with pytest.warns(UserWarning, match="runs as it is"):  # this teacher counts: no constant
        made.fit(*images(16), batch_size=4, epochs=2, verbose=0)
    assert float(student.get_layer("counted").runs) == 8
    assert float(teacher.get_layer("counted").runs) == 8


def test_batch_statistics_move_once_a_step():
    student = network(3, "student")
    norm = next(layer for layer in student.layers if isinstance(layer, layers.BatchNormalization))
    x, y = images(4)
    made = distiller(student=student)
    seen = keras.Model(student.input, norm.input)(x).numpy().astype("float64")
    before = norm.moving_mean.numpy()
    made.fit(x, y, batch_size=4, epochs=1, verbose=0)
    expected = 0.99 * before + 0.01 * seen.mean((0, 1, 2))
    np.testing.assert_allclose(norm.moving_mean.numpy(), expected, rtol=1e-5, atol=1e-6)


def test_evaluate_changes_nothing_and_repeats_itself():
    student = network(3, "student", dropout=0.5)
    made = distiller(student=student)
    x, y = images()
    before = weights_of(student)
    results = [made.evaluate(x + 50, y, verbose=0, return_dict=True) for _ in range(2)]
    assert results[0] == results[1]
    assert_equal_weights(before, weights_of(student))


def test_hints_and_labels_see_one_dropout_mask():
    """A hint on the student's own output, doubled, is a function of the output that CE sees."""
    image = keras.Input((4,))
    student = keras.Model(image, layers.Dropout(0.5, name="dropped")(layers.Dense(4)(image)))
    teacher = keras.Sequential([layers.Input((4,)), layers.Dense(4, kernel_initializer="zeros")])
    losses = [
        FeatureDistillation("mse", "output", "output", name="by_output"),
        FeatureDistillation("mse", "output", "dropped", name="by_tap"),
    ]
    made = tfkd.Distiller(teacher, student, losses, student_loss_weight=0)
    made.compile("sgd")
    logs = made.train_on_batch(np.ones((64, 4), "float32"), return_dict=True)
    assert logs["by_output"] == logs["by_tap"] > 0


# C4: sample weights, class weights, masks.


def test_sample_weights_count_as_repetitions():
    x, y = images(4)
    weighted, repeated = np.array([2.0, 1, 1, 0]), [0, 0, 1, 2]
    value = {}
    for name, data, weight in (("w", (x, y), weighted), ("r", (x[repeated], y[repeated]), None)):
        keras.utils.set_random_seed(1)
        value[name] = distiller().evaluate(*data, sample_weight=weight, verbose=0, return_dict=True)
    for metric in ("loss", "student_loss", "logits_distillation", "feature_distillation"):
        assert value["w"][metric] == pytest.approx(value["r"][metric], rel=1e-5)


def test_weights_of_zero_leave_the_student_alone():
    made = distiller()
    x, y = images(8)
    before = [v.numpy() for v in made.trainable_variables]
    made.fit(x, y, sample_weight=np.zeros(8), verbose=0)
    assert_equal_weights(before, [v.numpy() for v in made.trainable_variables])


def test_class_weights_equal_sample_weights():
    x, y = images(8)
    after = []
    for options in ({"class_weight": {0: 3.0, 1: 1.0, 2: 0.0, 3: 1.0}}, {}):
        keras.utils.set_random_seed(1)
        made = distiller()
        if not options:
            options = {"sample_weight": np.array([3.0, 1.0, 0.0, 1.0])[y]}
        made.fit(x, y, batch_size=8, verbose=0, **options)
        after.append(weights_of(made.student))
    assert_equal_weights(*after, tolerance=1e-7)


@pytest.mark.parametrize("one_hot", [False, True])
def test_class_weights_count_with_stored_knowledge(one_hot):
    x, y = images(8)
    class_weight = {0: 3.0, 2: 0.5}
    own = np.linspace(0.5, 1.5, 8).astype("float32")
    knowledge = distiller().knowledge(x)
    after = []
    for weights, options in (
        (own, {"class_weight": class_weight}),
        (own * [class_weight.get(label, 1.0) for label in y], {}),
    ):
        keras.utils.set_random_seed(1)
        student = network(3, "student")
        made = tfkd.Distiller(None, student, [LogitsDistillation(2.0), hint()])
        loss = keras.losses.CategoricalCrossentropy if one_hot else cross_entropy
        made.compile("sgd", loss(from_logits=True) if one_hot else loss())
        labels = np.eye(CLASSES)[y] if one_hot else y
        data = (x, labels, weights.astype("float32"), knowledge)
        made.fit(tf.data.Dataset.from_tensors(data), verbose=0, **options)
        after.append(weights_of(student))
    assert_equal_weights(*after, tolerance=1e-7)


def test_class_weights_without_labels_are_refused():
    x, _ = images(8)
    made = tfkd.Distiller(None, network(3, "student"), hint(), student_loss_weight=0)
    made.compile("sgd")
    data = tf.data.Dataset.from_tensors((x, None, None, distiller().knowledge(x)))
    with pytest.raises(ValueError, match="needs one label .* labels are None. Leave it out"):
        made.fit(data, class_weight={0: 3.0}, verbose=0)


def test_padding_does_not_count():
    def tagger(units):
        tokens = keras.Input((None,), dtype="int32")
        x = layers.Embedding(10, units, mask_zero=True)(tokens)
        return keras.Model(tokens, layers.Dense(CLASSES)(x))

    teacher, student = tagger(6), tagger(3)
    teacher.layers[-1].kernel.assign(30 * teacher.layers[-1].kernel)
    made = tfkd.Distiller(teacher, student, LogitsDistillation(2.0), student_loss_weight=0)
    made.compile("sgd")
    tokens = np.array([[1, 2, 3], [4, 5, 6]])
    padded = np.pad(tokens, ((0, 0), (0, 5)))
    logs = [made.evaluate(x, verbose=0, return_dict=True) for x in (tokens, padded)]
    assert logs[1]["loss"] == pytest.approx(logs[0]["loss"], rel=1e-5)
    assert logs[0]["loss"] > 0.1


# C5: regularisers.


def test_regularisers_count_whole():
    student = network(3, "student", regularizer=keras.regularizers.L2(0.1))
    made = distiller(student=student, student_loss_weight=0.25)
    logs = made.evaluate(*images(), verbose=0, return_dict=True)
    penalty = sum(0.1 * np.sum(np.square(w.numpy())) for w in student.weights if "kernel" in w.path)
    penalty -= 0.1 * np.sum(np.square(student.get_layer("logits").kernel.numpy()))
    expected = 0.25 * logs["student_loss"] + 0.75 * logs["distillation_loss"] + penalty
    assert logs["loss"] == pytest.approx(expected, rel=1e-5)


def test_activity_regularisers_count_under_mixed_precision():
    keras.config.set_dtype_policy("mixed_float16")
    image = keras.Input((8, 8, 3))
    x = layers.Conv2D(3, 3, activity_regularizer=keras.regularizers.L2(0.01))(image)
    x = layers.GlobalAveragePooling2D()(x)
    student = keras.Model(image, layers.Dense(CLASSES, dtype="float32")(x))
    made = distiller(student=student, losses=LogitsDistillation())
    x, y = images()
    logs = made.evaluate(x / 255, y, verbose=0, return_dict=True)
    weighted = 0.5 * logs["student_loss"] + 0.5 * logs["distillation_loss"]
    activity = keras.Model(image, student.layers[1].output).predict(x / 255, verbose=0)
    penalty = 0.01 * np.sum(np.square(activity.astype("float64"))) / len(x)
    assert logs["loss"] - weighted == pytest.approx(penalty, rel=5e-3)
    assert penalty > 0.01


# C6: nothing is ignored in silence.


def test_a_weight_for_a_single_loss_is_used():
    made = distiller(losses=LogitsDistillation(2.0), distillation_loss_weights=[5.0])
    logs = made.evaluate(*images(), verbose=0, return_dict=True)
    assert logs["distillation_loss"] == pytest.approx(5 * logs["logits_distillation"], rel=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"distillation_losses": []}, "at least one loss"),
        ({"distillation_losses": None}, "at least one loss"),
        ({"distillation_losses": ["mse"]}, "Expected a distillation loss"),
        ({"distillation_loss_weights": [1.0, 2.0]}, "one weight for each of the 1"),
        ({"distillation_loss_weights": [-1.0]}, "must be at least 0"),
        ({"distillation_loss_weights": [np.nan]}, "must be at least 0"),
        ({"student_loss_weight": 1.5}, "between 0.0 and 1.0"),
        ({"student_loss_weight": "half"}, "must be a number"),
        ({"teacher": "resnet"}, "teacher must be a keras.Model"),
        ({"student": None}, "student must be a keras.Model"),
    ],
)
def test_bad_arguments_are_named(options, message):
    arguments = {
        "teacher": network(6, "teacher"),
        "student": network(3, "student"),
        "distillation_losses": LogitsDistillation(),
    }
    with pytest.raises(ValueError, match=message):
        tfkd.Distiller(**{**arguments, **options})


def test_a_model_cannot_be_its_own_teacher():
    student = network(3, "student")
    with pytest.raises(ValueError, match="clone_model"):
        tfkd.Distiller(student, student, LogitsDistillation())
    assert student.trainable


# C7: heads.


def test_one_logit_heads_are_distilled():
    def binary(units, name):
        return keras.Sequential([layers.Input((4,)), layers.Dense(1)], name=name)

    made = tfkd.Distiller(binary(1, "a"), binary(1, "b"), LogitsDistillation(1.0))
    made.compile("sgd", keras.losses.BinaryCrossentropy(from_logits=True))
    x = np.random.default_rng(0).normal(size=(8, 4))
    logs = made.evaluate(x, np.ones((8, 1)), verbose=0, return_dict=True)
    t, s = (
        model.predict(x, verbose=0)[:, 0].astype("float64")
        for model in (made.teacher, made.student)
    )
    p, q = 1 / (1 + np.exp(-t)), 1 / (1 + np.exp(-s))
    expected = np.mean(p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q)))
    assert logs["logits_distillation"] == pytest.approx(expected, rel=1e-5)
    assert expected > 0.01


def test_softmax_heads_are_not_softened_twice():
    """A student and a teacher that end in softmax give what their logits would."""
    logs = []
    for activation in (None, "softmax"):
        keras.utils.set_random_seed(3)
        models = []
        for units in (7, 5):
            image = keras.Input((4,))
            x = layers.Dense(units, activation="relu")(image)
            models.append(keras.Model(image, layers.Dense(CLASSES, activation=activation)(x)))
        made = tfkd.Distiller(*models, LogitsDistillation(3.0))
        made.compile("sgd", keras.losses.SparseCategoricalCrossentropy(activation is None))
        x = np.random.default_rng(0).normal(size=(8, 4))
        made.fit(x, np.arange(8) % CLASSES, verbose=0)
        logs.append(made.evaluate(x, np.arange(8) % CLASSES, verbose=0, return_dict=True))
    assert logs[0]["logits_distillation"] > 1e-3
    for name, value in logs[0].items():
        assert logs[1][name] == pytest.approx(value, rel=1e-4)


def test_a_crossentropy_by_name_is_one_of_logits():
    made = tfkd.Distiller(network(6, "teacher"), network(3, "student"), LogitsDistillation())
    x, y = images()
    with pytest.warns(UserWarning, match="from_logits=True"):
        made.compile("sgd", "sparse_categorical_crossentropy")
    by_name = made.evaluate(x, y, verbose=0, return_dict=True)["student_loss"]
    logits = made.student.predict(x, verbose=0).astype("float64")
    log_softmax = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    assert by_name == pytest.approx(-np.mean(log_softmax[np.arange(16), y]), rel=1e-5)


# C8 is a matter of the losses alone: tests/losses/test_logits.py.

# C9: replicas.


def test_two_replicas_equal_one_device(tmp_path):
    """In a process of its own, as the number of logical devices is fixed at TensorFlow's start."""
    import subprocess
    import sys

    script = tmp_path / "replicas.py"
    script.write_text(_REPLICAS)
    done = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["replicas"] == 2
    assert found["weights"] < 1e-6
    for name, value in found["one"].items():
        assert found["two"][name] == pytest.approx(value, rel=1e-5), name
    assert found["epochs"] == [1, 1]  # counted from 0: no batch is drawn but those of the two


_REPLICAS = """
import contextlib, json
import numpy as np, tensorflow as tf, keras
from keras import layers
import tfkd
from tfkd.data import pipeline
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)

def network(width):
    image = keras.Input((8, 8, 3))
    x = layers.Conv2D(width, 3, strides=2, kernel_regularizer="l2", name="stage1_out")(image)
    x = layers.BatchNormalization(synchronized=True)(x)
    x = layers.GlobalAveragePooling2D()(layers.ReLU()(x))
    return keras.Model(image, layers.Dense(4, kernel_regularizer="l2")(x))

def train(strategy):
    keras.utils.set_random_seed(0)
    with strategy.scope() if strategy else contextlib.nullcontext():
        losses = [tfkd.losses.LogitsDistillation(2.0), tfkd.losses.FeatureDistillation(
            "mse", "stage1_out", "stage1_out", normalize=True)]
        made = tfkd.Distiller(network(6), network(3), losses, [1.0, 0.5])
        made.compile(keras.optimizers.SGD(0.1), keras.losses.SparseCategoricalCrossentropy(True))
    random = np.random.default_rng(0)
    x, y = random.normal(size=(32, 8, 8, 3)).astype("float32"), random.integers(0, 4, 32)
    data = tf.data.Dataset.from_tensor_slices((x, y, random.uniform(size=32))).batch(8)
    counted = pipeline._epochs()
    data = counted.flat_map(lambda epoch: data)
    logs = {k: v[-1] for k, v in made.fit(data, epochs=2, verbose=0).history.items()}
    return logs, [w.numpy() for w in made.trainable_variables], int(counted._tfkd_epoch)

strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
one, two = train(None), train(strategy)
apart = max(float(np.abs(a - b).max()) for a, b in zip(one[1], two[1], strict=True))
print(json.dumps({"replicas": strategy.num_replicas_in_sync, "weights": apart,
                  "one": one[0], "two": two[0], "epochs": [one[2], two[2]]}))
"""


# C10: several outputs.


def two_heads(width, form, name):
    image = keras.Input((4,))
    x = layers.Dense(width, activation="relu")(image)
    heads = {"shape": layers.Dense(3)(x), "colour": layers.Dense(2)(x)}
    outputs = heads if form == "dict" else list(heads.values())
    return keras.Model(image, outputs, name=name)


@pytest.mark.parametrize("form", ["dict", "list"])
def test_several_outputs(form):
    formulas = {"shape": "kl_divergence", "colour": None}
    labels = {"shape": np.arange(8) % 3, "colour": np.arange(8) % 2}
    ce = {"shape": cross_entropy(), "colour": cross_entropy()}
    if form == "list":
        formulas, labels, ce = (list(d.values()) for d in (formulas, labels, ce))
    teacher, student = two_heads(6, form, "teacher"), two_heads(3, form, "student")
    made = tfkd.Distiller(teacher, student, LogitsDistillation(2.0, loss=formulas))
    made.compile("sgd", ce)
    x = np.random.default_rng(0).normal(size=(8, 4))
    history = made.fit(x, labels, verbose=0).history
    assert history["student_loss"][0] > 0
    key = "shape" if form == "dict" else 0
    single = LogitsDistillation(2.0)
    t, s = (model.predict(x, verbose=0)[key] for model in (teacher, student))
    logs = made.evaluate(x, labels, verbose=0, return_dict=True)
    assert logs["distillation_loss"] == pytest.approx(float(single(t, s)), rel=1e-5)


def test_several_outputs_need_a_choice():
    with pytest.raises(ValueError, match=r"\['shape', 'colour'\]"):
        tfkd.Distiller(
            two_heads(6, "dict", "teacher"), two_heads(3, "dict", "student"), LogitsDistillation()
        )


# C11: saving and going on.


def test_saved_distiller_continues_like_an_uninterrupted_one(tmp_path):
    x, y = images(32)
    data = tf.data.Dataset.from_tensor_slices((x, y)).batch(8)
    keras.utils.set_random_seed(5)
    made = distiller(optimizer="adam")
    made.fit(data, epochs=2, verbose=0)
    made.distillation_loss_weights = [1.0, 0.25]
    made.distillation_losses[0].temperature = 5.0
    made.save(tmp_path / "distiller.keras")
    made.fit(data, epochs=2, verbose=0)
    loaded = keras.models.load_model(tmp_path / "distiller.keras")
    assert loaded.distillation_loss_weights == [1.0, 0.25]
    assert loaded.distillation_losses[0].temperature == 5.0
    loaded.fit(data, epochs=2, verbose=0)
    assert_equal_weights(weights_of(made.student), weights_of(loaded.student), tolerance=1e-6)
    assert_equal_weights(weights_of(made.adapters), weights_of(loaded.adapters), tolerance=1e-6)
    assert_equal_weights(weights_of(made.teacher), weights_of(loaded.teacher))


def test_weights_files_hold_no_teacher(tmp_path):
    made = distiller(teacher=network(50, "teacher"))
    made.save_weights(tmp_path / "distiller.weights.h5")
    sizes = []
    with h5py.File(tmp_path / "distiller.weights.h5") as file:
        file.visititems(
            lambda name, item: (
                sizes.append(item.size)
                if isinstance(item, h5py.Dataset) and "optimizer" not in name
                else None
            )
        )
    expected = sum(int(np.prod(w.shape)) for w in [*made.student.weights, *made.adapters.weights])
    assert sum(sizes) <= expected + 16  # seeds of random layers besides
    fresh = distiller(teacher=made.teacher)
    fresh.load_weights(tmp_path / "distiller.weights.h5")
    assert_equal_weights(weights_of(made.student), weights_of(fresh.student))


def test_an_unfitted_distiller_is_saved_loaded_and_exported(tmp_path):
    made = distiller()
    x, _ = images(3)
    made.save(tmp_path / "distiller.keras")
    loaded = keras.models.load_model(tmp_path / "distiller.keras")
    np.testing.assert_array_equal(made.predict(x, verbose=0), loaded.predict(x, verbose=0))
    made.export(tmp_path / "export", verbose=False)
    restored = tf.saved_model.load(tmp_path / "export")
    exported = sum(int(np.prod(v.shape)) for v in restored.variables)
    assert exported == made.student.count_params()


def test_config_round_trip():
    made = distiller(distillation_loss_weights=[0.7, 0.3], student_loss_weight=0.1)
    config = json.loads(json.dumps(made.get_config()))
    again = tfkd.Distiller.from_config(config)
    assert json.dumps(again.get_config()) == json.dumps(made.get_config())
    assert again.distillation_loss_weights == [0.7, 0.3]
    assert again.student_loss_weight == 0.1


def test_training_resumes_from_a_backup(tmp_path):
    """Keras's BackupAndRestore finds everything that it needs in the weights."""
    x, y = images(16)

    class Stop(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            if epoch == 1:
                raise KeyboardInterrupt

    data = tf.data.Dataset.from_tensor_slices((x, y)).batch(8)
    trained = []
    for interrupted in (False, True):
        keras.utils.set_random_seed(5)
        made = distiller(optimizer="adam")
        backup = keras.callbacks.BackupAndRestore(tmp_path / f"backup{interrupted}")
        if interrupted:
            with pytest.raises(KeyboardInterrupt):
                made.fit(data, epochs=4, verbose=0, callbacks=[backup, Stop()])
            keras.utils.set_random_seed(5)
            made = distiller(optimizer="adam")
        made.fit(data, epochs=4, verbose=0, callbacks=[backup])
        trained.append(weights_of(made.student))
    assert_equal_weights(*trained, tolerance=1e-6)


# C12: what a tuner needs.


def test_a_built_distiller_restores_weights_before_any_fit(tmp_path):
    made = distiller()
    made.fit(*images(8), verbose=0)
    made.save_weights(tmp_path / "trial.weights.h5")
    again = distiller()
    again.load_weights(tmp_path / "trial.weights.h5")
    assert_equal_weights(weights_of(made.student), weights_of(again.student))


# C13: different inputs, dtypes and kinds of teachers.


def test_models_own_their_preprocessing():
    image = keras.Input((None, None, 3))
    small = network(3, "inner")
    student = keras.Model(image, small(layers.Resizing(8, 8)(image)), name="student")
    teacher = network(6, "teacher", size=16)
    losses = [LogitsDistillation(), FeatureDistillation("mse", "stage2_out", "inner/stage2_out")]
    made = distiller(teacher, student, losses)
    history = made.fit(*images(8, size=16), verbose=0).history
    assert history["feature_distillation"][0] > 0


def test_inputs_that_do_not_fit_are_named():
    message = r"teacher takes \(None, 16, 16, 3\) and the student \(None, 8, 8, 3\).*Resizing"
    with pytest.raises(ValueError, match=message):
        tfkd.Distiller(network(6, "a", size=16), network(3, "b"), LogitsDistillation())


def test_different_class_counts_are_named():
    image = keras.Input((8, 8, 3))
    x = layers.GlobalAveragePooling2D()(image)
    other = keras.Model(image, layers.Dense(CLASSES + 1)(x))
    with pytest.raises(ValueError, match="same number of classes"):
        tfkd.Distiller(network(6, "teacher"), other, LogitsDistillation())
    tfkd.Distiller(network(6, "teacher"), other, hint_from_output())


def hint_from_output():
    return FeatureDistillation("mse", "output", "output")


def test_a_mixed_precision_student_learns_from_a_float32_teacher():
    teacher = network(6, "teacher")
    keras.config.set_dtype_policy("mixed_float16")
    student = network(3, "student")
    made = distiller(teacher, student)
    assert made.optimizer.__class__.__name__ == "LossScaleOptimizer"
    before = weights_of(student)
    x, y = images()
    logs = made.fit(x, y, batch_size=16, verbose=0).history
    single = distiller(teacher, student)
    expected = single.distillation_losses[0](
        teacher.predict(x, verbose=0), student.predict(x, verbose=0)
    )
    assert expected.dtype == "float32"
    now = made.evaluate(x, y, verbose=0, return_dict=True)
    assert now["logits_distillation"] == pytest.approx(float(expected), rel=1e-2)
    assert logs["logits_distillation"][0] > 0
    assert np.abs(before[0] - weights_of(student)[0]).max() > 0


def test_a_saved_model_teaches(tmp_path):
    teacher = network(6, "teacher")
    teacher.export(tmp_path / "teacher", verbose=False)
    layer = layers.TFSMLayer(tmp_path / "teacher", call_endpoint="serve")
    x, y = images(8)
    student = network(3, "student")
    logs = []
    for source in (layer, teacher):
        made = distiller(source, student, LogitsDistillation(2.0))
        logs.append(made.evaluate(x, y, verbose=0, return_dict=True))
    for name, value in logs[0].items():
        assert logs[1][name] == pytest.approx(value, rel=1e-5)


def test_unlabelled_data_needs_no_loss():
    made = tfkd.Distiller(
        network(6, "teacher"), network(3, "student"), LogitsDistillation(), student_loss_weight=0
    )
    made.compile("sgd")
    x, _ = images(8)
    history = made.fit(x, epochs=2, verbose=0).history
    assert "student_loss" not in history
    assert history["loss"] == history["distillation_loss"]
    assert history["loss"][1] < history["loss"][0]
    made.student_loss_weight = 0.5
    for data in (x, tf.data.Dataset.from_tensor_slices(x).batch(4)):
        with pytest.raises(ValueError, match="student_loss_weight is 0.5"):
            made.fit(data, verbose=0)


def test_numpy_numbers_are_numbers():
    made = distiller(
        distillation_loss_weights=np.array([1, 0.5], "float32"),
        student_loss_weight=np.float32(0.25),
    )
    assert made.distillation_loss_weights == [1.0, 0.5]


# C14, C15: adapters and taps.


def test_features_of_other_shapes_are_adapted_and_the_adapter_learns():
    made = distiller()
    assert made.adapters.count_params() == 6 * 12 + 12
    before = weights_of(made.adapters)
    clipped = keras.optimizers.SGD(1.0, global_clipnorm=1e-3)
    made.compile(clipped, cross_entropy())
    made.fit(*images(16), batch_size=16, verbose=0)
    moved = np.sqrt(
        sum(
            np.sum(np.square(a - b)) for a, b in zip(before, weights_of(made.adapters), strict=True)
        )
    )
    assert 0 < moved <= 1e-3
    student_names = {w.path for w in made.student.weights}
    assert not any("adapter" in name for name in student_names)


@keras.saving.register_keras_serializable("tests")
class AngleDistillation(tfkd.losses.DistillationLoss):
    """A loss as a user writes it."""

    adapts = True

    def call(self, teacher, student):
        product = keras.ops.normalize(teacher) * keras.ops.normalize(student)
        return 1 - keras.ops.sum(product, axis=-1)


def test_a_loss_of_ones_own(tmp_path):
    teacher = network(6, "teacher")
    vectors = layers.GlobalAveragePooling2D(name="pool")(teacher.get_layer("stage2_out").output)
    teacher = keras.Model(teacher.input, layers.Dense(CLASSES)(vectors))
    made = distiller(teacher, losses=[AngleDistillation("pool", "logits")])
    x, y = images(8)
    weights = np.arange(8.0)
    logs = made.evaluate(x, y, sample_weight=weights, verbose=0, return_dict=True)
    taught = keras.Model(teacher.input, vectors).predict(x, verbose=0)
    adapter = made.adapters.weights
    learnt = made.student.predict(x, verbose=0) @ adapter[0].numpy() + adapter[1].numpy()
    cosine = np.sum(taught * learnt, 1) / np.linalg.norm(taught, axis=1)
    cosine /= np.linalg.norm(learnt, axis=1)
    expected = np.mean(weights * (1 - cosine))
    assert logs["angle_distillation"] == pytest.approx(expected, rel=1e-4)
    made.save(tmp_path / "distiller.keras")
    again = keras.models.load_model(tmp_path / "distiller.keras")
    assert again.evaluate(x, y, sample_weight=weights, verbose=0, return_dict=True) == logs


def test_nested_and_subclassed_models_are_tapped():
    class Student(keras.Model):
        def __init__(self):
            super().__init__()
            self.blocks = [layers.Conv2D(4, 3, name="first"), layers.Conv2D(5, 3, name="second")]
            self.head = layers.Dense(CLASSES)

        def call(self, x):
            for block in self.blocks:
                x = block(x)
            return self.head(keras.ops.mean(x, axis=(1, 2)))

    image = keras.Input((8, 8, 3))
    backbone = keras.Sequential([layers.Conv2D(7, 3, name="deep")], name="backbone")
    x = layers.GlobalAveragePooling2D()(backbone(image))
    teacher = keras.Model(image, layers.Dense(CLASSES)(x), name="teacher")
    student = Student()
    made = distiller(teacher, student, [FeatureDistillation("mse", "backbone/deep", "second")])
    x, y = images(8)
    history = made.fit(x / 255, y, epochs=3, verbose=0).history
    assert history["feature_distillation"][2] < history["feature_distillation"][0]
    assert made.adapters.count_params() == 5 * 7 + 7


def test_unknown_layers_are_named_before_training():
    with pytest.raises(ValueError, match='No layer "stage2_ou" in student.*"stage2_out"'):
        tfkd.Distiller(
            network(6, "teacher"),
            network(3, "student"),
            FeatureDistillation("mse", "stage2_out", "stage2_ou"),
        )


# C16: numbers may change at any time.


@pytest.mark.parametrize("given", ["arrays", "dataset", "stored knowledge"])
def test_the_first_fit_traces_its_step_once(given, traces):
    # Keras makes metrics and optimizer slots within the step, and TensorFlow traces it again.
    x, y = images(16)
    made = distiller()
    if given == "stored knowledge":
        knowledge = {name: value.numpy() for name, value in made.knowledge(x).items()}
        made = tfkd.Distiller(None, network(3, "student"), [LogitsDistillation(2.0), hint()])
        made.compile("adam", cross_entropy(), metrics=["accuracy"])
        weights = np.ones(16, "float32")
        dataset = tf.data.Dataset.from_tensor_slices((x, y, weights, knowledge)).batch(8)
        history = made.fit(dataset, epochs=2, verbose=0).history
    elif given == "dataset":
        dataset = tf.data.Dataset.from_tensor_slices((x, y)).batch(8)
        history = made.fit(dataset, epochs=2, validation_data=dataset, verbose=0).history
    else:
        history = made.fit(x, y, batch_size=8, epochs=2, verbose=0).history
    assert len(traces) == 1
    assert len(history["accuracy"]) == 2


def test_weights_and_temperatures_change_without_a_retrace():
    student = counted(3, "student")
    made = distiller(network(6, "teacher"), student)
    data = images(8)
    made.fit(*data, batch_size=8, verbose=0)
    made.evaluate(*data, verbose=0)
    layer = student.get_layer("counted")
    traced = layer.traces
    before = made.evaluate(*data, verbose=0, return_dict=True)
    made.student_loss_weight = 0.125
    made.distillation_loss_weights[1] = 3.0
    made.distillation_losses[0].temperature = 7.0
    after = made.evaluate(*data, verbose=0, return_dict=True)
    made.fit(*data, batch_size=8, verbose=0)
    assert layer.traces == traced
    assert after["logits_distillation"] != before["logits_distillation"]
    distilled = after["logits_distillation"] + 3.0 * after["feature_distillation"]
    assert after["distillation_loss"] == pytest.approx(distilled, rel=1e-5)
    total = 0.125 * after["student_loss"] + 0.875 * distilled
    assert after["loss"] == pytest.approx(total, rel=1e-5)
    with pytest.raises(ValueError, match="between 0.0 and 1.0"):
        made.student_loss_weight = 2


def test_compile_takes_both_orders():
    made = distiller()
    x, y = images()
    made.compile("sgd", cross_entropy(), ["accuracy"])
    assert "accuracy" in made.evaluate(x, y, verbose=0, return_dict=True)
    made.compile("sgd", cross_entropy(), None, ["accuracy"])
    assert "accuracy" in made.evaluate(x, y, verbose=0, return_dict=True)


# C17: metrics, and the teacher.


def test_metrics_add_up_in_training_and_evaluation():
    twice = [LogitsDistillation(2.0), LogitsDistillation(4.0), hint()]
    made = distiller(losses=twice, distillation_loss_weights=[1.0, 2.0, 0.5])
    x, y = images(15)
    history = made.fit(x, y, batch_size=4, validation_data=(x, y), verbose=0).history
    for prefix in ("", "val_"):
        logs = {name: values[0] for name, values in history.items()}
        total = 0.5 * logs[f"{prefix}student_loss"] + 0.5 * logs[f"{prefix}distillation_loss"]
        parts = (
            logs[f"{prefix}logits_distillation"]
            + 2 * logs[f"{prefix}logits_distillation_2"]
            + 0.5 * logs[f"{prefix}feature_distillation"]
        )
        assert logs[f"{prefix}distillation_loss"] == pytest.approx(parts, rel=1e-5)
        assert logs[f"{prefix}loss"] == pytest.approx(total, rel=1e-5)
        assert logs[f"{prefix}total_loss"] == logs[f"{prefix}loss"]


def test_the_teacher_is_untouched():
    teacher = network(6, "teacher", dropout=0.5)
    made = distiller(teacher)
    before = weights_of(teacher)
    x, y = images()
    expected = teacher.predict(x, verbose=0)
    made.fit(x, y, validation_data=(x, y), epochs=2, verbose=0)
    assert_equal_weights(before, weights_of(teacher))
    np.testing.assert_array_equal(teacher.predict(x, verbose=0), expected)
    assert not teacher.trainable


def test_a_changed_teacher_is_not_mistaken_for_the_old_one():
    """The compiled steps hold the teacher's weights; they notice new ones."""
    teacher = network(6, "teacher")
    made = distiller(teacher)
    x, y = images()
    before = made.evaluate(x, y, verbose=0, return_dict=True)
    teacher.get_layer("logits").kernel.assign(5 * teacher.get_layer("logits").kernel)
    after = made.evaluate(x, y, verbose=0, return_dict=True)
    t, s = (model.predict(x, verbose=0) for model in (teacher, made.student))
    expected = float(LogitsDistillation(2.0)(t, s))
    assert after["logits_distillation"] == pytest.approx(expected, rel=1e-4)
    assert before["logits_distillation"] != pytest.approx(expected, rel=1e-2)


@pytest.mark.parametrize("tapped_first", [True, False])
def test_fused_and_composed_students_train_alike(tapped_first):
    """Also where an earlier Distiller has tapped the very layer that now runs fused."""
    x, y = images(32)
    trained = []
    for fused in (True, False):
        keras.utils.set_random_seed(7)
        teacher, student = network(6, "teacher"), network(3, "student")
        norm = next(
            layer.name for layer in student.layers if isinstance(layer, layers.BatchNormalization)
        )
        losses = [LogitsDistillation(2.0), FeatureDistillation("mse", "stage1_out", norm)]
        if tapped_first:
            distiller(teacher, student, losses, fused=False)
        made = distiller(teacher, student, losses, fused=fused)
        made.fit(x, y, batch_size=8, epochs=3, shuffle=False, verbose=0)
        trained.append(weights_of(student))
    assert_equal_weights(*trained, tolerance=1e-4)


# Beyond Keras: knowledge that is stored with the data.


def stored(teacher, x, y, names=("output", "stage2_out")):
    taps = keras.Model(
        teacher.input,
        {"output": teacher.output, "stage2_out": teacher.get_layer("stage2_out").output},
    )
    knowledge = {name: taps.predict(x, verbose=0)[name] for name in names}
    return tf.data.Dataset.from_tensor_slices((x, y, np.ones(len(y), "float32"), knowledge)).batch(
        8
    )


def test_stored_knowledge_equals_a_live_teacher(tmp_path):
    x, y = images(16)
    teacher = network(6, "teacher")
    data = stored(teacher, x, y)
    plain = tf.data.Dataset.from_tensor_slices((x, y)).batch(8)
    students = []
    for source in (teacher, None):
        keras.utils.set_random_seed(2)
        student = network(3, "student")
        made = tfkd.Distiller(source, student, [LogitsDistillation(2.0), hint()])
        made.compile("sgd", cross_entropy(), metrics=["accuracy"])
        made.evaluate(plain if source else data, verbose=0)
        for v, seed in zip(made.adapters.weights, (0, 1), strict=True):
            v.assign(np.random.default_rng(seed).normal(size=v.shape))
        made.fit(plain if source else data, epochs=2, verbose=0)
        students.append(weights_of(student))
    assert_equal_weights(*students, tolerance=1e-6)
    logs = made.evaluate(x, y, verbose=0, return_dict=True)
    assert set(logs) == {"student_loss", "accuracy"}
    made.save(tmp_path / "distiller.keras")
    loaded = keras.models.load_model(tmp_path / "distiller.keras")
    made.fit(data, verbose=0)
    loaded.fit(data, verbose=0)
    assert_equal_weights(weights_of(made.student), weights_of(loaded.student), tolerance=1e-6)


def test_missing_knowledge_is_named():
    x, y = images(8)
    teacher = network(6, "teacher")
    made = tfkd.Distiller(None, network(3, "student"), [LogitsDistillation(2.0), hint()])
    made.compile("sgd", cross_entropy())
    with pytest.raises(ValueError, match="reads 'stage2_out' of the teacher.*output"):
        made.fit(stored(teacher, x, y, names=("output",)), verbose=0)


# Every way of training that Keras has.


class Sequence(keras.utils.PyDataset):
    def __init__(self, batches):
        super().__init__()
        self.batches = batches

    def __len__(self):
        return len(self.batches)

    def __getitem__(self, index):
        return self.batches[index]


def test_all_ways_to_feed_and_to_run_train_alike():
    x, y = images(16)
    batches = [(x[:8], y[:8]), (x[8:], y[8:])]

    def stream():
        yield from batches

    whole = {"x": x, "y": y, "batch_size": 8, "shuffle": False, "verbose": 0}
    ways = {
        "arrays": ({}, lambda made: made.fit(**whole)),
        "eagerly": ({"run_eagerly": True}, lambda made: made.fit(**whole)),
        "two steps at once": ({"steps_per_execution": 2}, lambda made: made.fit(**whole)),
        "PyDataset": ({}, lambda made: made.fit(Sequence(batches), shuffle=False, verbose=0)),
        "generator": ({}, lambda made: made.fit(stream(), steps_per_epoch=2, verbose=0)),
        "by hand": ({}, lambda made: [made.train_on_batch(*batch) for batch in batches]),
        "positional": ({}, lambda made: made.fit(x, y, 8, 1, 0, shuffle=False)),
    }
    trained = {}
    for way, (options, train) in ways.items():
        keras.utils.set_random_seed(1)
        made = distiller()
        made.compile("sgd", cross_entropy(), metrics=["accuracy"], **options)
        train(made)
        trained[way] = weights_of(made.student)
    for weights in trained.values():
        assert_equal_weights(trained["arrays"], weights, tolerance=1e-6)


# Bad data.


def test_labels_out_of_range_stop_before_the_first_step():
    made = distiller()
    x, y = images(8)
    before = [v.numpy() for v in made.trainable_variables]
    y[3] = CLASSES
    with pytest.raises(ValueError, match=f"between 0 and {CLASSES - 1}"):
        made.fit(x, y, verbose=0)
    with pytest.raises(ValueError, match="labels must lie within"):
        made.fit(tf.data.Dataset.from_tensor_slices((x, y)).batch(8), verbose=0)
    assert_equal_weights(before, [v.numpy() for v in made.trainable_variables])


def test_a_teacher_that_is_not_finite_stops_before_the_first_step():
    teacher = network(6, "teacher")
    made = distiller(teacher)
    teacher.get_layer("logits").bias.assign([np.nan] * CLASSES)
    before = [v.numpy() for v in made.trainable_variables]
    with pytest.raises(ValueError, match="Teacher output or layer output holds NaN"):
        made.fit(*images(8), verbose=0)
    assert_equal_weights(before, [v.numpy() for v in made.trainable_variables])


def test_empty_data_is_named():
    made = distiller()
    x, y = images(8)
    for data in ((x[:0], y[:0]), (tf.data.Dataset.from_tensor_slices((x[:0], y[:0])).batch(4),)):
        with pytest.raises(ValueError, match="empty"):
            made.fit(*data, verbose=0)
