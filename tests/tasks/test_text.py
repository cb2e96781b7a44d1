"""Texts of classes from settings to predictions: what is refused, and a small run."""

import types
import zipfile

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from tfkd import tasks
from tfkd.data.labelled_texts import vectorizer
from tfkd.evaluation import costs
from tfkd.runs import DistillSettings, distill, export_run, predict
from tfkd.runtime.worker import Worker
from tfkd.settings import ChainSettings, ExportSettings, SearchSettings, SettingsError

SMALL = {
    "limit": 40,
    "epochs": 1,
    "seeds": 1,
    "batch_size": 20,
    "student_options": {"width": 4, "length": 9},
    "any_teacher": True,
}
TEXTS = [b"anna sees a boat", b"now bruno took the lamp", b"", "\u00dcber".encode()]


def settings_of(**changes):
    return DistillSettings(task="text", **(SMALL | changes))


@pytest.fixture(scope="module")
def splits():
    return tasks.get("text").load(settings_of())


@pytest.fixture(scope="module")
def run(splits, tmp_path_factory):
    """A run, its record."""
    out = tmp_path_factory.mktemp("text")
    keras.utils.set_random_seed(1)
    built = settings_of(teacher="text_cnn", teacher_options={"width": 6})
    tasks.get("text").build("teacher", built, splits.info).save(out / "teacher.keras")
    settings = settings_of(teacher=str(out / "teacher.keras"))
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(costs, "MOST_RUNS", 5)
        record = distill(settings, out / "run")
    return types.SimpleNamespace(out=out / "run", record=record)


def test_a_run_is_that_of_its_student(run, splits):
    student = keras.models.load_model(run.out / "student.keras")
    texts, labels = next(iter(splits.test.batch(1000)))
    logits = student(texts).numpy().astype(float)
    (found,) = run.record["figures"]["distilled"]
    assert found["accuracy"] == (logits.argmax(-1) == labels.numpy()).mean()
    logs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    expected = -logs[np.arange(1000), labels].mean()
    np.testing.assert_allclose(found["cross_entropy"], expected, rtol=1e-5)
    # 9 positions of a convolution over 3 words of 4 features, then 4 features to 20 logits.
    assert found["multiply_adds"] == 9 * 3 * 4 * 4 + 4 * 20 and found["latency_ms"] > 0
    vectorize = next(own for own in student.layers if isinstance(own, layers.TextVectorization))
    assert tuple(vectorize.get_vocabulary(include_special_tokens=False)) == splits.info.words


def test_the_teacher_is_asked_once_and_the_cut_is_said(run, splits):
    (knowledge,) = run.record["knowledge"]
    assert (knowledge["stored"], knowledge["views"]) == (True, 1)
    assert knowledge["tensors"] == {"output": [20]}
    count = int((splits.info.counts > 9).sum())
    said = f'{count} of 40 training texts of "who_acted" have more than 9 words'
    assert any(text.startswith(said) for text in run.record["findings"])


def test_the_page_shows_texts(run):
    page = (run.out / "report.html").read_text(encoding="utf-8")
    assert "Texts on which they differ" in page and "<blockquote>" in page
    assert " and " in page.split("<blockquote>")[1].split("</blockquote>")[0]
    assert "latency of one text (ms)" in page and "test images" not in page
    assert "of one image" not in page


def test_files_are_labelled(run, tmp_path):
    texts = ["anna sees a boat", "now bruno took the lamp"]
    for number, text in enumerate(texts):
        (tmp_path / f"{number}.txt").write_text(text)
    lines = predict(run.out, [tmp_path], top=20)
    student = keras.models.load_model(run.out / "student.keras")
    chances = keras.ops.softmax(student(tf.constant(texts))).numpy()
    found = {(line["file"], line["label"]): line["probability"] for line in lines}
    names = run.record["data"][0]["label_names"]
    for number, own in enumerate(chances):
        for name, chance in zip(names, own, strict=True):
            assert found[str(tmp_path / f"{number}.txt"), name] == pytest.approx(chance, rel=1e-5)
    (tmp_path / "empty.txt").write_text(" ")
    (tmp_path / "wide.txt").write_bytes(b"caf\xe9")
    with pytest.raises(ValueError, match="Cannot read 2 of 4 texts.*it is empty.*wide.txt"):
        predict(run.out, [tmp_path])


@pytest.mark.parametrize(
    ("inputs", "units", "message"),
    [
        (((9,), "int32"), 20, r"takes \[\(\(None, 9\), 'int32'\)\].*TextVectorization layer that"),
        (((1,), "string"), 20, "one string an example.*wrap it in such a model"),
        (((), "string"), 4, 'knows 4 classes, but "who_acted" has 20'),
    ],
    ids=["tokens", "column", "classes"],
)
def test_models_that_do_not_fit(splits, inputs, units, message):
    given = keras.Input(inputs[0], dtype=inputs[1])
    tokens = given if inputs[1] == "int32" else vectorizer(["a"], 9)(given)
    pooled = layers.GlobalAveragePooling1D()(layers.Embedding(3, 2)(tokens))
    model = keras.Model(given, layers.Dense(units)(pooled))
    with pytest.raises(ValueError, match=message):
        tasks.get("text").check("teacher", model, "x", splits.info)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"augment": "shift"}, "augment is of images"),
        ({"image_size": 32, "store": "x"}, "image_size and store are of images"),
        ({"recipe": "xu2022"}, "recipe is of images"),
        ({"student": "resnet"}, '"resnet" for text.*text_transformer, text_cnn'),
    ],
    ids=["augment", "sizes", "recipe", "student"],
)
def test_settings_that_cannot_be_right(changes, message):
    with pytest.raises(SettingsError, match=message):
        settings_of(**changes)


def test_other_commands_are_of_images():
    for kind, own in ((ChainSettings, {"generations": 2}), (SearchSettings, {})):
        with pytest.raises(SettingsError, match="task is 'text'"):
            kind(task="text", **own)


def test_options_of_models(splits):
    task = tasks.get("text")
    for options, message in (
        ({"words": 2}, "words must be a whole number of at least 3"),
        ({"length": 0}, "length must be a whole number of at least 1"),
        ({"heads": 2}, "unexpected keyword argument 'heads'"),
    ):
        with pytest.raises((TypeError, ValueError), match=message):
            task.build("student", settings_of(student_options=options), splits.info)
    built = task.build("student", settings_of(student_options={"words": 12}), splits.info)
    vectorize = built.get_layer("vectorize")
    assert vectorize.get_vocabulary() == ["", "[UNK]", *splits.info.words[:10]]
    assert vectorize(tf.constant(["x"])).shape == (1, splits.info.usual_length)


def test_strings_go_into_exports_and_names_come_out(run, splits, tmp_path):
    """As C++ loads the SavedModel, and LiteRT the part behind the words."""
    task, student = tasks.get("text"), keras.models.load_model(run.out / "student.keras")
    exports, expected = task.exports(student, splits), student(tf.constant(TEXTS)).numpy()
    version = exports.saved_model(tmp_path / "saved", {})
    with Worker(version) as worker:
        found = worker.run("serving_default", {"text": np.array(TEXTS, object)})
    np.testing.assert_allclose(found["logits"], expected, rtol=1e-4, atol=1e-5)
    names = [splits.info.label_names[n].encode() for n in expected.argmax(-1)]
    assert found["label"].tolist() == names
    file = exports.tflite(tmp_path / "student.tflite", "float32", 0)
    with zipfile.ZipFile(file) as archive:
        assert archive.read("vocabulary.txt").decode().split("\n")[2:-1] == list(splits.info.words)
        assert archive.read("labels.txt").decode().split() == list(splits.info.label_names)
    (note,) = exports.notes
    assert "take 9 tokens" in note
    for path in (version, file):
        with task.opened(path, lambda: student) as opened:
            assert opened.labels == list(splits.info.label_names)
            again = opened.logits(np.array(TEXTS, object))
            np.testing.assert_allclose(again, expected, rtol=1e-4, atol=1e-5)
    wanted = ExportSettings(format=("tflite",), quantization=("int8",))
    with pytest.raises(ValueError, match="No TFLite int8.*takes tokens"):
        export_run(run.out, wanted)
