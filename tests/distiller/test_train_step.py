"""One step: what `keras.distillation` gets wrong in it, C1 to C6.

Where a value alone is asked for, the step runs eagerly: that it has the same value compiled is
stated in test_fit.py, and its trace takes longer than all else.
"""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers
from small_networks import (
    CLASSES,
    assert_equal_weights,
    counted,
    cross_entropy,
    distiller,
    hint,
    images,
    network,
    weights_of,
)

import tfkd
from tfkd.losses import FeatureDistillation, LogitsDistillation

# C1: the default loss distils.


def test_default_loss_reaches_a_linear_teacher():
    """With labels left out, a linear student ends up agreeing with its linear teacher."""
    x = np.random.default_rng(0).normal(size=(256, 8)).astype("float32")
    teacher = keras.Sequential([layers.Input((8,)), layers.Dense(CLASSES)])
    teacher.layers[0].kernel.assign(3 * teacher.layers[0].kernel)
    student = keras.Sequential([layers.Input((8,)), layers.Dense(CLASSES)])
    made = tfkd.Distiller(teacher, student, LogitsDistillation(), student_loss_weight=0)
    made.compile(keras.optimizers.Adam(0.1))
    made.fit(x, batch_size=64, epochs=25, verbose=0)
    classes = [np.argmax(model(x), axis=1) for model in (teacher, student)]
    assert np.mean(classes[0] == classes[1]) > 0.97


# C2, C3: one pass, and evaluation leaves no trace.


def test_each_model_runs_once_a_step():
    teacher, student = counted(6, "teacher"), counted(3, "student")
    made = distiller(teacher, student)
    for model in (teacher, student):
        model.get_layer("counted").runs.assign(0.0)
    if True:
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
        made = distiller(run_eagerly=True)
        value[name] = made.evaluate(*data, sample_weight=weight, verbose=0, return_dict=True)
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
        made = distiller(run_eagerly=True)
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
        made.compile("sgd", loss(from_logits=True) if one_hot else loss(), run_eagerly=True)
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
    made.compile("sgd", run_eagerly=True)
    tokens = np.array([[1, 2, 3], [4, 5, 6]])
    padded = np.pad(tokens, ((0, 0), (0, 5)))
    logs = [made.evaluate(x, verbose=0, return_dict=True) for x in (tokens, padded)]
    assert logs[1]["loss"] == pytest.approx(logs[0]["loss"], rel=1e-5)
    assert logs[0]["loss"] > 0.1


# C5: regularisers.


def test_regularisers_count_whole():
    student = network(3, "student", regularizer=keras.regularizers.L2(0.1))
    made = distiller(student=student, student_loss_weight=0.25, run_eagerly=True)
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
    made = distiller(student=student, losses=LogitsDistillation(), run_eagerly=True)
    x, y = images()
    logs = made.evaluate(x / 255, y, verbose=0, return_dict=True)
    weighted = 0.5 * logs["student_loss"] + 0.5 * logs["distillation_loss"]
    activity = keras.Model(image, student.layers[1].output)(x / 255)
    penalty = 0.01 * np.sum(np.square(np.asarray(activity, "float64"))) / len(x)
    assert logs["loss"] - weighted == pytest.approx(penalty, rel=5e-3)
    assert penalty > 0.01


# C6: nothing is ignored in silence.


def test_a_weight_for_a_single_loss_is_used():
    losses = LogitsDistillation(2.0)
    made = distiller(losses=losses, distillation_loss_weights=[5.0], run_eagerly=True)
    logs = made.evaluate(*images(), verbose=0, return_dict=True)
    assert logs["distillation_loss"] == pytest.approx(5 * logs["logits_distillation"], rel=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"distillation_losses": []}, "at least one loss"),
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
