"""Whole runs on few digits: what they leave, that they repeat, that they survive being killed."""

import csv
import json
import signal
import subprocess
import sys
import time
from dataclasses import replace

import keras
import numpy as np
import pytest

from tfkd.runs import DistillSettings, distill, evaluate_run

TRAINED = ("accuracy", "cross_entropy", "calibration_error", "agreement")  # unlike latency


def figures(record):
    return {
        row: [{name: own[name] for name in TRAINED if name in own} for own in rows]
        for row, rows in record["figures"].items()
    }


def test_a_run_directory_holds_what_it_promises(finished, small):
    out, record = finished
    names = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}
    assert names == {
        *("run.toml", "run.json", "history.csv", "curves.png"),
        *("teacher.keras", "student.keras", "student_alone.keras"),
        *("seeds/3/alone.keras", "seeds/3/distilled.keras"),
    }
    assert DistillSettings.from_toml(out / "run.toml") == small
    assert json.loads((out / "run.json").read_text()) == record
    assert record["data"]["sizes"] == {"train": 200, "validation": 144, "test": 359}
    student = keras.models.load_model(out / "student.keras")
    assert getattr(student, "optimizer", None) is None
    assert student.count_params() == record["figures"]["student distilled"][0]["parameters"]


def test_the_kept_epoch_is_the_best_on_validation(finished):
    out, record = finished
    with open(out / "history.csv", newline="") as file:
        lines = list(csv.DictReader(file))
    assert [(line["model"], line["seed"], line["epoch"]) for line in lines] == [
        (model, "3", epoch)
        for model in ("teacher", "student alone", "student distilled")
        for epoch in ("1", "2")
    ]
    parts = {
        "teacher": "teacher",
        "student alone": "seed3-alone",
        "student distilled": "seed3-distilled",
    }
    for model, part in parts.items():
        own = [line for line in lines if line["model"] == model]
        scores = [(float(x["val_accuracy"]), -float(x["val_cross_entropy"])) for x in own]
        best = scores.index(max(scores))
        assert [line["kept"] for line in own] == ["1" if i == best else "0" for i in range(2)]
        assert record["trainings"][part]["epoch"] == best + 1
        assert record["trainings"][part]["accuracy"] == scores[best][0]


def test_evaluating_gives_the_figures_of_the_run(finished, capsys):
    out, record = finished
    rows = evaluate_run(out)
    assert figures({"figures": rows}) == figures(record)
    printed = capsys.readouterr().out
    accuracy = 100 * record["figures"]["student distilled"][0]["accuracy"]
    assert f"{accuracy:.1f}" in printed and "Distilled minus alone" in printed


def test_killed_after_the_teacher_and_resumed_from_run_toml(finished, tmp_path):
    """Another process begins the run from run.toml, is killed; this one ends it: same figures."""
    done, record = finished
    out = tmp_path / "killed"
    command = [sys.executable, "-m", "tfkd", "distill", "--config", done / "run.toml", "--out", out]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not (out / ".work/teacher.json").exists() and time.monotonic() < deadline:
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (out / "run.json").exists()
    settings = DistillSettings.from_toml(done / "run.toml")
    with pytest.raises(FileExistsError, match="not finished"):
        distill(settings, out)
    with pytest.raises(ValueError, match="epochs: 2, not 5"):
        distill(replace(settings, epochs=5), out, resume=True)
    resumed = distill(settings, out, resume=True)
    assert figures(resumed) == figures(record)
    assert (out / "history.csv").read_bytes() == (done / "history.csv").read_bytes()
    assert not (out / ".work").exists()
    before = (out / "run.json").read_bytes()
    assert distill(settings, out, resume=True) == json.loads(before)
    assert (out / "run.json").read_bytes() == before


def test_alone_and_distilled_differ_in_the_loss_only(finished, small, tmp_path):
    """With all weight on the labels distilling is training alone: same start, order, budget."""
    settings = replace(
        small,
        teacher=str(finished[0] / "teacher.keras"),
        teacher_options={},
        student_loss_weight=1.0,
        hints="none",
    )
    record = distill(settings, tmp_path / "run")
    alone, distilled = (
        keras.models.load_model(tmp_path / "run" / name)
        for name in ("student_alone.keras", "student.keras")
    )
    for own, taught in zip(alone.get_weights(), distilled.get_weights(), strict=True):
        np.testing.assert_array_equal(own, taught)
    assert record["distilled_minus_alone"]["accuracy"] == [0.0]
    # A teacher from a file scores what it scored where it was trained.
    assert figures(record)["teacher"] == figures(finished[1])["teacher"]
    assert record["inputs"]["teacher"].startswith("sha256:")


def teacher_file(path, classes=10, side=8, bias="zeros"):
    image = keras.Input((side, side, 1))
    flat = keras.layers.Flatten()(image)
    logits = keras.layers.Dense(classes, bias_initializer=bias)(flat)
    keras.Model(image, logits).save(path)
    return str(path)


@pytest.mark.parametrize(
    ("case", "message"),
    [
        ("missing", "No teacher file"),
        ("truncated", "not a whole .keras file"),
        ("foreign", "it lacks"),
        ("damaged", "cannot be loaded as a Keras model"),
        ("classes", 'knows 7 classes, but "digits" has 10'),
        ("size", r"takes inputs of shape \(16, 16, 1\).* Set image_size to 16"),
        ("not finite", "not finite"),
    ],
)
def test_an_unfit_teacher_file_is_refused_before_anything_is_written(tmp_path, case, message):
    path = tmp_path / "teacher.keras"
    settings = {"classes": {"classes": 7}, "size": {"side": 16}}
    settings["not finite"] = {"bias": keras.initializers.Constant(float("nan"))}
    if case != "missing":
        teacher_file(path, **settings.get(case, {}))
    if case == "truncated":
        path.write_bytes(path.read_bytes()[:-200])
    if case == "foreign":
        path.unlink()
        np.savez(path.with_suffix(""), weights=np.zeros(3))
        path.with_suffix(".npz").rename(path)
    if case == "damaged":
        whole = path.read_bytes()
        path.write_bytes(whole.replace(b'"Dense"', b'"Dunce"'))
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        distill(DistillSettings(teacher=str(path)), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"data": "digitz"}, "digitz"),
        ({"data_dir": "/no/such/place"}, "No directory"),
        ({"student_options": {"widht": 1}}, "student: .*Did you mean 'width'"),
        ({"student_options": {"width": -1}}, "student: width is -1"),
        ({"teacher_options": {"depth": 9}}, "teacher: depth is 9"),
        ({"hints": ("stage3_uot:stage4_out",)}, 'Did you mean "stage3_out"'),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_written(tmp_path, values, message):
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        distill(DistillSettings(**values), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_other_data_than_the_run_s_is_not_evaluated(finished, tmp_path):
    out, record = finished
    changed = {**record, "data": {**record["data"], "fingerprint": "sha256:0"}}
    (tmp_path / "run.json").write_text(json.dumps(changed))
    (tmp_path / "run.toml").write_bytes((out / "run.toml").read_bytes())
    with pytest.raises(ValueError, match="no longer what the run .* not sha256:0"):
        evaluate_run(tmp_path)
