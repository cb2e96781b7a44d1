"""Runs of recipes on few digits: rows, what is deployed, ablations that are added."""

import csv
import json

import keras
import numpy as np
import pytest
from small_runs import exact, staged

from tfkd import data, models, recipes
from tfkd.recipes import base
from tfkd.runs import DistillSettings, distill, evaluate_run, knowledge, run_recipe
from tfkd.runs.lessons import Prepared
from tfkd.runs.record import Record
from tfkd.runs.rows import distill_table, recipe_table
from tfkd.runs.training import BOTH, STUDENT, TEACHER, examples

SMALL = {
    "student": "small_runs:staged",
    "limit": 128,
    "epochs": 1,
    "seeds": 1,
    "seed": 3,
    "any_teacher": True,
    "augment": "none",
}


@pytest.fixture(scope="module")
def teacher_file(tmp_path_factory):
    """A classifier of pixels with the stages that hints and exits need."""
    keras.utils.set_random_seed(1)
    path = tmp_path_factory.mktemp("teacher") / "teacher.keras"
    models.build("streamlined_student", (8, 8, 1), 10, width=0.1).save(path)
    return str(path)


@pytest.fixture(scope="module")
def swept(teacher_file, tmp_path_factory):
    """(settings, directory, record) of a run without ablations."""
    settings = recipes.get("umirzakova2024").settings(
        teacher=teacher_file,
        sweep_temperatures=(2,),
        sweep_weights=(0.7,),  # the recipe's own: no training of its own
        **SMALL,
    )
    out = tmp_path_factory.mktemp("runs") / "swept"
    return settings, out, run_recipe("umirzakova2024", settings, out)


def test_a_run_leaves_what_it_promises(swept):
    settings, out, record = swept
    assert {path.name for path in out.iterdir()} == {
        *("run.toml", "run.json", "table.md", "figures.csv", "history.csv", "curves.png"),
        *("teacher.keras", "teacher.json", "student.keras", "seeds"),
        *("report.html", "report.json", "tensorboard"),
    }
    assert json.loads((out / "run.json").read_text()) == record
    assert type(settings).from_toml(out / "run.toml", trust=True) == settings
    rows = ["alone", "distilled", "umirzakova2024"]
    assert [row["name"] for row in record["rows"]] == rows
    alone, recipe = (record["figures"][row][0] for row in (rows[0], rows[2]))
    assert recipe["gain"] == recipe["accuracy"] - alone["accuracy"] and "gain" not in alone
    with open(out / "figures.csv", newline="") as file:
        lines = {line["row"]: line for line in csv.DictReader(file)}
    assert float(lines["umirzakova2024"]["accuracy"]) == recipe["accuracy"]
    table = (out / "table.md").read_text()
    assert "--teacher teacher.keras --student small_runs:staged" in table
    assert f"| umirzakova2024 | {100 * recipe['accuracy']:12.1f} |" in table
    starts = {record["trainings"][f"3/{row['file']}"]["student_start"] for row in record["rows"]}
    assert len(starts) == 1


def test_it_is_evaluated_like_any_run(swept):
    _, out, record = swept
    assert exact({**record, "figures": evaluate_run(out)}) == exact(record)


def test_a_resumed_run_adds_ablations_and_trains_nothing_twice(swept):
    settings, out, record = swept
    trained = {path: path.stat().st_mtime_ns for path in (out / "seeds/3").glob("*.json")}
    again = run_recipe("umirzakova2024", settings, out, ablate=True, resume=True)
    names = [row["name"] for row in again["rows"]]
    added = ["umirzakova2024: T = 2", "label smoothing"]
    assert names == [*(row["name"] for row in record["rows"]), *added]
    assert {row: exact(again)[0][row] for row in record["figures"]} == exact(record)[0]
    assert {path: path.stat().st_mtime_ns for path in trained} == trained
    assert "--ablate" in again["command"] and "T = 2" in (out / "table.md").read_text()


def test_exits_are_measured_one_by_one_and_in_votes(teacher_file, tmp_path):
    settings = recipes.get("xu2022").settings(
        teacher=teacher_file,
        student_options={},
        exits=("stage1_out",),
        exit_features=6,
        class_weight="balanced",
        **SMALL,
    )
    record = run_recipe("xu2022", settings, tmp_path / "run")
    rows = [f"xu2022: {name}" for name in ("soft vote", "hard vote", "exit_1", "output")]
    assert list(record["figures"]) == ["teacher", "alone", "distilled", *rows]
    sizes = [record["figures"][row][0]["parameters"] for row in rows]
    assert sizes[0] == sizes[1] > sizes[3] > sizes[2]
    assert record["study"]["deepest_accuracy"] == record["figures"][rows[-1]][0]["accuracy"]
    assert (tmp_path / "run" / "early_exit.png").exists()
    student = keras.models.load_model(tmp_path / "run/student.keras")
    images, labels = next(iter(data.load("digits", limit=128).test.batch(1000)))
    right = np.argmax(student(images), axis=1) == labels.numpy()
    assert right.mean() == record["figures"][rows[0]][0]["accuracy"]


def test_distill_by_a_recipe_keeps_what_one_would_deploy(teacher_file, tmp_path):
    settings = DistillSettings(
        teacher=teacher_file,
        recipe="ye2024",
        recipe_options={"branches": 1, "forks": ["stage1_out"]},
        **SMALL,
    )
    record = distill(settings, tmp_path / "run")
    student = keras.models.load_model(tmp_path / "run/student.keras")
    alone = staged((8, 8, 1), 10)
    assert [weight.path for weight in student.weights] == [w.path for w in alone.weights]
    trainings = record["trainings"]
    assert trainings["3/alone"]["student_start"] == trainings["3/distilled"]["student_start"]
    assert [row["knowledge"] for row in record["rows"]] == ["labels", "labels"]  # no teacher needed


def test_li2024_s_rows_see_one_set_of_images_and_each_share_is_a_lesson(tmp_path):
    recipe, net = recipes.get("li2024"), "small_runs:net"
    budget = {**SMALL, "teacher": net, "student": net, "train_teacher": True, "limit": 40}
    settings = recipe.settings(**budget | {"augment": "crop_flip", "batch_size": 40})
    prepared = Prepared(recipe_table(recipe, settings, ablate=True))
    rows = [[row.name for row in lesson.rows] for lesson in prepared.lessons]
    own = ["alone", "distilled", "li2024", "li2024: without confidence"]
    shares = [[f"li2024: {share} % augmented"] for share in (0, 25, 75, 100)]
    assert rows == [[*own, "label smoothing"], *shares, ["li2024: augmented teacher"]]
    assert len(prepared.teachers) == 2
    lesson = prepared.lessons[0]
    assert lesson.needs == {
        **dict.fromkeys((own[1], own[3]), {"output": [10]}),
        "li2024": {"output": [10], "partner": [10]},
    }
    lesson.plans = knowledge.plan(lesson, (1e9, "room"))
    assert [own.source for own in lesson.plans] == ["two views", ""]
    student = staged((8, 8, 1), 10)
    system = recipe.build(settings, lesson.teacher.model, student)
    asking = system.distiller(system.source)
    store = knowledge.build(lesson.plans[0], tmp_path, asking, lesson, settings)
    stored, live, both = (
        next(iter(examples(lesson.train, settings, 3, 1, known, role)))
        for known, role in ((store, BOTH), (None, STUDENT), (None, BOTH))
    )
    np.testing.assert_array_equal(stored[0], live[0])
    np.testing.assert_array_equal(both[0]["student"], live[0])
    taught = lesson.teacher.model(live[0])
    np.testing.assert_allclose(stored[3]["output"], taught, rtol=1e-4, atol=1e-2)
    for one, name in ((settings, "crop_flip"), (settings.replace(augmented_teacher=True), "jda")):
        seen = next(iter(examples(lesson.train, one, 3, 1, role=TEACHER)))[0]
        plain = DistillSettings(augment=name, batch_size=40, seed=3)
        np.testing.assert_array_equal(seen, next(iter(examples(lesson.train, plain, 3, 1)))[0])


def test_a_teacher_that_learns_is_asked_live_and_leaves_the_shared_one_alone(
    teacher_file, tmp_path
):
    settings = DistillSettings(
        teacher=teacher_file,
        recipe="tu2022",
        recipe_options={"teacher_learning_rate": 0.1},
        **SMALL,
    )
    record = distill(settings, tmp_path / "run")
    assert [row["knowledge"] for row in record["rows"]] == ["labels", "live"]
    kept, given = (
        keras.models.load_model(f) for f in (tmp_path / "run/teacher.keras", teacher_file)
    )
    for own, other in zip(kept.get_weights(), given.get_weights(), strict=True):
        np.testing.assert_array_equal(own, other)
    with open(tmp_path / "run/history.csv", newline="") as file:
        lines = {line["row"]: line for line in csv.DictReader(file)}
    assert float(lines["distilled"]["teacher_drift"]) > 0 and not lines["alone"]["teacher_drift"]


def test_gain_and_recovery_are_told_of_every_distilled_row(small, finished, tmp_path):
    out, _ = finished
    record = Record.read(out / "run.json")
    rows = [row._replace(fraction=0.25) for row in distill_table(small).rows]
    seen = base.Finished(rows, record, [], tmp_path, None)
    figures, (table,) = recipes.get("belinga2024").study(seen)
    (own,) = figures.values()
    lines = ("teacher", "alone", "distilled")
    teacher, alone, distilled = (record.figures[line][0]["accuracy"] for line in lines)
    assert [own[line] for line in lines] == [teacher, alone, distilled]
    assert own["images"] == 50 and own["gain"] == distilled - alone
    assert own.get("recovery") == (
        (distilled - alone) / (teacher - alone) if teacher > alone else None
    )
    assert f"| distilled | 50 | {100 * teacher:.1f} | {100 * alone:.1f} |" in table
    assert (tmp_path / "gains.png").read_bytes().startswith(b"\x89PNG")


def test_a_fraction_without_a_class_is_refused_before_training(teacher_file, tmp_path):
    recipe = recipes.get("belinga2024")
    settings = recipe.settings(data="digits", fraction=(0.03,), teacher=teacher_file, **SMALL)
    with pytest.raises(ValueError, match=r'3 % of the training images .* 4, .* classes "\d", "'):
        run_recipe("belinga2024", settings, tmp_path / "lost")
    assert not (tmp_path / "lost").exists()


def test_a_student_without_stages_is_refused_before_anything_is_written(teacher_file, tmp_path):
    given = {"teacher": teacher_file, "student_options": {}, **SMALL}
    settings = recipes.get("xu2022").settings(exits=("stage7_out",), **given)
    with pytest.raises(ValueError, match="stage7_out"):
        run_recipe("xu2022", settings, tmp_path / "run")
    assert not (tmp_path / "run").exists()
