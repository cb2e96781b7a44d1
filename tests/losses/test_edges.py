"""What breaks the reference implementations is finite here, and what a loss cannot read is refused.

The situations are those in which the authors' code gives NaN, infinity or gradients of 1e9.
"""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import tfkd
from tfkd import losses

LOGIT_LOSSES = {
    "kd": losses.LogitsDistillation(2.0, standardize=True),
    "dkd": losses.DecoupledDistillation(1.0),
    "dkd standardised": losses.DecoupledDistillation(1.0, standardize=True),
    "dist": losses.CorrelationDistillation(),
    "ttm": losses.TransformedTeacherMatching(),
    "nkd": losses.NormalizedDistillation(),
    "rld": losses.RefinedDistillation(1.0),
    "classes": losses.ClassRelationDistillation(1.0),
    "batch": losses.BatchRelationDistillation(1.0),
    "ofa": losses.EnhancedTargetDistillation(1.5),
    "scaled gradient": losses.GradientScaledDistillation(1.0),
    "teacher-free": losses.TeacherFreeDistillation(1.0),
}
FEATURE_LOSSES = {
    "sp": losses.SimilarityPreserving(),
    "rkd": losses.RelationalDistillation(),
    "pkt": losses.ProbabilisticTransfer(),
}
MAP_LOSSES = {
    "at": losses.AttentionTransfer(),
    "nst": losses.NeuronSelectivityTransfer(),
    "cat": losses.ClassAttentionTransfer(),
}


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def value_and_gradient(loss, teacher, student, **needs):
    student = tf.constant(student)
    with tf.GradientTape() as tape:
        tape.watch(student)
        value = loss(tf.constant(teacher), student, **needs)
    return float(value), tape.gradient(value, student).numpy()


def on_logits(loss, teacher, student):
    needs = {"labels": tf.range(len(teacher)) % 3} if "labels" in loss.needs else {}
    return value_and_gradient(loss, teacher, student, **needs)


def assert_bounded(got, size=1e3):
    value, gradient = got
    assert abs(value) < size
    assert np.abs(gradient).max() < size


@pytest.mark.parametrize("name", LOGIT_LOSSES)
def test_sure_and_wrong_at_800(name):
    teacher = 800.0 * np.eye(3, dtype="float32")[[0, 1, 2, 0]] - 400.0
    student = -teacher
    # The furthest that two logits are apart, times the largest weight.
    assert_bounded(on_logits(LOGIT_LOSSES[name], 2 * teacher, 2 * student), size=1e5)
    assert_bounded(on_logits(LOGIT_LOSSES[name], 2 * teacher, 2 * teacher), size=1e5)


@pytest.mark.parametrize("name", LOGIT_LOSSES)
def test_equal_logits_are_those_of_a_head_that_starts_at_zero(name):
    teacher, zero = normal(4, 3), np.zeros((4, 3), "float32")
    value, gradient = on_logits(LOGIT_LOSSES[name], teacher, zero)
    assert_bounded((value, gradient), size=50)
    assert_bounded(on_logits(LOGIT_LOSSES[name], zero, teacher), size=50)
    if name not in ("dist", "batch"):  # no direction; and rows of equal similarity
        assert np.abs(gradient).max() > 1e-3


def test_equal_probabilities_correlate_with_nothing():
    value, gradient = on_logits(losses.CorrelationDistillation(), normal(4, 3), np.zeros((4, 3)))
    assert value == pytest.approx(2.0, abs=1e-6)  # 1 - 0 over the classes, and over the batch
    assert np.abs(gradient).max() == 0


@pytest.mark.parametrize("name", LOGIT_LOSSES)
def test_a_batch_of_one_of_logits(name):
    assert_bounded(on_logits(LOGIT_LOSSES[name], normal(1, 3), normal(1, 3, seed=1)))


def test_one_example_correlates_over_its_classes_alone():
    pair = normal(1, 5), normal(1, 5, seed=1)
    both = float(losses.CorrelationDistillation(2.0)(*pair))
    over_classes = float(losses.CorrelationDistillation(2.0, batch_weight=0.0)(*pair))
    assert both == pytest.approx(over_classes, rel=1e-6)


def test_standardised_logits_have_no_scale():
    teacher, student = normal(4, 5), normal(4, 5, seed=1)
    loss = losses.LogitsDistillation(2.0, standardize=True)
    wanted = float(loss(teacher, student))
    assert float(loss(1e-3 * teacher + 7.0, 50.0 * student - 3.0)) == pytest.approx(
        wanted, rel=1e-3
    )


def test_the_label_that_the_teacher_holds_for_the_least_likely_leaves_nothing_to_compare():
    teacher = np.array([[0.0, 1.0, 2.0]], "float32")
    alone = losses.RefinedDistillation(confidence_weight=0.0)
    value, gradient = value_and_gradient(alone, teacher, normal(1, 3), labels=tf.constant([0]))
    assert value == 0
    assert np.abs(gradient).max() == 0


@pytest.mark.parametrize("name", FEATURE_LOSSES)
@pytest.mark.parametrize(
    "student",
    [
        np.zeros((4, 6), "float32"),
        np.vstack([np.zeros((1, 6)), normal(3, 6)]).astype("float32"),
        np.ones((4, 6), "float32"),
        np.vstack([normal(1, 6)] * 2 + [normal(2, 6, seed=1)]),
        normal(1, 6),
    ],
    ids=["zeros", "a zero row", "ones", "two equal rows", "one example"],
)
def test_equal_and_zero_rows(name, student):
    loss, teacher = FEATURE_LOSSES[name], normal(len(student), 9, seed=2)
    assert_bounded(value_and_gradient(loss, teacher, student))
    assert_bounded(value_and_gradient(loss, student, normal(len(student), 5, seed=3)))


@pytest.mark.parametrize("name", ["rkd", "pkt"])
def test_one_example_has_no_relations(name):
    value, gradient = value_and_gradient(FEATURE_LOSSES[name], normal(1, 6), normal(1, 4))
    assert value == pytest.approx(0.0, abs=1e-7)
    assert np.abs(gradient).max() < 1e-6


def test_distances_of_close_points_far_from_the_origin():
    """There the expanded square of the references is off by 9 % in float32."""
    points = 10.0 + 0.01 * normal(6, 512)
    exact = points.astype("float64")
    wanted = ((exact[:, None] - exact[None]) ** 2).sum(-1)
    got = losses.relational.squared_distances(tf.constant(points))
    np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-12)


def test_the_gradient_by_the_angles_of_weighted_examples():
    """Against central differences in float64 of the definition, vertex by vertex."""
    teacher, student = normal(5, 7).astype("float64"), normal(5, 4, seed=1).astype("float64")
    weights = np.array([1.0, 0.0, 2.5, 0.5, 1.0])

    def cosines(x):
        edges = x[None] - x[:, None]
        lengths = np.linalg.norm(edges, axis=-1, keepdims=True)
        edges = edges / np.where(lengths > 0, lengths, 1.0)
        return np.einsum("ijd,ikd->ijk", edges, edges)

    def value(x):
        error = np.abs(cosines(x) - cosines(teacher))
        huber = np.where(error < 1, error**2 / 2, error - 0.5).mean(axis=(1, 2))
        return (weights * huber).mean()

    wanted, step = np.zeros_like(student), 1e-6
    for place in np.ndindex(student.shape):
        moved = [student.copy(), student.copy()]
        moved[0][place] += step
        moved[1][place] -= step
        wanted[place] = (value(moved[0]) - value(moved[1])) / (2 * step)
    loss = losses.RelationalDistillation(0.0, 1.0)
    got = value_and_gradient(
        loss, teacher.astype("float32"), student.astype("float32"), sample_weight=weights
    )
    assert got[0] == pytest.approx(value(student), rel=1e-5)
    np.testing.assert_allclose(got[1], wanted, rtol=0, atol=1e-5 * np.abs(wanted).max())


@pytest.mark.parametrize("name", MAP_LOSSES)
def test_dead_channels_and_zero_maps(name):
    teacher, student = normal(2, 4, 4, 3), normal(2, 6, 6, 3, seed=1)
    student[0], student[1, ..., 0] = 0.0, 0.0
    assert_bounded(value_and_gradient(MAP_LOSSES[name], teacher, student))
    teacher[0] = 0.0
    value, gradient = value_and_gradient(MAP_LOSSES[name], teacher, student)
    assert_bounded((value, gradient))
    assert np.abs(gradient[0]).max() == 0


def test_soft_labels_are_read_by_their_likeliest_class_with_a_warning():
    teacher, student = normal(2, 3), normal(2, 3, seed=1)
    loss = losses.DecoupledDistillation()
    soft = np.array([[0.1, 0.7, 0.2], [0.6, 0.2, 0.2]], "float32")
    with pytest.warns(UserWarning, match="reads one class for each example"):
        got = loss(teacher, student, labels=soft)
    for labels in ([1, 0], [[1], [0]], [[0, 1, 0], [1, 0, 0]]):
        wanted = loss(teacher, student, labels=tf.constant(labels))
        assert float(got) == pytest.approx(float(wanted), rel=1e-6)


# What is refused, before any training.

IMAGE = (8, 8, 3)


def network(name):
    image = keras.Input(IMAGE)
    x = layers.Conv2D(4, 3, name="map")(image)
    rows = layers.Reshape((36, 4), name="sequence")(x)
    x = layers.Concatenate()(
        [layers.GlobalAveragePooling2D()(x), layers.GlobalAveragePooling1D()(rows)]
    )
    return keras.Model(image, layers.Dense(3, name="logits")(x), name=name)


@pytest.fixture(scope="module")
def models():
    return network("teacher"), network("student")


REFUSED = {
    "logits for maps": (losses.AttentionTransfer(), r"compares maps of known size"),
    "sequences for maps": (
        losses.NeuronSelectivityTransfer("sequence", "sequence"),
        r"reads \(None, 36, 4\) of the teacher",
    ),
    "logits for class maps": (
        losses.ClassAttentionTransfer(2, True, "output", "output"),
        r"compares maps of known size",
    ),
    "other classes": (
        losses.ClassAttentionTransfer(2, True, "map", "sequence"),
        r"reads \(None, 36, 4\) of the student",
    ),
    "maps for logits": (
        losses.DecoupledDistillation(teacher_layer_name="map", student_layer_name="map"),
        r"logits of two classes or more.*reads \(None, 6, 6, 4\) of the teacher",
    ),
    "sequences for logits": (
        losses.CorrelationDistillation(teacher_layer_name="sequence", student_layer_name="output"),
        r"reads \(None, 36, 4\) of the teacher",
    ),
    "maps for pooled features": (
        losses.ContrastiveDistillation(teacher_layer_name="map", student_layer_name="map"),
        r"compares pooled features.*Name the layer that pools",
    ),
    "sequences for stages": (
        losses.ReviewDistillation(["map", "sequence"], ["map", "map"]),
        r"reads \(None, 36, 4\) of the teacher",
    ),
    "logits for a Gaussian's map": (
        losses.VariationalDistillation("map", "output"),
        r"compares maps of known size.*\(None, 3\) of the student",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_the_wrong_kind_of_tensor_is_refused_when_the_distiller_is_made(models, case):
    loss, message = REFUSED[case]
    with pytest.raises(ValueError, match=message):
        tfkd.Distiller(*models, loss)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: losses.ReviewDistillation(["a", "b"], ["a"]), "2 of the teacher and 1 of the"),
        (lambda: losses.ReviewDistillation("a", ["a"]), "reads a list of the teacher's layers"),
        (lambda: losses.ReviewDistillation(["a"], []), "reads a list of the student's layers"),
        (lambda: losses.ContrastiveDistillation(10**12), r"takes 953674 GB, but the machine has"),
        (lambda: losses.ContrastiveDistillation(1), "memory must be a whole number of 2 or more"),
        (lambda: losses.ContrastiveDistillation(negatives=0), "negatives must be a whole number"),
        (lambda: losses.ClassAttentionTransfer(0), "resolution must be a whole number"),
        (lambda: losses.DecoupledDistillation(other_weight=-1.0), "other_weight must be at least"),
        (lambda: losses.TransformedTeacherMatching(0.0), "power must be greater than 0"),
        (
            lambda: losses.LogitsDistillation(activation="sigmoid", standardize=True)(
                normal(2, 3), normal(2, 3)
            ),
            "independent labels are no classes",
        ),
        (
            lambda: losses.DecoupledDistillation()(normal(2, 3), normal(2, 3)),
            "reads the labels, but the data has none",
        ),
        (
            lambda: losses.DecoupledDistillation()(
                normal(2, 3), normal(2, 3), labels=np.zeros((2, 4))
            ),
            r"reads one class for each example, but the labels have the shape \(2, 4\)",
        ),
    ],
)
def test_what_cannot_be_meant_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_contrast_needs_the_examples_numbers_and_enough_memory(models):
    pooled = {"teacher_layer_name": "logits", "student_layer_name": "logits"}
    built = tfkd.Distiller(*models, losses.ContrastiveDistillation(4, 2, **pooled))
    built.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    x, y = normal(4, *IMAGE), np.array([0, 1, 2, 0])
    with pytest.raises(ValueError, match="the examples' numbers, but the data has none"):
        built.fit(x, y, verbose=0)
    numbered = tf.data.Dataset.from_tensors((x, y, np.ones(4, "float32"), {"index": [0, 1, 2, 4]}))
    with pytest.raises(ValueError, match="remembers 4 examples.*numbers up to 4"):
        built.fit(numbered, verbose=0)


def test_negatives_are_of_other_classes_where_they_are_known():
    table = tf.constant([0, 0, 1, 1, 2, 2, -1, 0])
    index, label = tf.constant([0, 2]), tf.constant([0, 1])
    drawn = losses.contrast.draw_others(table, index, label, 500, tf.constant([3, 1])).numpy()
    assert set(drawn[0]) == {2, 3, 4, 5, 6}
    assert set(drawn[1]) == {0, 1, 4, 5, 6, 7}
    # Evenly: 100 of 500 are expected of each, with a deviation of 9.
    assert np.abs(np.bincount(drawn[0])[[2, 3, 4, 5, 6]] - 100).max() < 40
    without = losses.contrast.draw_others(table, index, None, 500, tf.constant([3, 1])).numpy()
    assert set(without[0]) == set(range(1, 8))


def test_the_first_stage_of_fitnets_trains_hints_alone(models, traces):
    teacher = models[0]
    keras.utils.set_random_seed(5)  # else the first layers could be equal
    student = keras.models.clone_model(models[1])
    hint = losses.FeatureDistillation("mse", "map", "map")
    built = tfkd.Distiller(
        teacher, student, [losses.LogitsDistillation(2.0), hint], [0.7, 0.3], 0.2
    )
    built.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    x, y = normal(4, *IMAGE), np.array([0, 1, 2, 0])
    kernels = [student.get_layer(name).kernel for name in ("map", "logits")]
    seen = []

    class Watch(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            self.before = [np.copy(kernel.numpy()) for kernel in kernels]

        def on_epoch_end(self, epoch, logs=None):
            moved = [np.any(b != k.numpy()) for b, k in zip(self.before, kernels, strict=True)]
            seen.append((moved, [built.student_loss_weight, *built.distillation_loss_weights]))

    stage = tfkd.schedules.FirstStage(2)
    built.fit(x, y, epochs=3, verbose=0, callbacks=[stage, Watch()])
    assert [moved for moved, _ in seen] == [[True, False], [True, False], [True, True]]
    assert [weights for _, weights in seen] == [[0.2, 0.7, 0.3]] * 3
    assert len(traces) == 1
    stage.on_epoch_begin(1)
    assert [built.student_loss_weight, *built.distillation_loss_weights] == [0.0, 0.0, 0.3]
    stage.on_epoch_end(1)
    stage.on_epoch_begin(2)
    assert [built.student_loss_weight, *built.distillation_loss_weights] == [0.2, 0.7, 0.0]
    with pytest.raises(ValueError, match="hints= some of their names"):
        built.fit(x, y, verbose=0, callbacks=[tfkd.schedules.FirstStage(1, ["hint"])])
