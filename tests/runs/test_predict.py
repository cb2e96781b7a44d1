"""Labels of image files: those that the run's student gives to the same pixels."""

import csv

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from tfkd import data, tasks
from tfkd.export.saved_model import signature_functions
from tfkd.export.student import examine
from tfkd.runs import predict, predicting, report


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """(folder of PNG files, their pixels): some of the digits' test split, 0..16 as grey."""
    folder = tmp_path_factory.mktemp("images")
    pixels = next(iter(data.load("digits").test.batch(6)))[0].numpy()
    for index, own in enumerate(pixels):
        name = folder / ("deep" if index > 3 else "") / f"{index}.png"
        name.parent.mkdir(exist_ok=True)
        Image.fromarray(own[..., 0]).save(name)
    (folder / ".hidden.png").write_bytes(b"no image")
    (folder / "notes.txt").write_text("no image either")
    return folder, pixels


def expected(path, pixels):
    logits = np.asarray(keras.models.load_model(path)(pixels.astype("float32")), "float64")
    exponents = np.exp(logits - logits.max(axis=1, keepdims=True))
    return exponents / exponents.sum(axis=1, keepdims=True)


def test_labels_and_probabilities_are_the_student_s(finished, images, capsys):
    folder, pixels = images
    lines = predict(finished[0], [folder], top=10)
    assert [line["file"] for line in lines[::10]] == [
        str(folder / name)
        for name in ("0.png", "1.png", "2.png", "3.png", "deep/4.png", "deep/5.png")
    ]
    probabilities = expected(finished[0] / "student.keras", pixels)
    for index, own in enumerate(probabilities):
        said = {line["label"]: line["probability"] for line in lines[10 * index : 10 * index + 10]}
        assert [said[str(digit)] for digit in range(10)] == pytest.approx(own, abs=1e-6)
        assert list(said.values()) == sorted(said.values(), reverse=True)
    printed = capsys.readouterr().out
    assert "probability (%)" in printed and f"{100 * lines[0]['probability']:.1f}" in printed


def test_another_row_a_single_file_and_csv(finished, images, tmp_path):
    folder, pixels = images
    path = tmp_path / "labels.csv"
    lines = predict(finished[0], [folder / "2.png"], row="alone", csv=path)
    own = expected(finished[0] / "seeds/3/alone.keras", pixels[2:3])[0]
    assert [(line["label"], line["probability"]) for line in lines] == [
        (str(own.argmax()), pytest.approx(own.max(), abs=1e-6))
    ]
    with open(path, newline="") as file:
        (read,) = csv.DictReader(file)
    assert read == {name: str(value) for name, value in lines[0].items()}


def test_odd_aspects_are_one_tensor_in_training_prediction_and_serving(tmp_path):
    random = np.random.default_rng(0)
    for name in ("ant", "bee"):
        (tmp_path / name).mkdir()
        for number in range(4):
            pixels = random.integers(0, 256, (10 + 20 * number, 31, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / name / f"{number}.jpg")
    splits = data.load(tmp_path, image_size=(12, 16), resize="crop", cache_dir=tmp_path / "kept")
    record = report._data_record(splits.info)
    files = sorted(tmp_path.rglob("*.jpg"))
    read, predicted = predicting._examples(files, record, tasks.get("classification"), False)
    assert read == files
    trained = [image for part in splits[:3] for image, _ in part.as_numpy_iterator()]
    assert {image.tobytes() for image in trained} == {image.tobytes() for image in predicted}
    assert len(trained) == 8
    # Of the signature that TF Serving asks, with the rule that an export gives it.
    image = keras.Input((12, 16, 3))
    student = keras.Model(image, keras.layers.Dense(2)(keras.layers.Flatten()(image)))
    served = examine(student, head="logits", resize=splits.info.resize)
    functions = signature_functions(served)
    encoded = tf.constant([path.read_bytes() for path in files])
    answers = functions["serve_bytes"](image_bytes=encoded)["logits"]
    same = functions["serving_default"](image=tf.constant(predicted, tf.float32))["logits"]
    np.testing.assert_array_equal(answers, same)


@pytest.mark.parametrize(
    ("paths", "message"),
    [
        (["nowhere.png"], 'No image or folder "nowhere.png"'),
        (["EMPTY"], "holds no images"),
        (["BROKEN"], "Cannot read 2 of 2 images: .*a.png.*b.jpg"),
    ],
)
def test_files_that_cannot_be_answered_are_named(finished, tmp_path, paths, message):
    for name in ("EMPTY", "BROKEN"):
        (tmp_path / name).mkdir()
    (tmp_path / "BROKEN/a.png").write_bytes(b"\x89PNG and no more")
    (tmp_path / "BROKEN/b.jpg").write_bytes(b"")
    given = [tmp_path / path if path.isupper() else path for path in paths]
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        predict(finished[0], given)
    if paths == ["BROKEN"]:
        Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "BROKEN/c.png")
        with pytest.warns(UserWarning, match="2 of 3 images cannot be read and are left out"):
            lines = predict(finished[0], given, skip_damaged=True)
        assert [line["file"] for line in lines] == [str(tmp_path / "BROKEN/c.png")]
    with pytest.raises(ValueError, match='no row "taught"'):
        predict(finished[0], [tmp_path], row="taught")
