"""Whole runs of recipes on few digits: one budget, what they leave, that they can be resumed."""

import csv
import json
from dataclasses import replace

import keras
import numpy as np
import pytest

from tfkd import data, models, recipes
from tfkd.recipes import base, running
from tfkd.runs import DistillSettings, distillation, evaluate_run, preparation

SMALL = {"limit": 128, "epochs": 2, "seeds": 1, "seed": 3, "learning_rate": 0.01}


@pytest.fixture(scope="module")
def teacher_file(tmp_path_factory):
    keras.utils.set_random_seed(1)
    path = tmp_path_factory.mktemp("teacher") / "teacher.keras"
    teacher = models.build("streamlined_student", (8, 8, 1), 10, width=0.1)
    teacher.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    train = data.batches(data.load("digits", limit=400).train, 64, shuffle=True)
    teacher.fit(train, epochs=2, verbose=0)
    teacher.save(path)
    return str(path)


@pytest.fixture(scope="module")
def finished(teacher_file, tmp_path_factory):
    """(settings, directory, record) of a run without ablations."""
    settings = recipes.get("umirzakova2024").settings(
        teacher=teacher_file,
        student_options={"width": 0.05},
        sweep_temperatures=(2,),
        sweep_weights=(0.7,),  # the recipe's own: no training of its own
        **SMALL,
    )
    out = tmp_path_factory.mktemp("runs") / "finished"
    return settings, out, recipes.run("umirzakova2024", settings, out)


def test_a_run_leaves_what_it_promises(finished):
    settings, out, record = finished
    names = {path.relative_to(out).as_posix() for path in out.iterdir()}
    assert names == {
        *("run.toml", "run.json", "table.md", "figures.csv", "history.csv", "curves.png"),
        "trainings",
    }
    assert json.loads((out / "run.json").read_text()) == record
    assert recipes.get("umirzakova2024").settings.from_toml(out / "run.toml") == settings
    assert record["rows"] == ["student alone", "logit distillation", "umirzakova2024"]
    alone, recipe = (record["figures"][row][0] for row in ("student alone", "umirzakova2024"))
    assert recipe["gain"] == recipe["accuracy"] - alone["accuracy"] and "gain" not in alone
    assert recipe["parameters"] == alone["parameters"]
    with open(out / "figures.csv", newline="") as file:
        lines = {line["row"]: line for line in csv.DictReader(file)}
    assert float(lines["umirzakova2024"]["accuracy"]) == recipe["accuracy"]
    table = (out / "table.md").read_text()
    assert "--teacher teacher.keras --student-option width=0.05" in table
    assert f"| umirzakova2024     | {100 * recipe['accuracy']:12.1f} |" in table


def test_it_is_no_run_of_distill(finished):
    with pytest.raises(ValueError, match="a run of the recipe umirzakova2024"):
        evaluate_run(finished[1])


def test_what_is_deployed_gives_the_figures(finished):
    _, out, record = finished
    student = keras.models.load_model(out / "trainings" / "seed3-umirzakova2024.keras")
    assert getattr(student, "optimizer", None) is None
    images, labels = next(iter(data.load("digits", limit=128).test.batch(1000)))
    right = np.argmax(student(images), axis=1) == labels.numpy()
    assert right.mean() == record["figures"]["umirzakova2024"][0]["accuracy"]


def test_a_resumed_run_adds_ablations_and_trains_nothing_twice(finished):
    settings, out, record = finished
    trained = {path: path.stat().st_mtime_ns for path in (out / "trainings").glob("*.json")}
    (out / "run.json").unlink()  # as if it had been killed in the report
    with pytest.raises(FileExistsError, match="not finished"):
        recipes.run("umirzakova2024", settings, out)
    with pytest.raises(ValueError, match="other settings: temperature"):
        recipes.run("umirzakova2024", replace(settings, temperature=3.0), out, resume=True)
    again = recipes.run("umirzakova2024", settings, out, ablate=True, resume=True)
    assert again["rows"] == [*record["rows"], "umirzakova2024: T = 2"]
    assert {row: again["figures"][row] for row in record["figures"]} == record["figures"]
    assert {path: path.stat().st_mtime_ns for path in trained} == trained
    assert "--ablate" in again["command"] and "T = 2" in (out / "table.md").read_text()


def test_stored_logits_train_what_a_live_teacher_trains(finished, tmp_path, monkeypatch):
    settings, out, _ = finished
    recipe = recipes.get("umirzakova2024")
    rows = running.rows_of(recipe, settings, ablate=False)
    monkeypatch.setattr(base.System, "taught_by_logits_only", False)
    live = running.Trainings(tmp_path / "live", recipe, settings, rows)
    live.part("teacher", live._train_teacher)
    _, student = live._train(rows[2], 3)
    stored = keras.models.load_model(out / "trainings" / "seed3-umirzakova2024.keras")
    for own, other in zip(student.get_weights(), stored.get_weights(), strict=True):
        np.testing.assert_allclose(own, other, atol=2e-4)


def test_exits_are_measured_one_by_one_and_in_votes(teacher_file, tmp_path):
    settings = recipes.get("xu2022").settings(
        teacher=teacher_file,
        student="streamlined_student",
        student_options={"width": 0.05},
        exits=("stage1_out",),
        exit_features=6,
        **(SMALL | {"epochs": 1}),
    )
    record = recipes.run("xu2022", settings, tmp_path / "run")
    rows = [f"xu2022: {name}" for name in ("soft vote", "hard vote", "exit_1", "output")]
    assert list(record["figures"]) == ["teacher", "student alone", "logit distillation", *rows]
    sizes = [record["figures"][row][0]["parameters"] for row in rows]
    assert sizes[0] == sizes[1] > sizes[3] > sizes[2]
    assert record["study"]["deepest_accuracy"] == record["figures"][rows[-1]][0]["accuracy"]
    assert (tmp_path / "run" / "early_exit.png").exists()


def test_distill_by_a_recipe_keeps_what_one_would_deploy(teacher_file, tmp_path):
    settings = DistillSettings(
        teacher=teacher_file,
        student_options={"width": 0.05},
        recipe="ye2024",
        recipe_options={"branches": 1, "forks": ["stage2_out"]},
        **SMALL,
    )
    work = distillation.Work(tmp_path / "work", settings, preparation.prepare(settings))
    work.part("teacher", work.train_teacher)
    outcome, student = work.train_student(3, "distilled")
    assert outcome.epoch in (1, 2) and "output_accuracy" in outcome.history
    alone = models.build("modified_alexnet", (8, 8, 1), 10, width=0.05)
    assert [weight.path for weight in student.weights] == [w.path for w in alone.weights]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"recipe": "xu"}, 'Did you mean "xu2022"'),
        ({"recipe": "xu2022", "recipe_options": {"temperatur": 3}}, "Did you mean temperature"),
        ({"recipe": "xu2022", "recipe_options": {"epochs": 3}}, "the run itself has"),
        ({"recipe": "xu2022", "temperature": 3.0}, "temperature would change nothing"),
        ({"recipe_options": {"temperature": 3.0}}, "no recipe is given"),
    ],
)
def test_unfit_recipes_of_distill_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        DistillSettings(**values)


def test_a_student_without_stages_is_refused_before_anything_is_written(teacher_file, tmp_path):
    settings = recipes.get("xu2022").settings(teacher=teacher_file, exits=("stage7_out",), **SMALL)
    with pytest.raises(ValueError, match="stage7_out"):
        recipes.run("xu2022", settings, tmp_path / "run")
    assert not (tmp_path / "run").exists()
