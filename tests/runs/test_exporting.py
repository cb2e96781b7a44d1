"""From a run to its exports: what is written, what the figures are, what a failure leaves."""

import json
import os
import time
import urllib.request
from types import SimpleNamespace

import forked
import keras
import numpy as np
import pytest
import tensorflow as tf
from page_reader import Page
from PIL import Image

from tfkd import data
from tfkd.evaluation import fitted_temperature
from tfkd.export import ExportCheckError, measure, open_exported, tflite
from tfkd.files import write_json, write_text
from tfkd.runs import (
    DistillSettings,
    ExportSettings,
    RunDirectory,
    SettingsError,
    distill,
    evaluate_run,
    export_run,
    exporting,
    serve_runs,
)
from tfkd.runs.exports import bases, run_of
from tfkd.runs.record import Outcome, Training
from tfkd.runs.teachers import sha256_of
from tfkd.settings.export import QUANTIZATIONS


class Ended(SimpleNamespace):
    """A run that was distilled with --export: once its export failed, once it did not."""


def linear(train, pool=1):
    """A linear classifier of (pooled) pixels, fitted to one-hot labels by least squares."""
    images, labels = next(train.batch(2000).as_numpy_iterator())
    image = keras.Input(images.shape[1:], name="image")
    x = keras.layers.AveragePooling2D(pool)(keras.layers.Rescaling(1 / 255)(image))
    x = keras.layers.Flatten()(x)
    pixels = keras.Model(image, x)(images.astype("float32")).numpy()
    model = keras.Model(image, keras.layers.Dense(10, use_bias=False, name="logits")(x))
    model.set_weights([10 * np.linalg.lstsq(pixels, np.eye(10)[labels])[0]])
    return model


def put_trainings(settings, out):
    """What a run that was killed just before its end has, without the training."""
    train = data.load("digits", limit=settings.limit).train
    training = Training(epoch=1, accuracy=0.5, cross_entropy=1.0, seconds=1.0)
    history = {"loss": [1.0], "val_accuracy": [0.5]}
    for part, pool in (("teacher", 1), ("seeds/3/alone", 4), ("seeds/3/distilled", 2)):
        path = out / f"{part}.keras"
        path.parent.mkdir(parents=True, exist_ok=True)
        linear(train, pool).save(path)
        outcome = Outcome(training=training, history=history, model_sha256=sha256_of(path))
        write_json(path.with_suffix(".json"), outcome.model_dump())


@pytest.fixture(scope="module")
def ended(small, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "small"
    settings = small.replace(export="int8,saved_model")
    put_trainings(settings, out)
    write_text(out / "run.toml", settings.to_toml())

    def fails(*arguments):
        raise ExportCheckError("int8 says something else.")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(exporting, "export", fails)
        with pytest.raises(ExportCheckError) as failure:
            distill(settings, out, resume=True)
    failed = json.loads((out / "run.json").read_text())
    files = sorted(path.name for path in out.iterdir())
    record = distill(settings, out, resume=True)
    return Ended(
        out=out,
        record=record,
        message=str(failure.value),
        failed=failed,
        files_after_failure=files,
        exported=json.loads((out / "export" / "export.json").read_text()),
    )


def test_a_failed_export_does_not_take_the_run_with_it(ended):
    assert "is finished, but its export failed: int8 says" in ended.message
    assert f"tfkd export {ended.out} tries again" in ended.message
    assert ended.failed["export_failed"] == "int8 says something else."
    assert ended.files_after_failure == [
        *("curves.png", "figures.csv", "history.csv", "report.html", "report.json", "run.json"),
        *("run.toml", "seeds"),
        *("student.keras", "table.md", "teacher.json", "teacher.keras"),
    ]
    assert "export_failed" not in ended.record
    assert json.loads((ended.out / "run.json").read_text()) == ended.record


def test_a_run_that_ends_in_an_export_holds_it_and_is_written_last(ended):
    out = ended.out / "export"
    assert sorted(path.name for path in out.iterdir()) == [
        *("export.json", "export.png", "saved_model", "student_int8.tflite")
    ]
    assert ended.exported["files"] == {
        "SavedModel": "saved_model/1",
        "TFLite int8": "student_int8.tflite",
    }
    assert Image.open(out / "export.png").format == "PNG"
    settings = DistillSettings.from_toml(ended.out / "run.toml", trust=True)
    assert settings.exports == ("saved_model", "int8")
    manifest = json.loads((out / "saved_model/1/assets.extra/manifest.json").read_text())
    assert manifest["run"]["data"] == ended.record["data"]


def test_the_page_has_the_exports(ended):
    page = Page((ended.out / "report.html").read_text("utf-8")).check()
    lines = page.table("Exports of distilled")[1:]
    figures = ended.exported["figures"]
    assert [line[0] for line in lines] == [own["name"] for own in figures]
    assert [line[2] for line in lines] == [f"{100 * own['accuracy']:.2f}" for own in figures]


def test_the_figures_are_those_of_the_run_and_of_the_files(ended):
    figures = {row["name"]: row for row in ended.exported["figures"]}
    assert list(figures) == [
        *("Keras teacher", "TFLite teacher", "Keras student", "SavedModel", "TFLite int8")
    ]
    run = ended.record["figures"]
    assert figures["Keras teacher"]["accuracy"] == run["teacher"][0]["accuracy"]
    assert figures["Keras student"]["accuracy"] == run["distilled"][0]["accuracy"]
    assert figures["SavedModel"]["agreement"] == 1.0
    size = (ended.out / "export" / "student_int8.tflite").stat().st_size
    assert figures["TFLite int8"]["bytes"] == size
    for step in ended.exported["steps"]:
        before, after = (figures[step[end]]["accuracy"] for end in ("from", "to"))
        assert step["accuracy"] == after and step["lost"] == before - after
    assert [(step["from"], step["to"]) for step in ended.exported["steps"]] == [
        ("Keras teacher", "Keras student"),
        ("Keras student", "SavedModel"),
        ("Keras student", "TFLite int8"),
    ]


def test_the_printed_tables_say_what_export_json_says(ended, capsys):
    report = measure.Report(tuple(measure.Row(**row) for row in ended.exported["figures"]))
    exporting.show(
        exporting.Exported(ended.exported, report, ended.out / "export", "images"), steps=True
    )
    printed = capsys.readouterr().out
    lines = [line.split() for line in printed.splitlines()]
    for row in ended.exported["figures"]:
        name = row["name"].split()
        (line,) = [line for line in lines if line[: len(name)] == name and "→" not in line]
        assert f"{100 * row['accuracy']:.2f}" in line and f"{row['latency_ms']:.3f}" in line
    (step,) = [line for line in lines if line[-5:-2] == ["→", "TFLite", "int8"]]
    assert step[-1] == f"{100 * ended.exported['steps'][2]['lost']:+.2f}"
    assert "359 test images" in printed


@pytest.mark.parametrize("name", ["saved_model", "saved_model/1", "student_int8.tflite"])
def test_evaluate_takes_exports(ended, name, capsys):
    rows = evaluate_run(ended.out / "export" / name)
    key = "TFLite int8" if name.endswith("tflite") else "SavedModel"
    expected = {row["name"]: row for row in ended.exported["figures"]}[key]
    assert list(rows) == ["teacher", "student", name.rpartition("/")[2]]
    *_, own = rows.values()
    assert (own["accuracy"], own["file_bytes"]) == (expected["accuracy"], expected["bytes"])
    run = ended.record["figures"]["distilled"][0]
    assert rows["student"]["agreement"] == run["agreement"]
    if key == "SavedModel":
        assert own["cross_entropy"] == pytest.approx(run["cross_entropy"], abs=1e-6)
    assert "agreement with teacher" in capsys.readouterr().out


def test_an_export_elsewhere_knows_its_run(ended, tmp_path):
    path = tmp_path / "out" / "student_int8.tflite"
    path.parent.mkdir()
    path.write_bytes(b"no model")
    with pytest.raises(FileNotFoundError, match="No run belongs to"):
        evaluate_run(path)
    write_json(path.with_name("export.json"), ended.exported)
    assert run_of(path).path == ended.out
    with pytest.raises(ValueError, match="student_int8.tflite.* cannot be run"):
        evaluate_run(path)
    with pytest.raises(FileNotFoundError, match="No file"):
        evaluate_run(tmp_path / "missing.tflite")


def unmeasured(patch):
    """Leaves the measuring out: it takes its time and has been tested above."""

    def report(student, exports, dataset, plot, **options):
        plot.write_bytes(b"png")
        names = (measure.TEACHER, measure.STUDENT, *exports)
        return measure.Report(tuple(measure.Row(name, 1, 0.5, 1, 1, 1, 1) for name in names))

    patch.setattr(measure, "report", report)


def test_versions_count_up_and_keep_takes_the_old(ended, tmp_path, monkeypatch):
    unmeasured(monkeypatch)
    saved_model = ExportSettings(format="saved_model", keep=2)
    for number in (1, 2, 3):
        record = export_run(ended.out, saved_model, out=tmp_path / "out", check=False)
        assert record["files"] == {"SavedModel": f"saved_model/{number}"}
        assert not record["checked"]
    assert sorted(os.listdir(tmp_path / "out/saved_model")) == ["2", "3"]
    assert sorted(os.listdir(tmp_path / "out")) == ["export.json", "export.png", "saved_model"]


def test_a_failed_check_leaves_nothing(ended, tmp_path, monkeypatch):
    """The SavedModel is whole and checked when the TFLite file fails; neither is published."""

    def fails(*arguments):
        raise ExportCheckError("not the same")

    monkeypatch.setattr(tflite.tflite_checks, "compare_tflite", fails)
    with pytest.raises(ExportCheckError, match="not the same"):
        export_run(ended.out, ExportSettings(quantization="float32"), out=tmp_path / "out")
    assert not (tmp_path / "out").exists()
    before = {p: p.stat().st_mtime_ns for p in (ended.out / "export").rglob("*")}
    with pytest.raises(ExportCheckError):
        export_run(ended.out, ExportSettings(format="tflite", quantization="float32"))
    assert {p: p.stat().st_mtime_ns for p in (ended.out / "export").rglob("*")} == before


def test_what_is_no_finished_run_is_not_exported(ended, tmp_path):
    with pytest.raises(FileNotFoundError, match="holds no run"):
        export_run(tmp_path, ExportSettings())
    write_text(tmp_path / "run.toml", DistillSettings().to_toml())
    with pytest.raises(FileNotFoundError, match="not finished"):
        export_run(tmp_path, ExportSettings())
    (tmp_path / "file").touch()
    with pytest.raises(FileExistsError, match="is a file"):
        export_run(ended.out, ExportSettings(), out=tmp_path / "file")


def test_replacing_a_run_takes_its_exports_but_no_version_that_a_server_may_read(tmp_path):
    stays = "export/saved_model/1/saved_model.pb"
    for name in ("run.json", "export/export.json", "export/student_int8.tflite", stays):
        write_text(tmp_path / name, "")
    RunDirectory(tmp_path).clear()
    left = [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()]
    assert left == [stays]


def test_runs_are_served_under_their_names(ended, tmp_path):
    base = ended.out / "export" / "saved_model"
    for path in (ended.out, ended.out / "export" / "saved_model"):
        assert bases([path]) == {"small": base}
    compose = serve_runs([ended.out], tmp_path / "serving", rest_port=9501)
    assert f'"{base}:/models/small:ro"' in compose.read_text()
    with pytest.raises(ValueError, match="one version of a model"):
        bases([base / "1"])
    with pytest.raises(FileNotFoundError, match="nothing to serve"):
        bases([tmp_path])
    write_text(tmp_path / "small/run.toml", "")
    with pytest.raises(FileNotFoundError, match="tfkd export .* --format saved_model"):
        bases([tmp_path / "small"])
    (tmp_path / "small/export/saved_model/1").mkdir(parents=True)
    with pytest.raises(ValueError, match='served as "small"'):
        bases([ended.out, tmp_path / "small"])


def test_serve_prints_its_address_and_what_it_is_and_answers_there(ended, tmp_path):
    said = tmp_path / "said.txt"
    words = ("serve", ended.out, "--port", "0", "--grpc-port", "0")
    process, lines = forked.command(words, said=said), []
    try:
        while len(lines) < 3 and process.is_alive():
            time.sleep(0.05)
            lines = said.read_text().splitlines() if said.exists() else []
        assert "development stand-in for TensorFlow Serving" in lines[0]
        url = lines[1].split()[-1]
        assert url.startswith("http://127.0.0.1:") and url.endswith("/v1/models/small")
        body = json.dumps({"instances": [np.zeros((8, 8, 1)).tolist()]}).encode()
        with urllib.request.urlopen(f"{url}:predict", body, timeout=20) as response:
            (answer,) = json.load(response)["predictions"]
    finally:
        process.terminate()
        process.join()
    assert process.exitcode == 0
    with open_exported(ended.out / "export" / "saved_model") as exported:
        expected = exported.logits(np.zeros((1, 8, 8, 1)))[0]
    np.testing.assert_allclose(answer["logits"], expected, atol=1e-5)


def test_another_row_and_data_that_moved(ended, tmp_path, monkeypatch):
    unmeasured(monkeypatch)
    settings = ExportSettings(format="saved_model")
    record = export_run(ended.out, settings, tmp_path / "alone", check=False, row="alone")
    assert record["row"] == "alone"
    with open_exported(tmp_path / "alone/saved_model") as exported:
        logits = exported.logits(np.full((1, 8, 8, 1), 3.0))
    alone = keras.models.load_model(ended.out / "seeds/3/alone.keras")
    np.testing.assert_allclose(logits, alone(np.full((1, 8, 8, 1), 3.0)), rtol=1e-4)
    with pytest.raises(ValueError, match='no row "alnoe"'):
        export_run(ended.out, settings, row="alnoe")
    with pytest.raises(ValueError, match="has 1 data sets; given are 2"):
        export_run(ended.out, settings, data=("digits", "digits"))
    with pytest.raises(FileNotFoundError, match="give --data"):
        evaluate_run(ended.out, data=str(tmp_path / "nowhere"))


def test_calibrated_exports_serve_softmax_of_the_divided_logits(ended, tmp_path, monkeypatch):
    unmeasured(monkeypatch)
    settings = ExportSettings(format="saved_model,tflite", quantization="float32", calibrate=True)
    record = export_run(ended.out, settings, tmp_path / "out", check=False)
    splits = data.load("digits", limit=200)
    student = keras.models.load_model(ended.out / "student.keras")
    images, labels = next(splits.validation.batch(500).as_numpy_iterator())
    logits = np.asarray(student(images), "float64")
    temperature = fitted_temperature(logits, labels)
    assert abs(temperature - 1) > 0.01
    run = ended.record["figures"]["distilled"][0]
    assert run["temperature"] == pytest.approx(temperature, rel=1e-5)
    exponents = np.exp((logits - logits.max(axis=1, keepdims=True)) / temperature)
    expected = exponents / exponents.sum(axis=1, keepdims=True)
    served = tf.saved_model.load(tmp_path / "out/saved_model/1").signatures["serving_default"]
    answers = served(image=tf.constant(images, tf.float32))
    np.testing.assert_allclose(answers["probabilities"], expected, atol=1e-6)
    np.testing.assert_array_equal(answers["class_id"], logits.argmax(axis=1))
    with open_exported(tmp_path / "out/student_float32.tflite") as exported:
        found = exported.logits(images.astype("float32"))
    np.testing.assert_allclose(found, logits / temperature, atol=1e-5)
    card = (tmp_path / "out/saved_model/1/assets.extra/model_card.md").read_text()
    sentence = f"logits are divided by {temperature:.4g}, the temperature"
    assert sentence in card and sentence in record["notes"][0]
    assert record["settings"]["calibrate"]


def test_a_student_that_is_always_right_on_validation_is_exported_as_it_is():
    """No temperature is the best one then: the export says so."""
    images = np.eye(4, dtype="uint8").reshape(4, 2, 2, 1)
    validation = data.pipeline.from_arrays(images, np.arange(4))
    image = keras.Input((2, 2, 1))
    student = keras.Model(image, keras.layers.Flatten()(image))
    same, sentence = exporting._calibrated(
        student, SimpleNamespace(validation=validation, info=SimpleNamespace(things="images"))
    )
    assert same is student
    assert sentence.startswith("Not calibrated: the 4 validation images")


@pytest.mark.parametrize("text", ["", '{"run": 3', "[]"])
def test_a_damaged_export_json_is_named(tmp_path, text):
    (tmp_path / "student_int8.tflite").touch()
    (tmp_path / "export.json").write_text(text)
    with pytest.raises(ValueError, match='export.json" is damaged'):
        run_of(tmp_path / "student_int8.tflite")


def test_export_settings():
    assert QUANTIZATIONS == tflite.QUANTIZATIONS
    assert ExportSettings().quantizations == QUANTIZATIONS
    assert ExportSettings(format="saved_model").quantizations == ()
    given = ExportSettings(quantization=("int8, float32", "int8"))
    assert given.quantizations == ("float32", "int8")
    assert ExportSettings.of(("saved_model",)).format == ("saved_model",)
    assert ExportSettings.of(("int8",), calibrate=True).calibrate
    assert ExportSettings.of(("int8",)) == ExportSettings(format="tflite", quantization="int8")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"format": "savedmodel"}, 'format: no "savedmodel". Did you mean "saved_model"'),
        ({"format": ""}, 'format: no "". There are: saved_model, tflite'),
        ({"quantization": "int8,int"}, 'quantization: no "int". Did you mean "int8"'),
        ({"format": "saved_model", "quantization": "int8"}, "Add tflite to format"),
        ({"calibration_images": 0}, "calibration_images is 0"),
        ({"keep": 0}, "keep is 0"),
    ],
)
def test_export_settings_that_cannot_be(values, message):
    with pytest.raises(SettingsError, match=message):
        ExportSettings(**values)
