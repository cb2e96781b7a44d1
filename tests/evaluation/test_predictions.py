import keras
import numpy as np
import pytest
import tensorflow as tf

from tfkd.evaluation import predict


class SumAndMean(keras.Model):
    """Logits (sum, mean) of an image; counts how often Python ran it."""

    calls = 0

    def call(self, images, training=False):
        self.calls += 1
        pixels = tf.reshape(tf.cast(images, tf.float32), (tf.shape(images)[0], -1))
        return tf.stack([tf.reduce_sum(pixels, 1), tf.reduce_mean(pixels, 1)], axis=1)


def digits(examples=10):
    images = np.random.default_rng(0).integers(0, 256, (examples, 2, 2, 1), dtype=np.uint8)
    return images, np.arange(examples) % 2


def test_order_values_and_one_trace_with_a_smaller_last_batch():
    images, labels = digits()
    model = SumAndMean()
    logits, read = predict(model, tf.data.Dataset.from_tensor_slices((images, labels)).batch(4))
    pixels = images.reshape(10, 4).astype(np.float64)
    np.testing.assert_allclose(logits, np.stack([pixels.sum(1), pixels.mean(1)], 1), rtol=1e-6)
    assert logits.dtype == np.float32 and logits.shape == (10, 2)
    np.testing.assert_array_equal(read, labels)
    assert model.calls == 1


def test_functional_model_takes_uint8_and_keeps_its_statistics():
    image = keras.Input((2, 2, 1))
    hidden = keras.layers.BatchNormalization(epsilon=0.0)(image)
    model = keras.Model(image, keras.layers.Flatten()(hidden))
    before = [weight.numpy() for weight in model.weights]
    images, labels = digits()
    logits, _ = predict(model, tf.data.Dataset.from_tensor_slices((images, labels)).batch(5))
    np.testing.assert_allclose(logits, images.reshape(10, 4), rtol=1e-6)
    for old, weight in zip(before, model.weights, strict=True):
        np.testing.assert_array_equal(old, weight.numpy())


def test_half_precision_comes_out_as_float32():
    keras.config.set_dtype_policy("mixed_float16")
    model = keras.Sequential([keras.Input((2, 2, 1)), keras.layers.Flatten()])
    logits, _ = predict(model, tf.data.Dataset.from_tensor_slices(digits()).batch(5))
    assert logits.dtype == np.float32


def test_sample_weights_are_passed_over():
    images, labels = digits()
    dataset = tf.data.Dataset.from_tensor_slices((images, labels, np.ones(10))).batch(10)
    assert predict(SumAndMean(), dataset)[0].shape == (10, 2)


def test_an_empty_dataset_is_refused():
    dataset = tf.data.Dataset.from_tensor_slices(digits()).take(0).batch(4)
    with pytest.raises(ValueError, match="dataset is empty"):
        predict(SumAndMean(), dataset)


def test_an_unbatched_dataset_and_one_hot_labels_are_refused():
    images, labels = digits()
    with pytest.raises(ValueError, match="batched dataset"):
        predict(SumAndMean(), tf.data.Dataset.from_tensor_slices((images, labels)))
    with pytest.raises(ValueError, match="one-hot"):
        predict(
            SumAndMean(), tf.data.Dataset.from_tensor_slices((images, np.eye(2)[labels])).batch(4)
        )
    with pytest.raises(ValueError, match="batched dataset"):
        predict(SumAndMean(), tf.data.Dataset.from_tensor_slices(images).batch(4))


def test_an_output_of_another_shape_is_named():
    image = keras.Input((2, 2, 1), name="image")
    dataset = tf.data.Dataset.from_tensor_slices(digits()).batch(4)
    features = keras.Model(image, keras.layers.Activation("relu")(image), name="features")
    with pytest.raises(ValueError, match=r'"features" gave shape \(4, 2, 2, 1\) for 4 images'):
        predict(features, dataset)
    flat = keras.layers.Flatten()(image)
    exits = keras.Model(image, {"early": flat, "late": flat}, name="exits")
    with pytest.raises(ValueError, match="one output of shape"):
        predict(exits, dataset)
