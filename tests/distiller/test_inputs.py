"""Inputs, kinds of teachers, adapters and taps: C13 to C15."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers
from small_networks import (
    CLASSES,
    cross_entropy,
    distiller,
    images,
    network,
    weights_of,
)

import tfkd
from tfkd.losses import FeatureDistillation, LogitsDistillation

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
