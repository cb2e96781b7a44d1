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
