"""Students that learn from each other: their steps by hand, a cohort of one, and who is inside."""

import keras
import numpy as np
import pytest
from keras import layers

import tfkd
from tfkd import models

CLASSES, FEATURES, EXAMPLES, RATE = 3, 5, 8, 0.2


def linear(seed, features=FEATURES, classes=CLASSES):
    keras.utils.set_random_seed(seed)
    given = keras.Input((features,), name="given")
    return keras.Model(given, layers.Dense(classes, use_bias=False)(given), name="student")


def network():
    keras.utils.set_random_seed(3)
    image = keras.Input((8, 8, 3))
    x = layers.ReLU()(layers.BatchNormalization()(layers.Conv2D(4, 3)(image)))
    return keras.Model(image, layers.Dense(CLASSES)(layers.GlobalAveragePooling2D()(x)))


def examples(*shape):
    random = np.random.default_rng(0)
    x = random.normal(size=(EXAMPLES, *shape)).astype("float32")
    return x, random.integers(0, CLASSES, EXAMPLES)


def compiled(model):
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(RATE, momentum=0.9), loss)
    return model


def mutual(peers):
    loss = tfkd.losses.MutualDistillation(models.exit_names(peers))
    return compiled(
        tfkd.Distiller(None, peers, loss, student_loss_weight=1.0, independent_weights=True)
    )


def softmax(logits):
    powers = np.exp(logits - logits.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def test_each_takes_the_step_that_labels_and_peers_teach_it(tmp_path):
    """Three steps of three students, by hand in float64."""
    students = [linear(seed) for seed in (1, 2, 3)]
    own = [student.get_weights()[0].astype("float64") for student in students]
    speed = [0.0] * 3
    peers = models.cohort(*students)
    assert models.exit_names(peers) == ("peer_1", "peer_2", "output")
    assert peers.inputs[0].name == "given"
    x, y = examples(FEATURES)
    mutual(peers).fit(x, y, EXAMPLES, epochs=3, verbose=0)
    one_hot = np.eye(CLASSES)[y]
    for _ in range(3):
        shares = [softmax(x @ weight) for weight in own]
        for number, share in enumerate(shares):
            others = np.mean([p for i, p in enumerate(shares) if i != number], axis=0)
            gradient = x.T @ (2 * share - one_hot - others) / EXAMPLES
            speed[number] = 0.9 * speed[number] - RATE * gradient
            own[number] = own[number] + speed[number]
    peers.save(tmp_path / "cohort.keras")
    loaded = models.members(keras.models.load_model(tmp_path / "cohort.keras"))
    assert list(loaded) == ["output", "peer_1", "peer_2"]
    for student, weight in zip(loaded.values(), own, strict=True):
        np.testing.assert_allclose(student.get_weights()[0], weight, atol=1e-5)
        assert student.count_params() == FEATURES * CLASSES
    for student, seed in zip(students, (1, 2, 3), strict=True):  # they were copied
        np.testing.assert_array_equal(student.get_weights()[0], linear(seed).get_weights()[0])


def test_a_cohort_of_one_trains_as_its_student_alone_does():
    x, y = examples(8, 8, 3)
    alone, peers = network(), models.cohort(network())
    with tfkd.fused.active():  # the kernels that a Distiller's student runs on
        tfkd.fused.install(alone)
        compiled(alone).fit(x, y, EXAMPLES, epochs=3, verbose=0)
    mutual(peers).fit(x, y, EXAMPLES, epochs=3, verbose=0)
    (member,) = models.members(peers).values()
    for own, other in zip(member.get_weights(), alone.get_weights(), strict=True):
        np.testing.assert_array_equal(own, other)
    np.testing.assert_array_equal(models.trunk(peers)(x), member(x))


@pytest.mark.parametrize(
    ("make", "kind", "message"),
    [
        (models.cohort, ValueError, "A cohort needs students"),
        (lambda: models.cohort([linear(1)]), TypeError, "must be a keras.Model; given list"),
        (
            lambda: models.cohort(linear(1), linear(2, features=4)),
            ValueError,
            r'"student" takes inputs of the shape \(None, 4\), but "student" of \(None, 5\)',
        ),
        (
            lambda: models.cohort(linear(1), linear(2, classes=4)),
            ValueError,
            r"gives outputs of the shape \(None, 4\)",
        ),
        (lambda: models.members(linear(1)), ValueError, '"student" is no cohort'),
        (
            lambda: tfkd.losses.MutualDistillation("output"),
            ValueError,
            "MutualDistillation's members must be names",
        ),
    ],
)
def test_what_is_no_cohort(make, kind, message):
    with pytest.raises(kind, match=message):
        make()
