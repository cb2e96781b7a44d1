"""Students of several outputs: with the vote inside, as one exit, as the trunk."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from tfkd import models
from tfkd.export.saved_model import export_saved_model
from tfkd.export.tflite import export_tflite
from tfkd.runtime.interpreter import Interpreter


@pytest.fixture(scope="module")
def student():
    """Two stages, the first in a nested model; weights that make exits and classes differ."""
    keras.utils.set_random_seed(7)
    image = keras.Input((12, 12, 3))
    x = layers.Conv2D(4, 3, 2, name="first")(image)
    inner = keras.Model(image, layers.Conv2D(6, 3, 2, name="second")(x), name="inner")
    pixels = keras.Input((12, 12, 3), name="image")
    x = inner(layers.Rescaling(1 / 127.5, offset=-1)(pixels))
    x = layers.Dense(3, name="logits")(layers.GlobalAveragePooling2D()(x))
    student = models.with_exits(keras.Model(pixels, x), at="inner/first", features=4)
    for name, seed in [("exit_1", 1), ("logits", 2)]:
        kernel, bias = student.get_layer(name).get_weights()
        generator = np.random.default_rng(seed)
        student.get_layer(name).set_weights([4 * generator.standard_normal(kernel.shape), bias])
    return student


MAKERS = {
    "soft_vote": lambda student: models.vote(student, "soft"),
    "hard_vote": lambda student: models.vote(student, "hard"),
    "exit_1": lambda student: models.single_exit(student, "exit_1"),
    "trunk": models.trunk,
}


def softmax(logits):
    powers = np.exp(np.asarray(logits, "float64"))
    return powers / powers.sum(-1, keepdims=True)


@pytest.fixture(scope="module")
def truth(student, images):
    """What each of them must give, in NumPy from the outputs of the student itself."""
    outputs = student(images.astype("float32"))
    both = np.stack([softmax(outputs["exit_1"]), softmax(outputs["output"])])
    votes = np.eye(3)[both.argmax(-1)].sum(axis=0)
    assert 0.1 < np.mean(votes.max(-1) == 1) < 0.9  # some ties, some agreement
    return {
        "soft_vote": both.mean(axis=0),
        "hard_vote": (votes + 0.01 * both.mean(axis=0)) / 2.01,
        "exit_1": both[0],
        "trunk": both[1],
    }


@pytest.mark.parametrize("name", MAKERS)
def test_saved_model_and_tflite_give_what_the_students_outputs_say(
    student, images, truth, name, tmp_path
):
    exported = MAKERS[name](student)
    feeds = {"image": images.astype("float32")}
    path = export_tflite(exported, tmp_path / "student.tflite")
    found = Interpreter(path).run(feeds)["probabilities"]
    np.testing.assert_allclose(found, truth[name], atol=2e-6)

    # One goes through the export's own checks by the C++ loader, which take seconds.
    version = export_saved_model(
        exported, tmp_path / "saved", warmup_batch_sizes=(1,), check=name == "soft_vote"
    )
    served = tf.saved_model.load(str(version)).signatures["serving_default"]
    found = served(image=tf.constant(feeds["image"]))["probabilities"]
    np.testing.assert_allclose(found, truth[name], atol=2e-6)

    stored = tf.train.load_checkpoint(str(version / "variables" / "variables"))
    shapes = sorted(
        tuple(shape)
        for key, shape in stored.get_variable_to_shape_map().items()
        if not key.startswith("_")
    )
    assert shapes == sorted(tuple(variable.shape) for variable in exported.variables)
    # 4 of the stem's convolutions, 2 of the logits; an exit's bottleneck has 2 x 6, its logits 2.
    counts = {"soft_vote": 20, "hard_vote": 20, "exit_1": 16, "trunk": 6}
    assert len(shapes) == counts[name]


def test_int8_votes_stay_within_what_quantisation_may_cost(student, images, truth, tmp_path):
    vote = MAKERS["soft_vote"](student)
    options = {"quantization": "int8", "calibration": images, "examples": images}
    path = export_tflite(vote, tmp_path / "vote.tflite", **options)
    found = Interpreter(path).run({"image": images})["probabilities"]
    assert np.abs(found - truth["soft_vote"]).mean() < 1e-2
