"""Several teachers at once, and one after the other: a chain of generations, and of assistants."""

import json
from pathlib import Path

import keras
import numpy as np
import pytest
from page_reader import Page
from small_runs import exact, net

from tfkd import data
from tfkd.runs import ChainSettings, DistillSettings, SettingsError, chain
from tfkd.runs.rows import Row, chain_table
from tfkd.runs.teachers import StudentAsTeacher
from tfkd.settings import training
from tfkd.teachers import weighing

SETTINGS = {
    "teacher_weights": "3,1",
    "student": "small_runs:net",
    "any_teacher": True,
    "generations": 2,
    "limit": 96,
    "epochs": 1,
    "seeds": 1,
    "seed": 3,
    "augment": "none",
}


@pytest.fixture(scope="module")
def teachers(tmp_path_factory):
    """Settings with two teachers' files."""
    keras.utils.set_random_seed(0)
    folder = tmp_path_factory.mktemp("teachers")
    for name, units in (("wide", 16), ("narrow", 8)):
        net((8, 8, 1), 10, units).save(folder / f"{name}.keras")
    cache = str(tmp_path_factory.mktemp("cache"))
    files = (str(folder / "wide.keras"), str(folder / "narrow.keras"))
    return {**SETTINGS, "teacher": files, "cache": cache}


@pytest.fixture(scope="module")
def generations(teachers, tmp_path_factory):
    """(directory, record) of two generations, the first taught by two teachers."""
    out = tmp_path_factory.mktemp("run") / "run"
    return out, chain(ChainSettings(**teachers), out)


def test_the_page_compares_the_last_generation_with_the_one_that_taught_it(generations):
    out, record = generations
    kept = json.loads((out / "report.json").read_text())
    assert (kept["row"], kept["teacher"]["part"]) == ("generation 2", "3/generation-1")
    for role, row in (("teacher", "generation 1"), ("student", "generation 2")):
        right = record["figures"][row][0]["accuracy"] * sum(kept["images"])
        assert sum(kept[role]["right"]) == pytest.approx(right)
    page = Page((out / "report.html").read_text("utf-8")).check()
    assert "tfkd chain --config run.toml --trust --out again" in page.text
    assert len(page.table("generation 1: rows are classes")) == 11


def softmax(values):
    powers = np.exp(values - values.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def probabilities(path, images):
    return softmax(keras.models.load_model(path)(images).numpy().astype("float64"))


@pytest.fixture(scope="module")
def test_images():
    splits = data.load("digits", seed=0, limit=96)
    return next(iter(data.batches(splits.test, 10_000)))


def test_the_record_names_every_link(generations):
    out, record = generations
    rows = {row["name"]: row for row in record["rows"]}
    assert list(rows) == ["alone", "generation 1", "generation 2", "generations together"]
    names = ["wide.keras", "narrow.keras", "wide + narrow (3,1)"]
    assert [own["name"] for own in record["teachers"]] == names
    assert [own["members"] for own in record["teachers"]] == [[], [], [0, 1]]
    assert rows["generation 1"]["teacher"] == 2 and "taught_by" not in rows["generation 1"]
    assert rows["generation 2"]["taught_by"] == "generation 1"
    assert "teacher" not in rows["generation 2"]
    assert rows["generations together"]["members"] == ["generation 1", "generation 2"]
    assert (record["kind"], record["main"]) == ("chain", "generation 2")
    assert list(record["figures"])[:3] == [f"teacher {name}" for name in names]
    said = [own["tensors"] for own in record["knowledge"]]
    assert said == [{"output": [2, 10], "output weights": [2]}, {"output": [10]}]


def test_figures_are_those_of_the_models(generations, test_images):
    """Of several together the mean of the probabilities, by the numbers that were given."""
    out, record = generations
    images, labels = (part.numpy() for part in test_images)
    first, second = (probabilities(out / f"teacher{n}.keras", images) for n in ("", "2"))
    mean = (3 * first + second) / 4
    np.testing.assert_allclose(
        probabilities(out / "teacher3.keras", images), mean, rtol=1e-4, atol=1e-6
    )
    (teachers,) = record["figures"]["teacher wide + narrow (3,1)"]
    assert teachers["accuracy"] == pytest.approx((mean.argmax(1) == labels).mean())
    one, two = (probabilities(out / f"seeds/3/generation-{n}.keras", images) for n in (1, 2))
    figures = {name: own for name, (own,) in record["figures"].items()}
    agreed = (one.argmax(1) == two.argmax(1)).mean()  # the first generation taught the second
    assert figures["generation 2"]["agreement"] == pytest.approx(agreed)
    agreed = (mean.argmax(1) == one.argmax(1)).mean()
    assert figures["generation 1"]["agreement"] == pytest.approx(agreed)
    right = ((one + two).argmax(1) == labels).mean()
    assert figures["generations together"]["accuracy"] == pytest.approx(right)


def test_every_teacher_has_a_store_of_its_own(generations, teachers):
    """A student that teaches has one for each seed."""
    paths = sorted(Path(teachers["cache"]).glob("*/manifest.json"))
    manifests = [json.loads(path.read_text()) for path in paths]
    shapes = [own["knowledge"]["output"]["shape"] for own in manifests]
    assert sorted(shapes) == [[2, 10], [10]]
    assert len({own["teacher"] for own in manifests}) == 2
    row, info = Row("generation 1", ChainSettings(**teachers)), data.load("digits", limit=96).info
    student = StudentAsTeacher(row, info)
    assert [student.part_of(seed) for seed in (3, 4)] == ["3/generation-1", "4/generation-1"]
    assert student.of_each_seed


def test_a_link_that_is_lost_is_trained_again_to_the_same_figures(generations, teachers):
    out, record = generations
    for path in out.glob("seeds/3/generation-2.*"):
        path.unlink()
    again = chain(ChainSettings(**teachers), out, resume=True)
    assert exact(again) == exact(record)


def test_assistants_are_taught_in_turn():
    settings = ChainSettings(
        teacher="resnet",
        student_options={"width": 0.1},
        assistant=("resnet depth=8", "alexnet width=0.5"),
    )
    table = chain_table(settings)
    names = ["alone", "distilled", "assistant resnet depth=8", "assistant alexnet width=0.5"]
    assert [row.name for row in table.rows] == [*names, "through assistants"]
    assert [row.taught_by for row in table.rows] == [None, None, None, *names[2:]]
    assert table.rows[3].settings.student == "alexnet"
    assert table.rows[3].settings.student_options == {"width": 0.5}
    assert table.rows[4].settings.student_options == {"width": 0.1}
    assert table.main == "through assistants"
    assert [row.baseline for row in table.rows] == [None, "alone", None, None, "alone"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "no link between teacher and student.*--assistant"),
        ({"generations": 0}, "generations is 0.*two or more"),
        ({"generations": 1}, "generations is 1.*the distilled student itself"),
        ({"generations": 2, "assistant": "alexnet"}, "give one of them"),
        ({"assistant": "alexnt width=1"}, "assistant: Unknown model 'alexnt'.*alexnet"),
        ({"assistant": ("alexnet", "alexnet")}, "alexnet twice"),
        ({"generations": 2, "recipe": "xu2022"}, "Leave recipe out"),
    ],
)
def test_chains_that_cannot_be(settings, message):
    with pytest.raises(SettingsError, match=message):
        ChainSettings(**settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"teacher": ()}, "expected the name of a model, or several"),
        ({"teacher": ("resnet", "")}, "expected the name of a model, or several"),
        ({"teacher": ("resnet", "vti")}, "Unknown model 'vti'. Did you mean .vit."),
        ({"teacher_weights": "1"}, "'1' for 2 teachers; expected 2 numbers"),
        ({"teacher_weights": "1,-1"}, "at least 0, not all 0"),
        ({"teacher_weights": "0,0"}, "at least 0, not all 0"),
        ({"teacher_weights": "confident"}, "expected confidence, entropy, correct, or a number"),
        ({"teacher": "resnet", "teacher_weights": "entropy"}, "but there is one teacher"),
        ({"teacher_options": {"depth": 8}}, 'behind the name, "resnet depth=8"'),
        ({"hints": "auto"}, "Name the layers, each behind its teacher"),
        ({"loss": ("dkd", "at")}, "loss names at, which read the layers of one teacher"),
    ],
)
def test_several_teachers_that_cannot_be(settings, message):
    with pytest.raises(SettingsError, match=message):
        DistillSettings(**{"teacher": ("resnet", "vit"), **settings})


def test_teachers_of_other_classes_are_refused_before_anything_is_trained(teachers, tmp_path):
    net((8, 8, 1), 9).save(tmp_path / "nine.keras")
    settings = {**teachers, "teacher": (teachers["teacher"][0], str(tmp_path / "nine.keras"))}
    with pytest.raises(ValueError, match='nine.keras" knows 9 classes'):
        chain(ChainSettings(**settings), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_settings_know_the_weighings_of_ensembles():
    assert sorted(training.WEIGHINGS) == sorted(weighing.WEIGHINGS)
