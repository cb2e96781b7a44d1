"""Several models as one, and one model that looks at an image in all its views."""

import keras
import numpy as np
import pytest
from keras import layers

from tfkd import models
from tfkd.taps import heads_of

SHAPE, CLASSES = (8, 8, 3), 4


def classifier(seed, activation=None, shape=SHAPE, classes=CLASSES):
    keras.utils.set_random_seed(seed)
    image = keras.Input(shape, name="image")
    x = layers.Conv2D(3, 3, activation="relu")(layers.Rescaling(1 / 255)(image))
    x = layers.Dense(classes, activation, name="logits")(layers.Flatten()(x))
    return keras.Model(image, x, name="classifier")


def softmax(values):
    powers = np.exp(values - values.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).integers(0, 256, (5, *SHAPE)).astype("uint8")


def test_an_ensemble_says_the_mean_of_the_probabilities(images, tmp_path):
    """Of logits and of probabilities; its file loads without tfkd, the members are found again."""
    first, second = classifier(0), classifier(1, "softmax")
    told = [softmax(first(images).numpy().astype("float64")), second(images).numpy()]
    together = models.ensemble({"first": first, "second": second})
    np.testing.assert_allclose(np.exp(together(images)), np.mean(told, 0), rtol=1e-5)
    weighed = models.ensemble([first, second], shares=[0.75, 0.25])
    wanted = 0.75 * told[0] + 0.25 * told[1]
    np.testing.assert_allclose(np.exp(weighed(images)), wanted, rtol=1e-5)
    together.save(tmp_path / "ensemble.keras")
    loaded = keras.saving.load_model(tmp_path / "ensemble.keras", custom_objects={})
    members = models.ensemble_members(loaded)
    assert list(members) == ["first", "second"]
    np.testing.assert_array_equal(members["second"](images), second(images))
    assert models.ensemble_members(first) == {}


def test_the_answer_is_the_same_to_every_view(images):
    model = classifier(0)
    averaged = models.averaged_over_views(model)
    views = [np.rot90(side, k, (1, 2)) for side in (images, images[:, :, ::-1]) for k in range(4)]
    wanted = np.mean([softmax(model(view).numpy()) for view in views], 0)
    for view in views:
        np.testing.assert_allclose(np.exp(averaged(view)), wanted, rtol=1e-4, atol=1e-6)
    oblong = models.averaged_over_views(classifier(0, shape=(8, 6, 3)))
    flat = images[:, :, :6]
    views = [flat, flat[:, ::-1], flat[:, :, ::-1], flat[:, ::-1, ::-1]]
    wanted = np.mean([softmax(classifier(0, shape=(8, 6, 3))(v).numpy()) for v in views], 0)
    np.testing.assert_allclose(np.exp(oblong(flat)), wanted, rtol=1e-4, atol=1e-6)
    assert next(iter(heads_of(averaged).values())).kind != "probabilities"


@pytest.mark.parametrize(
    ("others", "message"),
    [
        (lambda: [], "needs a model or more"),
        (lambda: [classifier(0), classifier(1, classes=5)], "member2.*5.*the same classes"),
        (lambda: [classifier(0, "sigmoid")], "cannot be averaged.*independent_probabilities"),
        (lambda: [classifier(0, classes=1)], "two classes or more, got \\(None, 1\\)"),
    ],
    ids=["none", "other classes", "independent", "one number"],
)
def test_what_cannot_be_averaged(others, message):
    with pytest.raises(ValueError, match=message):
        models.ensemble(others())
