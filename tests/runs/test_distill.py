"""Whole runs on few digits: what they leave, that they repeat, what is refused at once."""

import csv
import json

import keras
import numpy as np
import pytest
from small_runs import exact, staged

from tfkd import data
from tfkd.fingerprints import of_weights
from tfkd.runs import DistillSettings, distill, evaluate_run
from tfkd.runs.models import load_model


def test_a_run_directory_holds_what_it_promises(finished, small):
    out, record = finished
    names = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}
    logs = {name.rpartition("/")[0] for name in names if name.startswith("tensorboard/")}
    assert logs == {"tensorboard/teacher", "tensorboard/3/alone", "tensorboard/3/distilled"}
    assert {name for name in names if not name.startswith("tensorboard/")} == {
        *("run.toml", "run.json", "history.csv", "figures.csv", "table.md", "curves.png"),
        *("teacher.keras", "teacher.json", "student.keras", "seeds/begun.json"),
        *("report.html", "report.json"),
        *("seeds/3/alone.keras", "seeds/3/alone.json"),
        *("seeds/3/distilled.keras", "seeds/3/distilled.json"),
    }
    assert DistillSettings.from_toml(out / "run.toml", trust=True) == small
    assert json.loads((out / "run.json").read_text()) == record
    assert record["data"][0]["sizes"] == {"train": 200, "validation": 144, "test": 359}
    student = keras.models.load_model(out / "student.keras")
    assert getattr(student, "optimizer", None) is None
    assert student.count_params() == record["figures"]["distilled"][0]["parameters"]
    assert (out / "student.keras").read_bytes() == (out / "seeds/3/distilled.keras").read_bytes()


def test_the_pair_starts_from_the_same_weights_and_the_record_says_so(finished, small):
    trainings = finished[1]["trainings"]
    alone, distilled = trainings["3/alone"], trainings["3/distilled"]
    assert alone["student_start"] == distilled["student_start"] == alone["start"]
    assert distilled["start"] == alone["start"]  # without hints there is no adapter
    keras.utils.set_random_seed(3)
    student = staged((8, 8, 1), 10, **small.student_options)
    assert of_weights(student) == alone["student_start"]


def test_the_kept_epoch_is_the_best_on_validation(finished):
    out, record = finished
    with open(out / "history.csv", newline="") as file:
        lines = list(csv.DictReader(file))
    assert [(line["row"], line["seed"], line["epoch"]) for line in lines] == [
        *(("teacher", "3", epoch) for epoch in "12"),
        *(("alone", "3", epoch) for epoch in "123"),
        *(("distilled", "3", epoch) for epoch in "123"),
    ]
    for row, part in {"teacher": "teacher", "alone": "3/alone", "distilled": "3/distilled"}.items():
        own = [line for line in lines if line["row"] == row]
        scores = [(float(x["val_accuracy"]), -float(x["val_cross_entropy"])) for x in own]
        best = scores.index(max(scores))
        assert [line["kept"] for line in own] == [str(int(i == best)) for i in range(len(own))]
        assert record["trainings"][part]["epoch"] == best + 1
        assert record["trainings"][part]["figures"]["accuracy"] == scores[best][0]


def test_evaluating_gives_the_figures_of_the_run(finished, capsys):
    out, record = finished
    figures = evaluate_run(out)
    assert exact({**record, "figures": figures}) == exact(record)
    printed = capsys.readouterr().out
    accuracy = 100 * record["figures"]["distilled"][0]["accuracy"]
    assert f"{accuracy:.1f}" in printed and "distilled minus alone" in printed


def test_the_accuracy_is_that_of_the_file(finished):
    out, record = finished
    student = keras.models.load_model(out / "student.keras")
    images, labels = next(iter(data.load("digits", limit=200).test.batch(1000)))
    right = np.argmax(student(images), axis=1) == labels.numpy()
    assert right.mean() == record["figures"]["distilled"][0]["accuracy"]


def test_run_toml_reruns_to_the_same_figures(finished, tmp_path):
    """In a process where other models were built before: nothing depends on that."""
    keras.utils.set_random_seed(99)
    keras.Sequential([keras.Input((3,)), keras.layers.Dense(4), keras.layers.Dropout(0.5)])
    settings = DistillSettings.from_toml(finished[0] / "run.toml", trust=True)
    again = distill(settings, tmp_path / "again")
    assert exact(again) == exact(finished[1])
    again, first = (path / "history.csv" for path in (tmp_path / "again", finished[0]))
    assert again.read_bytes() == first.read_bytes()


def test_with_all_weight_on_the_labels_distilling_is_training_alone(finished, small, tmp_path):
    """Same start, order, images, budget. The teacher, from a file, scores what it scored there."""
    settings = small.replace(
        teacher=str(finished[0] / "teacher.keras"),
        teacher_options={},
        train_teacher=False,
        any_teacher=True,
        student_loss_weight=1.0,
        hints="none",
    )
    record = distill(settings, tmp_path / "run")
    alone, distilled = (
        load_model(tmp_path / f"run/seeds/3/{row}.keras") for row in ("alone", "distilled")
    )
    for own, other in zip(alone.get_weights(), distilled.get_weights(), strict=True):
        np.testing.assert_array_equal(own, other)
    assert record["gains"]["distilled"]["accuracy"] == [0.0]
    assert exact(record)[0]["teacher"] == exact(finished[1])[0]["teacher"]
    assert exact(record)[0]["alone"] == exact(finished[1])[0]["alone"]
    assert record["teachers"][0]["name"] == "teacher.keras"
    assert record["teachers"][0]["fingerprint"].startswith("sha256:")
    assert str(finished[0]) not in (tmp_path / "run/run.json").read_text()


def teacher_file(path, classes=10, side=8, bias="zeros"):
    image = keras.Input((side, side, 1))
    flat = keras.layers.Flatten()(image)
    logits = keras.layers.Dense(classes, bias_initializer=bias)(flat)
    keras.Model(image, logits).save(path)
    return str(path)


@pytest.mark.parametrize("role", ["teacher", "student"])
@pytest.mark.parametrize(
    ("case", "message"),
    [
        ("missing", "No {role} file"),
        ("truncated", "not a whole .keras file"),
        ("foreign", "it lacks"),
        ("damaged", "cannot be loaded as a Keras model"),
        ("classes", 'knows 7 classes, but "digits" has 10'),
        ("size", r"takes inputs of shape \(16, 16, 1\).* Set image_size to 16"),
        ("not finite", "not finite"),
    ],
)
def test_an_unfit_model_file_is_refused_before_anything_is_written(tmp_path, role, case, message):
    if (role, case) == ("student", "not finite"):
        return  # what it becomes in training is looked at there
    path = tmp_path / "model.keras"
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
    with pytest.raises((ValueError, FileNotFoundError), match=message.format(role=role)):
        distill(DistillSettings(**{role: str(path)}), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"data": "digitz"}, "digitz"),
        ({"data_dir": "/no/such/place"}, "No directory"),
        ({"student_options": {"widht": 1}}, 'student: .*Did you mean "width"'),
        ({"student_options": {"width": -1}}, "student: width is -1"),
        ({"teacher_options": {"depth": 9}}, "teacher: depth is 9"),
        ({"hints": ("stage3_uot:stage4_out",)}, 'Did you mean "stage3_out"'),
        ({"recipe": "xu"}, 'Did you mean "xu2022"'),
        ({"recipe": "xu2022", "recipe_options": {"temperatur": 3}}, 'Did you mean "temperature'),
        ({"recipe": "xu2022", "recipe_options": {"epochs": 3}}, "the run itself has"),
        ({"recipe": "xu2022", "recipe_options": {"exits": ["stage9"]}}, "stage9"),
        ({"student": "no_such.module:net"}, 'student: cannot import "no_such.module".*Tried'),
        ({"student": "json:dmups"}, 'Did you mean "json:dumps"'),
        ({"student": "json:decoder"}, "expected a function"),
        ({"student": "math:hypot"}, r"student: math:hypot\(\(8, 8, 1\), 10, ...\) failed"),
        ({"student": "builtins:print"}, "returned a NoneType; expected a keras.Model"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_written(tmp_path, values, message):
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        distill(DistillSettings(**values), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_models_and_callbacks_of_ones_own(tmp_path, monkeypatch):
    """A student that ends in a softmax, a teacher that is trained, a callback: all from a module
    in the working directory; label smoothing, class weights and another optimizer with them."""
    (tmp_path / "own_models.py").write_text(
        "import keras\n"
        "seen = []\n"
        "def net(shape, classes, units=4):\n"
        "    image = keras.Input(shape)\n"
        "    x = keras.layers.Dense(units)(keras.layers.Flatten()(image))\n"
        "    return keras.Model(image, keras.layers.Dense(classes, activation='softmax')(x))\n"
        "class Watch(keras.callbacks.Callback):\n"
        "    def on_epoch_end(self, epoch, logs=None):\n"
        "        seen.append(logs['val_accuracy'])\n"
    )
    monkeypatch.chdir(tmp_path)
    settings = DistillSettings(
        teacher="own_models:net",
        teacher_options={"units": 16},
        train_teacher=True,
        student="own_models:net",
        callback="own_models:Watch",
        optimizer="sgd",
        weight_decay=0.001,
        label_smoothing=0.1,
        class_weight="balanced",
        augment="none",
        limit=200,
        epochs=2,
        teacher_epochs=2,
        seeds=1,
    )
    record = distill(settings, tmp_path / "run")
    import own_models

    histories = (tmp_path / "run/history.csv").read_text()
    assert len(own_models.seen) == 4  # two students, two epochs; not the teacher
    assert all(str(value) in histories for value in own_models.seen)
    assert record["knowledge"][0]["views"] == 1
    assert record["knowledge"][0]["why"] == "images are not augmented"
    assert record["figures"]["distilled"][0]["parameters"] == 64 * 4 + 4 + 4 * 10 + 10


def test_other_data_than_the_run_s_is_not_evaluated(finished, tmp_path):
    out, record = finished
    changed = json.loads(json.dumps(record))
    changed["data"][0]["fingerprint"] = "sha256:0"
    (tmp_path / "run.json").write_text(json.dumps(changed))
    (tmp_path / "run.toml").write_bytes((out / "run.toml").read_bytes())
    with pytest.raises(ValueError, match="no longer what the run .* not sha256:0"):
        evaluate_run(tmp_path)
