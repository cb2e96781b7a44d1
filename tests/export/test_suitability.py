"""Inputs that a student was not trained on are refused or said to be odd."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from tfkd.export import model_inputs, suitability
from tfkd.export.errors import ExportCheckError
from tfkd.export.student import examine
from tfkd.export.tflite import export_tflite


def served(*scaling, size=12, channels=3):
    image = keras.Input((size, size, channels))
    x = image
    for layer in scaling:
        x = layer(x)
    x = layers.GlobalAveragePooling2D()(layers.Conv2D(2, 3)(x))
    return examine(keras.Model(image, layers.Dense(3)(x)), head="logits")


def normalization():
    return layers.Normalization(mean=[120.0] * 3, variance=[3600.0] * 3)


@pytest.mark.parametrize(
    "scaling, largest",
    [
        ([layers.Rescaling(1 / 255)], 255),
        ([layers.Rescaling(1 / 127.5, -1)], 255),
        ([layers.Resizing(8, 8), layers.RandomFlip(), layers.Rescaling(1 / 255)], 255),
        ([normalization()], 180),
        ([layers.Rescaling(1 / 255), layers.Normalization(mean=0.5, variance=0.0625)], 191.25),
        ([layers.Rescaling(2.0, -1)], 1),
        ([keras.Sequential([layers.Rescaling([1 / 255] * 3)])], 255),
        ([], None),
        ([layers.Conv2D(3, 1), layers.Rescaling(1 / 255)], None),
    ],
)
def test_the_range_that_the_first_layers_scale(scaling, largest):
    found = model_inputs.scaled_range(served(*scaling).model)
    assert found == (None if largest is None else pytest.approx(largest, rel=1e-5))


@pytest.mark.parametrize(
    "scaling, factor",
    [
        (layers.Rescaling(1 / 255), 1 / 255),
        (layers.Rescaling(1 / 127.5, -1), 1 / 255),
        (layers.Rescaling(2.0, -1), 1),
        (normalization(), 1 / 255),
    ],
)
def test_a_range_that_is_certainly_another_is_refused(images, scaling, factor):
    student = served(scaling)
    with pytest.raises(ValueError, match=r"scale values of up to about .* raw pixels"):
        suitability.examples(images * factor, student)
    # The other way round is right.
    other = 1 if factor < 1 else 1 / 255
    found = suitability.examples(images * other, student)
    np.testing.assert_array_equal(found.feeds["image"], images * other)


def test_a_range_that_is_merely_odd_is_said(images):
    with pytest.warns(UserWarning, match="run from 0 to 51, but the first layers .* about 255"):
        suitability.examples(images // 5, served(layers.Rescaling(1 / 255)))


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda images: images[:, 1:], "the student takes"),
        (lambda images: images[:0], "the student takes"),
        (lambda images: images[..., :1], "the student takes"),
        (lambda images: np.where(images > 250, np.nan, images), "not finite"),
        (lambda images: np.full_like(images, 7), "Every value of the examples is 7"),
        (lambda images: images[:, :1, :1, :1] + 0 * images, "has a single colour"),
        (lambda images: images.astype(str), "has the dtype"),
        (lambda images: {"picture": images}, r"has the inputs \['picture'\]"),
        (lambda images: (images, np.zeros(5)), "30 examples were given with 5 labels"),
        (lambda images: [images[0], images[1, 1:]], "differ in shape"),
    ],
)
def test_what_is_no_set_of_examples_is_refused(student, images, make, message):
    with pytest.raises(ValueError, match=message):
        suitability.examples(make(images), examine(student))


def test_fractions_do_not_become_bytes(student, images):
    takes_bytes = examine(student, input_dtype="uint8")
    with pytest.raises(ValueError, match='for "image" holds fractions .* takes uint8'):
        suitability.examples(images / 2, takes_bytes)


def test_repeated_and_plain_images_are_said(student, images):
    with pytest.warns(UserWarning, match="only 3 of its 30 images are distinct"):
        suitability.examples(np.resize(images[:3], images.shape), examine(student))
    images = images.copy()
    images[:10] = images[:10, :1, :1, :1]
    with pytest.warns(UserWarning, match="33% of its images have a single colour"):
        suitability.examples(images, examine(student))


def normalized(images):
    """A student without scaling layers, whose BatchNormalization has seen images of 0 to 1."""
    image = keras.Input((12, 12, 3))
    inner = keras.Sequential([layers.Conv2D(3, 1, use_bias=False), layers.BatchNormalization()])
    x = layers.GlobalAveragePooling2D()(inner(image))
    model = keras.Model(image, layers.Dense(3)(x))
    maps = inner.layers[0](images / 255.0).numpy()
    gamma, beta, _, _ = inner.layers[1].get_weights()
    statistics = maps.mean(axis=(0, 1, 2)), maps.var(axis=(0, 1, 2))
    inner.layers[1].set_weights([gamma * 2, beta + 1, *statistics])
    return examine(model, head="logits")


@pytest.mark.parametrize("change", [lambda x: 20 * x, lambda x: 0.05 * x, lambda x: x + 9.0])
def test_data_unlike_that_of_training_is_found_by_the_statistics(images, change):
    student, data = normalized(images), (images / 255.0).astype("float32")
    assert len(suitability.examples(data, student)) == 30  # in silence
    with pytest.warns(UserWarning, match="unlike the data that student"):
        suitability.examples(change(data), student)


def test_every_form_of_examples_gives_the_same(student, images):
    student, classes = examine(student), np.arange(30) % 3
    dataset = tf.data.Dataset.from_tensor_slices((images, classes))
    for given in ((images, classes), ({"image": images}, classes), dataset, dataset.batch(7)):
        found = suitability.examples(given, student)
        np.testing.assert_array_equal(found.feeds["image"], images)
        np.testing.assert_array_equal(found.labels, classes)
    bare = suitability.examples(dataset.map(lambda image, _: {"image": image}), student)
    np.testing.assert_array_equal(bare.feeds["image"], images)
    assert bare.labels is None
    np.testing.assert_array_equal(found.batch(64)["image"][30:60], images)
    many = np.tile(images, (9, 1, 1, 1)) + np.arange(270)[:, None, None, None] / 270
    many = suitability.examples((many, np.arange(270)), student)
    assert len(many) == len(many.labels) == suitability.MAXIMUM_EXAMPLES == 256


@pytest.mark.parametrize(
    "factor, error, message",
    [
        (1 / 255, ValueError, "one of the two is not what the student takes"),
        (0.1, ExportCheckError, "differ from the Keras student's"),
    ],
)
def test_int8_calibrated_with_other_images_than_it_is_checked_with_fails(
    build_student, images, tmp_path, factor, error, message
):
    """Nothing tells this student's range: only examples from another source do."""
    scales = layers.Conv2D(3, 1)  # what a Rescaling does, where nobody looks for it
    image = keras.Input((12, 12, 3))
    student = keras.Model(image, build_student(3)(scales(image) * 127.5 + 127.5))
    scales.set_weights([np.eye(3)[None, None] / 127.5, -np.ones(3)])
    labels = student(images.astype("float32")).numpy().argmax(-1)
    assert len(set(labels)) > 1
    options = {"quantization": "int8", "head": "logits", "examples": (images, labels)}
    with pytest.raises(error, match=message):
        export_tflite(student, tmp_path / "s.tflite", calibration=images * factor, **options)
    assert not list(tmp_path.iterdir())


def test_an_int8_file_that_only_its_calibration_set_checks_says_so(student, images, tmp_path):
    with pytest.warns(UserWarning, match="checked with its own calibration images"):
        export_tflite(student, tmp_path / "s.tflite", quantization="int8", calibration=images)
