"""KerasHub's models as teachers and students: preprocessors, heads, hints, files, presets by name.

Tiny networks with random weights; presets are folders written by KerasHub itself.
"""

import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import tfkd
from tfkd import _extras, taps
from tfkd.runs import models as runs_models
from tfkd.settings.base import absolute, is_reference

keras_hub = pytest.importorskip("keras_hub", reason="needs the extra hub (KerasHub)")

BLOCK = "task/backbone/vit_encoder/transformer_block_1"
CLASSES = 3


def vit(activation=None, preprocessor=None, class_token=True):
    """A ViT of two blocks of width 8 on 16 × 16 pixels, patches of 8: 4 tokens."""
    backbone = keras_hub.models.ViTBackbone(
        (16, 16, 3), 8, 2, 2, 8, 16, use_class_token=class_token, name="backbone"
    )
    pooling = "token" if class_token else "gap"
    task = keras_hub.models.ViTImageClassifier(
        backbone, CLASSES, preprocessor=preprocessor, pooling=pooling, activation=activation
    )
    task.output_dense.kernel.assign(3 * task.output_dense.kernel)
    return task


def resizing_to_16():
    converter = keras_hub.layers.ViTImageConverter(
        image_size=(16, 16), scale=[0.007, 0.008, 0.009], offset=[-1.0, -0.9, -0.8]
    )
    return keras_hub.models.ViTImageClassifierPreprocessor(converter)


@pytest.fixture(scope="module")
def task():
    return vit(preprocessor=resizing_to_16())


@pytest.fixture(scope="module")
def preset(tmp_path_factory):
    """A folder of a preset that ends in a softmax, and the task that is in it."""
    saved = vit("softmax", resizing_to_16())
    folder = tmp_path_factory.mktemp("presets") / "tiny_vit"
    saved.save_to_preset(str(folder))
    return folder, saved


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).uniform(0, 255, (8, 20, 24, 3)).astype("float32")


def cnn():
    image = keras.Input((20, 24, 3))
    x = layers.Rescaling(1 / 255)(image)
    x = layers.Resizing(16, 16)(x)
    x = layers.Conv2D(6, 8, strides=8, activation="relu")(x)
    x = layers.Reshape((4, 6), name="tokens")(x)
    return keras.Model(image, layers.Dense(CLASSES)(layers.GlobalAveragePooling1D()(x)))


@pytest.mark.parametrize(
    "use",
    [
        lambda task: tfkd.Distiller(task, cnn()),
        lambda task: tfkd.Distiller(cnn(), task),
        lambda task: tfkd.Distiller(tfkd.teachers.Ensemble([task, cnn()]), cnn()),
        lambda task: tfkd.evaluation.report(task, (np.zeros((2, 16, 16, 3)), [0, 1])),
        lambda task: tfkd.export.export_saved_model(task, "nowhere"),
        lambda task: tfkd.models.ensemble([task]),
        lambda task: tfkd.models.cohort(task, task),
    ],
    ids=["teacher", "student", "ensemble", "report", "export", "one_of_several", "cohort"],
)
def test_a_preprocessor_that_would_be_left_out_is_refused(task, use):
    with pytest.raises(ValueError, match=r"preprocessor.*with_preprocessor\(task, input_shape\)"):
        use(task)


def test_a_file_of_a_task_is_refused_where_the_command_line_loads_it(task, tmp_path):
    task.save(tmp_path / "task.keras")
    with pytest.raises(ValueError, match=r'task.keras", "vi_t_image.*with_preprocessor\(task'):
        runs_models.load_model(str(tmp_path / "task.keras"))


def test_with_its_preprocessor_the_model_says_what_the_task_predicts(task, images):
    predicted = task.predict(images, verbose=0)
    model = tfkd.models.with_preprocessor(task, images.shape[1:])
    np.testing.assert_allclose(model(images), predicted, rtol=1e-4, atol=1e-5)
    assert np.abs(task(images[:, :16, :16]) - predicted).max() > 0.1  # as it is without
    any_size = tfkd.models.with_preprocessor(task)
    np.testing.assert_array_equal(any_size(images), model(images))
    grey = tfkd.models.with_preprocessor(task, (20, 24, 1))(images[..., :1])
    np.testing.assert_array_equal(grey, model(np.repeat(images[..., :1], 3, axis=-1)))
    assert {id(v) for v in model.variables} == {id(v) for v in task.variables}


@pytest.mark.parametrize(
    ("preprocessor", "shape", "said"),
    [
        (lambda images: images / 255, None, "something other than to resize and scale"),
        (None, (20, 24, 3), r"takes images of shape \(16, 16, 3\), but those of shape \(20, 24"),
    ],
    ids=["a_function", "no_resizing"],
)
def test_what_stock_layers_cannot_do_is_refused(preprocessor, shape, said):
    with pytest.raises(ValueError, match=said):
        tfkd.models.with_preprocessor(vit(preprocessor=preprocessor), shape)


def test_a_converter_with_steps_of_its_own_is_refused():
    class Inverted(keras_hub.layers.ViTImageConverter):
        def call(self, inputs):
            return 255 - super().call(inputs)

    preprocessor = keras_hub.models.ViTImageClassifierPreprocessor(Inverted((16, 16)))
    with pytest.raises(ValueError, match="something other than to resize and scale"):
        tfkd.models.with_preprocessor(vit(preprocessor=preprocessor))


def test_any_other_model_owns_its_preprocessing():
    with pytest.raises(ValueError, match="is no KerasHub task of one image input"):
        tfkd.models.with_preprocessor(cnn())


def test_heads_are_told_apart():
    assert taps.heads_of(vit())["output"].kind == "logits"
    residual = keras_hub.models.ResNetBackbone(
        [64], [3], [64], [1], [1], "basic_block", image_shape=(8, 8, 3)
    )
    classifier = keras_hub.models.ResNetImageClassifier(residual, CLASSES, activation="softmax")
    assert taps.heads_of(classifier)["output"].kind == "probabilities"


def test_as_teacher_and_as_student_hinted_stored_saved_and_exported(tmp_path, images):
    """A ViT with a softmax teaches a CNN by logits and a block's sequence; the other way round."""
    labels = np.arange(8) % CLASSES
    task = vit("softmax", resizing_to_16(), class_token=False)
    network = tfkd.models.with_preprocessor(task, images.shape[1:])
    before = [v.numpy() for v in network.variables]
    crossentropy = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    distiller = tfkd.Distiller(
        network,
        cnn(),
        [
            tfkd.losses.LogitsDistillation(temperature=2),
            tfkd.losses.FeatureDistillation("mse", BLOCK, "tokens"),
        ],
    )
    distiller.compile("adam", crossentropy)
    known = distiller.knowledge(images)
    encoder = task.backbone.get_layer("vit_encoder")
    embedded = task.backbone.get_layer("vit_patching_and_embedding")(task.preprocessor(images))
    np.testing.assert_allclose(
        known[BLOCK], encoder.encoder_layers[0](embedded), rtol=1e-4, atol=1e-5
    )
    assert known[BLOCK].shape == (8, 4, 8)
    probabilities = task.predict(images, verbose=0)
    np.testing.assert_allclose(
        keras.ops.softmax(known["output"]), probabilities, rtol=1e-4, atol=1e-6
    )
    examples = tf.data.Dataset.from_tensor_slices((images, labels))
    tfkd.TeacherCache.build(tmp_path / "cache", distiller, examples)
    stored = tfkd.TeacherCache(tmp_path / "cache").dataset(examples, 8, shuffle=False)
    (_, _, _, knowledge), *_ = stored
    np.testing.assert_allclose(knowledge[BLOCK], known[BLOCK], rtol=2e-3, atol=2e-3)
    distiller.fit(stored, epochs=1, verbose=0)
    for variable, value in zip(network.variables, before, strict=True):
        np.testing.assert_array_equal(variable, value)

    student = tfkd.models.with_preprocessor(vit(preprocessor=resizing_to_16()), (20, 24, 3))
    other = tfkd.Distiller(network, student, tfkd.losses.LogitsDistillation(temperature=2))
    # Eagerly: few steps take less time than a trace.
    other.compile(keras.optimizers.SGD(0.1), crossentropy, run_eagerly=True)
    other.fit(images, labels, epochs=1, verbose=0)
    other.save(tmp_path / "distiller.keras")
    loaded = keras.models.load_model(tmp_path / "distiller.keras")
    for again in (other, loaded):
        again.fit(images, labels, epochs=1, verbose=0)
    np.testing.assert_allclose(loaded.student(images), student(images), rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(loaded.teacher(images), network(images))
    assert np.abs(student(images) - network(images)).max() > 1e-3
    tfkd.export.export_saved_model(
        student, tmp_path / "exported", examples=images, warmup_batch_sizes=(1,)
    )


def test_a_preset_by_name_is_built_with_a_new_head(preset, images):
    folder, saved = preset
    model = tfkd.models.build(f"hub:{folder}", (20, 24, 3), 5, weights="preset")
    assert model.name == "tiny_vit" and model.output_shape == (None, 5)
    assert taps.heads_of(model)["output"].kind == "logits"
    features = keras.Model(model.get_layer("task").input, taps.find_layer(model, BLOCK[:13]).output)
    inputs = saved.preprocessor(images)
    np.testing.assert_allclose(features(inputs), saved.backbone(inputs), rtol=1e-5, atol=1e-5)
    random = tfkd.models.build(f"hub:{folder}", (8, 8, 1), 5)
    encoder = f"{BLOCK}/mlp/dense_1"
    first, second = (taps.find_layer(m, encoder).kernel.numpy() for m in (model, random))
    assert np.abs(first - second).max() > 1e-3


def test_what_no_preset_is_said_to_be(preset, monkeypatch):
    def build(name, **options):
        return tfkd.models.build(name, (32, 32, 3), 3, **options)

    with pytest.raises(ValueError, match='Did you mean "vit_base_patch16_224_imagenet"'):
        build("hub:vit_base_patch16_224_imagenett")
    with pytest.raises(ValueError, match="weights is 'imagenet'. Expected None"):
        build(f"hub:{preset[0]}", weights="imagenet")
    with pytest.raises(TypeError, match="has no option 'weigths'. Did you mean \"weights\""):
        build(f"hub:{preset[0]}", weigths="preset")

    def offline(preset, **given):
        raise ConnectionRefusedError("no network")

    monkeypatch.setattr(keras_hub.models.ImageClassifier, "from_preset", offline)
    with pytest.raises(ConnectionError, match='could not fetch the preset "vit_base.*: no network'):
        build("hub:vit_base_patch16_224_imagenet")
    monkeypatch.setitem(sys.modules, "keras_hub", None)
    with pytest.raises(_extras.MissingExtraError, match=r'pip install "tfkd\[hub\]"'):
        build("hub:vit_base_patch16_224_imagenet")


def test_a_preset_is_no_code_and_its_folder_is_a_path():
    assert not is_reference("hub:vit_base_patch16_224_imagenet") and is_reference("hubs:make")
    assert absolute("hub:./mine", "/data") == "hub:/data/mine"
    assert absolute("hub:resnet_50_imagenet", "/data") == "hub:resnet_50_imagenet"
