"""Mixed images: each pixel and each label by one share, from the seed alone, and so stored."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfkd
from tfkd import data
from tfkd.data.pipeline import from_arrays
from tfkd.data.seeds import view_seed

CLASSES = 5


def flat(count=CLASSES, size=12):
    """Image i is 10 (i + 1) all over, and of class i."""
    labels = np.arange(count)
    images = (10.0 * (labels + 1))[:, None, None, None] * np.ones((1, size, size, 1))
    return images.astype("float32"), labels


SEEDS = view_seed(tf.range(400), 0, 3)


@pytest.mark.parametrize("kind", ["mixup", "cutmix"])
def test_pixels_and_labels_have_one_share(kind):
    images, labels = flat()
    mixed = data.Mixed(from_arrays(images, labels), kind, classes=CLASSES)
    own = np.arange(400) % CLASSES
    seen = mixed(images[own], SEEDS).numpy()
    soft = mixed.labels(labels[own], SEEDS).numpy()
    np.testing.assert_allclose(soft.sum(1), 1.0, rtol=1e-6)
    np.testing.assert_allclose(seen.mean((1, 2, 3)), soft @ (10.0 * (labels + 1)), rtol=1e-5)
    assert ((soft > 0).sum(1) <= 2).all()
    share = soft[np.arange(400), own][(soft > 0).sum(1) == 2]
    if kind == "mixup":
        assert (seen.std((1, 2, 3)) < 1e-4).all()
        # Even between 1/2 and 1: mean 0.75, deviation of the mean of 320 below 0.01.
        assert share.min() >= 0.5 and share.mean() == pytest.approx(0.75, abs=0.04)
    else:
        values = [set(np.round(image.ravel(), 3)) for image in seen]
        assert max(map(len, values)) == 2  # a pixel is of one image or the other
        assert share.min() < 0.3 and share.max() > 0.9


def test_partner_and_share_depend_on_nothing_but_the_seed():
    images, labels = flat()
    mixed = data.Mixed(from_arrays(images, labels), "cutmix", data.augmentation("shift"))
    whole = mixed(images, SEEDS[:5]).numpy()
    for i in range(5):
        np.testing.assert_array_equal(mixed(images[i : i + 1], SEEDS[i : i + 1])[0], whole[i])
    again = data.Mixed(from_arrays(images, labels), "cutmix", data.augmentation("shift"))
    np.testing.assert_array_equal(again(images, SEEDS[:5]), whole)
    assert np.abs(mixed(images, SEEDS[5:10]).numpy() - whole).max() > 0


def test_bytes_stay_bytes_to_the_nearest():
    images, labels = flat()
    exact = data.Mixed(from_arrays(images, labels))(images, SEEDS[:5]).numpy()
    dataset = from_arrays(images.astype("uint8"), labels)
    got = data.Mixed(dataset)(images.astype("uint8"), SEEDS[:5]).numpy()
    assert got.dtype == np.uint8
    np.testing.assert_array_equal(got, np.round(exact))


def test_batches_and_a_cache_hold_the_same_mixed_images_and_the_answers_to_them(tmp_path):
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (12, 8, 8, 3)).astype("uint8")
    dataset = from_arrays(images, np.arange(12) % CLASSES)
    mixed = data.Mixed(dataset, augment=data.augmentation("crop_flip"), classes=CLASSES)
    image = keras.Input((8, 8, 3))
    nets = [
        keras.Model(image, keras.layers.Dense(CLASSES)(keras.layers.Flatten()(image)))
        for _ in range(2)
    ]
    distiller = tfkd.Distiller(*nets, tfkd.losses.LogitsDistillation(2.0))
    tfkd.TeacherCache.build(
        tmp_path, distiller, dataset, mixed, 2, 4, seed=7, dtype="float32", augment_name="mixup",
        verbose=0,
    )  # fmt: skip
    stored = tfkd.TeacherCache(tmp_path).dataset(dataset, 12, shuffle=False, augment=mixed)
    plain = data.batches(dataset, 12, augment=mixed, seed=7)
    for _ in range(2):  # epochs, and views
        (x, y, _, knowledge), (same, labels) = next(iter(stored)), next(iter(plain))
        np.testing.assert_array_equal(x, same)
        np.testing.assert_array_equal(y, labels)
        answer = nets[0](tf.cast(x, tf.float32))
        np.testing.assert_allclose(knowledge["output"], answer, rtol=1e-4, atol=1e-3)
    assert np.abs(x.numpy().astype(int) - images).max() > 0
    distiller.compile("sgd", keras.losses.CategoricalCrossentropy(from_logits=True))
    history = distiller.fit(stored, epochs=1, verbose=0).history
    assert history["student_loss"][0] > 0


def test_what_cannot_be_mixed():
    images, labels = flat()
    with pytest.raises(ValueError, match="or \"cutmix\", got 'cut'"):
        data.Mixed(from_arrays(images, labels), "cut")
    with pytest.raises(ValueError, match="needs random access"):
        data.Mixed(tf.data.Dataset.from_tensor_slices((images, labels)))
