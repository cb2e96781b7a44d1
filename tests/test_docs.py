"""Code on the pages of docs/ runs as it stands there."""

import re
from pathlib import Path

import keras
import numpy as np
from keras import layers

import tfkd

DOCS = Path(__file__).parents[1] / "docs"


def test_what_the_page_on_adding_shows_trains(tmp_path):
    blocks = re.findall(r"```python\n(.*?)```", (DOCS / "adding.md").read_text(), re.S)
    names = {}
    for block in blocks:
        exec(compile(block, "adding.md", "exec"), names)  # noqa: S102

    def net(width):
        image = keras.Input((6,))
        features = layers.Dense(width, name="features")(image)
        return keras.Model(image, layers.Dense(3)(features))

    source = names["TwoTeachers"]([net(5), net(6)])
    x = np.random.default_rng(0).normal(size=(8, 6)).astype("float32")
    y = np.arange(8) % 3
    two = tfkd.Distiller(source, net(4), tfkd.losses.LogitsDistillation(2.0))
    projected = tfkd.Distiller(net(5), net(4), names["loss"])
    for made in (two, projected):
        made.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        before = made.distillation_losses[0].name
        history = made.fit(x, y, epochs=3, verbose=0).history
        assert history[before][2] < history[before][0]
        made.save(tmp_path / "made.keras")
        again = keras.models.load_model(tmp_path / "made.keras")
        np.testing.assert_allclose(
            again.predict(x, verbose=0), made.predict(x, verbose=0), rtol=1e-6
        )
    assert projected.adapters.count_params() == (5 * 16 + 16) + (4 * 16 + 16)
    mean = sum(t.predict(x, verbose=0) for t in source.teachers) / 2
    np.testing.assert_allclose(source(x)["output"], mean, rtol=1e-5)


def test_what_the_page_on_calibration_shows():
    (block,) = re.findall(r"```python\n(.*?)```", (DOCS / "calibration.md").read_text(), re.S)
    image = keras.Input((3,))
    student = keras.Model(image, layers.Dense(2, use_bias=False)(image))
    # Three of four are right at logits of 3: the temperature is 3 / ln 3.
    logits, labels = np.tile([3.0, 0.0], (4, 1)), np.array([0, 0, 0, 1])
    names = {"student": student, "validation_logits": logits, "validation_labels": labels}
    names |= {"test_logits": logits, "test_labels": labels}
    exec(compile(block, "calibration.md", "exec"), names)  # noqa: S102
    assert abs(names["after"]["calibration_error"]) < 1e-7 < names["before"]["calibration_error"]
    x = np.eye(3, dtype="float32")
    expected = student.get_weights()[0] / (3 / np.log(3))
    np.testing.assert_allclose(names["calibrated"](x), expected, rtol=1e-5)
