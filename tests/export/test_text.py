"""Text in, text out: a translator through TensorFlow's C++ loader, a language model's functions."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfkd.data.text import TextInfo
from tfkd.data.vocabulary import Vocabulary
from tfkd.export import check_saved_model, export_text, export_tflite
from tfkd.export import text as exports
from tfkd.export.errors import ExportCheckError
from tfkd.models import language_model, translator
from tfkd.runtime.worker import Worker

LENGTH = 8


def information(*known):
    lengths = (LENGTH,) * len(known)
    return TextInfo("x", (), known[-1].size, (), {}, "sha256:x", "", (), known, lengths)


def bold(model):
    model.set_weights([3 * weight for weight in model.get_weights()])
    return model


@pytest.fixture(scope="module")
def translating():
    keras.utils.set_random_seed(0)
    known = Vocabulary("words", ("a", "boat", "sees", ".")), Vocabulary("words", ("ra", "ke", "é"))
    sizes = [own.size for own in known]
    model = translator(sizes, (LENGTH, LENGTH), width=8, depth=1, heads=2)
    return bold(model), information(*known)


@pytest.fixture(scope="module")
def path(translating, tmp_path_factory):
    directory = tmp_path_factory.mktemp("text") / "model"
    path = export_text(translating[0], directory, translating[1], check=False)
    assert path == directory / "1"
    return path


@pytest.fixture(scope="module")
def worker(path):
    with Worker(path) as worker:
        yield worker


def test_a_translator_answers_in_the_cpp_loader_as_in_keras(translating, worker):
    model, info = translating
    texts = np.array([b"A boat sees.", b"", b"no such words", b"boat " * 50], object)
    found = worker.run("serving_default", {"text": texts})["text"]
    given = {"text": texts, "target": np.array([b"ra ke", b"", b"?", b"ra " * 50], object)}
    logits = worker.run("logits", given)["logits"]
    own = exports._Translator(model, info, None)
    assert found.tolist() == [own.by_keras(text.decode()) for text in texts]
    assert len(set(found.tolist())) > 1
    x = {
        "source": tf.constant([[4, 5, 6, 7, 3]]),  # a boat sees . and the end
        "target": tf.constant([[2, 4, 5]]),  # the start, ra ke
    }
    np.testing.assert_allclose(logits[:1, :3], model(x), atol=1e-5)
    assert logits.shape == (4, LENGTH, model.output_shape[-1])


def test_an_export_that_answers_otherwise_is_refused(translating, path, worker, monkeypatch):
    served = exports._Translator(*translating, None)
    monkeypatch.setattr(exports._Translator, "by_keras", lambda own, line: b"another")
    with pytest.raises(ExportCheckError, match="the Keras model 'another'"):
        exports._compare(worker, served)
    with pytest.raises(ValueError, match="a translation ends by itself"):
        export_text(translating[0], path.parent, translating[1], steps=3)
    (path / "fingerprint.pb").write_bytes(b"changed")
    with pytest.raises(ExportCheckError, match="is changed since the export"):
        check_saved_model(path)


def test_a_language_model_continues_what_it_is_given():
    keras.utils.set_random_seed(1)
    known = Vocabulary("characters", ("\n", "a", "b", "c"))
    model = bold(language_model(known.size, LENGTH, width=8, depth=1, heads=2))
    own = exports._Language(model, information(known), None)
    texts = tf.constant(["ab", "", "abcabcabcabc", "☃"])
    found = own.answer({"text": texts})["text"].numpy()
    assert found.tolist() == [own.by_keras(line.decode()) for line in texts.numpy()]
    # Empty is the beginning of a line; of a long text the last four count.
    alike = own.answer({"text": tf.constant(["\n", "cabc"])})["text"].numpy()
    assert alike.tolist() == [found[1], found[2]]
    with pytest.raises(ValueError, match="steps must lie between 1 and 7"):
        exports._Language(model, information(known), LENGTH)


def test_a_language_model_of_no_fixed_length_is_no_tflite_file(tmp_path):
    model = language_model(12, LENGTH, width=8, depth=1, heads=2)
    with pytest.raises(ValueError, match=r"has the shape \(None, None\)"):
        export_tflite(model, tmp_path / "free.tflite")
