"""Sample weights and labels mean to every loss what they say."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import tfkd
from tfkd.losses import FeatureDistillation, LogitsDistillation

HEIGHT = 5  # also the number of examples: what is matched with the wrong axis would fit


def segmenter(seed):
    keras.utils.set_random_seed(seed)
    image = keras.Input((HEIGHT, HEIGHT, 3))
    features = layers.Conv2D(4, 3, padding="same", name="features")(image)
    return keras.Model(image, layers.Conv2D(3, 1)(features))


def data():
    random = np.random.default_rng(0)
    x = random.normal(size=(HEIGHT, HEIGHT, HEIGHT, 3)).astype("float32")
    return x, random.integers(0, 3, (HEIGHT, HEIGHT, HEIGHT))


def log_softmax(z):
    z = z.astype("float64") - z.max(-1, keepdims=True)
    return z - np.log(np.exp(z).sum(-1, keepdims=True))


def by_image(y, p):
    return ops.mean(keras.losses.sparse_categorical_crossentropy(y, p, True), axis=(1, 2))


@pytest.mark.parametrize("loss", ["by pixel", "by image"])
@pytest.mark.parametrize("shape", [(HEIGHT,), (HEIGHT, HEIGHT, HEIGHT)])
def test_weights_of_images_and_of_pixels_count_in_every_loss(loss, shape):
    teacher, student, (x, y) = segmenter(1), segmenter(2), data()
    if loss == "by image" and len(shape) == 3:
        pytest.skip("Keras itself cannot match weights of pixels with values of images")
    weights = np.random.default_rng(1).uniform(0, 2, shape).astype("float32")
    losses = [LogitsDistillation(1.0), FeatureDistillation("mse", "features", "features")]
    made = tfkd.Distiller(teacher, student, losses)
    labels = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    # Eagerly: of values alone it would be the trace that takes the time.
    made.compile("sgd", labels if loss == "by pixel" else by_image, run_eagerly=True)
    logs = made.evaluate(
        x, y, sample_weight=weights, batch_size=HEIGHT, verbose=0, return_dict=True
    )
    t, s = (log_softmax(m(x).numpy()) for m in (teacher, student))
    wide = weights if len(shape) == 3 else weights[:, None, None]
    cross = -np.take_along_axis(s, y[..., None], -1)[..., 0]
    assert logs["student_loss"] == pytest.approx((cross * wide).mean(), rel=1e-5)
    divergence = (np.exp(t) * (t - s)).sum(-1)
    assert logs["logits_distillation"] == pytest.approx((divergence * wide).mean(), rel=1e-4)
    f, g = (
        keras.Model(m.input, m.get_layer("features").output)(x).numpy() for m in (teacher, student)
    )
    image_weights = wide.mean((1, 2)) if len(shape) == 3 else weights
    hint = (((f - g) ** 2).mean((1, 2, 3)) * image_weights).mean()
    assert logs["feature_distillation"] == pytest.approx(hint, rel=1e-4)


def classifier(classes=3):
    image = keras.Input((6,))
    hidden = layers.BatchNormalization()(layers.Dense(4, name="hidden")(image))
    return keras.Model(image, layers.Dense(classes)(hidden))


def vectors(count=8):
    random = np.random.default_rng(0)
    return random.normal(size=(count, 6)).astype("float32"), random.integers(0, 3, count)


def test_a_label_to_be_ignored_is_one_of_the_loss():
    made = tfkd.Distiller(classifier(), classifier(), LogitsDistillation())
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=255)
    made.compile("sgd", loss)
    x, y = vectors()
    y[3] = 255
    logs = made.evaluate(x, y, verbose=0, return_dict=True)
    assert logs["student_loss"] == pytest.approx(float(loss(y, made.student(x))), rel=1e-5)
    assert np.isfinite(made.fit(x, y, verbose=0).history["loss"][0])


def test_integer_labels_of_a_regression_are_numbers():
    losses = FeatureDistillation("mse", "hidden", "hidden")
    made = tfkd.Distiller(classifier(1), classifier(1), losses)
    made.compile("sgd", "mse", run_eagerly=True)
    x, _ = vectors()
    y = np.arange(8) * 100 - 300
    logs = made.evaluate(x, y, verbose=0, return_dict=True)
    wanted = np.mean((made.student(x).numpy()[:, 0] - y) ** 2)
    assert logs["student_loss"] == pytest.approx(wanted, rel=1e-5)


@pytest.mark.parametrize("bad", ["label", "negative label", "teacher"])
def test_a_refused_batch_has_moved_nothing(bad):
    teacher, student = classifier(), classifier()
    made = tfkd.Distiller(
        teacher, student, [LogitsDistillation(), FeatureDistillation("mse", "hidden", "hidden")]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    made.compile("adam", loss, metrics=["accuracy"])
    x, y = vectors()
    made.fit(x, y, verbose=0)
    if bad == "teacher":
        teacher.layers[-1].bias.assign([np.inf] * 3)
    else:
        y[2] = 3 if bad == "label" else -1
    made.reset_metrics()
    state = [*made.variables, *made.optimizer.variables]
    before = [v.numpy() for v in state]
    with pytest.raises(ValueError, match="Labels must lie|holds NaN or infinity"):
        made.fit(x, y, verbose=0)
    for variable, value in zip(state, before, strict=True):
        np.testing.assert_array_equal(variable.numpy(), value, err_msg=variable.path)


def test_nothing_left_to_train_is_said():
    teacher = classifier()
    with pytest.raises(ValueError, match="Nothing of the student is left to train.*clone_model"):
        tfkd.Distiller(teacher, keras.Model(teacher.input, teacher.output), LogitsDistillation())
    hidden = teacher.get_layer("hidden").output
    with pytest.warns(UserWarning, match='shares "hidden" with the teacher, which is frozen'):
        tfkd.Distiller(
            teacher, keras.Model(teacher.input, layers.Dense(3)(hidden)), LogitsDistillation()
        )
    student = classifier()
    student.trainable = False
    made = tfkd.Distiller(classifier(), student, LogitsDistillation())
    made.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    with pytest.warns(UserWarning, match="Nothing here is trainable"):
        made.fit(*vectors(), verbose=0)
