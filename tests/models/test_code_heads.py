"""Hashing models on a classifier's features."""

import keras
import numpy as np
import pytest

from tfkd import models

IMAGES = np.random.default_rng(0).uniform(0, 255, (3, 12, 12, 1)).astype("float32")


@pytest.fixture(scope="module")
def classifier():
    return models.build("streamlined_student", (12, 12, 1), 5, width=0.1)


def test_the_code_is_a_layer_on_the_features(classifier):
    model = models.with_code(classifier, 12)
    layer = model.get_layer("code")
    name = models.features_layer(classifier)
    features = keras.Model(classifier.input, classifier.get_layer(name).output)(IMAGES)
    expected = features @ layer.kernel + layer.bias
    np.testing.assert_allclose(model(IMAGES), expected, rtol=1e-5, atol=1e-6)
    # Only the new layer is trained; the classifier's own layers stay its own.
    assert [id(v) for v in model.trainable_variables] == [id(layer.kernel), id(layer.bias)]
    assert classifier.trainable_variables
    assert not {id(v) for v in model.variables} & {id(v) for v in classifier.variables}
    thawed = models.with_code(classifier, 12, frozen=False)
    assert len(thawed.trainable_variables) == len(classifier.trainable_variables)


@pytest.mark.parametrize("bits", [0, 1.5, True])
def test_bits_are_counted(classifier, bits):
    with pytest.raises(ValueError, match="bits must be a whole number of at least 1"):
        models.with_code(classifier, bits)
