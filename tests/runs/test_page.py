"""The page of a run: its figures are those of the record, and it stands alone."""

import base64
import io
import json
import math
import shutil
import subprocess
import sys

import keras
import numpy as np
import pytest
from page_reader import Page
from PIL import Image

from tfkd import data, tasks
from tfkd.runs import RunDirectory, page, report, report_run
from tfkd.runs.page import charts, collecting, verdict
from tfkd.runs.training import examples

SECTIONS = ("result", "learning", "knowledge", "calibration", "cost", "data", "notes", "rerun")


@pytest.fixture(scope="module")
def shown(finished):
    """The `Page` that the run wrote at its end."""
    return Page((finished[0] / "report.html").read_text("utf-8")).check()


@pytest.fixture(scope="module")
def kept(finished):
    return json.loads((finished[0] / "report.json").read_text())


@pytest.fixture
def copied(finished, tmp_path):
    """A copy of the run's directory that a test may change."""
    out = tmp_path / "run"
    shutil.copytree(finished[0], out)
    return out


def changed(path, **values):
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def pixels(picture):
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(picture["data"]))))


def test_the_page_holds_every_section_and_stands_alone(shown):
    sections = [own["aria-labelledby"] for own in shown.all("section")]
    assert tuple(sections) == SECTIONS
    assert shown.headings[0] == (1, "distill on digits")
    assert "prefers-color-scheme: dark" in shown.source and "@media print" in shown.source


def test_its_figures_are_those_of_the_record(finished, shown):
    record = finished[1]
    headings, *lines = shown.table("Figures on the test split")
    assert headings == ["figure", "teacher", "alone", "distilled"]
    lines = {line[0]: line[1:] for line in lines}
    for name, heading, factor, decimals in (
        ("accuracy", "accuracy (%)", 100, 1),
        ("calibrated_cross_entropy", "cross-entropy, calibrated (nats)", 1, 3),
        ("parameters", "parameters", 1, 0),
    ):
        figures = [record["figures"][row][0][name] for row in headings[1:]]
        assert lines[heading] == [f"{factor * own:,.{decimals}f}" for own in figures]
    gain = 100 * record["gains"]["distilled"]["mean"]
    _, line = shown.table("Differences on the test split, in points of accuracy")
    assert line[:2] == ["distilled minus alone", f"{gain:+.2f}"]
    assert line[4] == "cannot be told from one seed"
    assert f"distilled minus alone: {gain:+.2f} points of accuracy on 359 test images" in shown.text
    settings = dict(shown.table("Settings of the run")[1:])
    assert settings["epochs"] == "3" and settings["teacher_options"] == "units=16"
    assert dict(shown.table("What it was made with")[1:])["keras"] == keras.__version__
    assert record["command"] in shown.text
    assert all(text in shown.text for text in record["findings"])


def test_what_was_kept_are_the_answers_of_the_models(finished, kept, shown):
    out, record = finished
    test = data.load("digits", limit=200).test
    images, labels = next(test.batch(500).as_numpy_iterator())
    answers = {
        role: np.asarray(keras.models.load_model(out / f"{role}.keras")(images)).argmax(1)
        for role in ("teacher", "student")
    }
    for role, row in (("teacher", "teacher"), ("student", "distilled")):
        own, figures = kept[role], record["figures"][row][0]
        matrix = np.diag(own["right"])
        for label, answer, count in own["wrong"]:
            matrix[label, answer] = count
        expected = np.zeros((10, 10), int)
        np.add.at(expected, (labels, answers[role]), 1)
        assert (matrix == expected).all()
        cells = shown.table(f"{row}: rows are classes")[1:]
        assert [line[1:] for line in cells] == expected.astype(str).tolist()
        bins = page.kept.Bins(**own["bins"])
        assert bins.error == pytest.approx(figures["calibration_error"])
        calibrated = page.kept.Bins(**own["calibrated"])
        assert calibrated.error == pytest.approx(figures["calibrated_calibration_error"])
    differ = answers["teacher"] != answers["student"]
    assert kept["only_teacher"] == (differ & (answers["teacher"] == labels)).sum()
    assert kept["only_student"] == (differ & (answers["student"] == labels)).sum()
    assert kept["both_wrong_differ"] == differ.sum() - kept["only_teacher"] - kept["only_student"]
    assert 0 < len(kept["differing"]) <= 24
    groups = []
    for own in kept["differing"]:
        (place,) = np.flatnonzero((images[..., 0] == pixels(own["picture"])).all((1, 2)))
        found = (labels[place], answers["teacher"][place], answers["student"][place])
        assert (own["label"], own["teacher"], own["student"]) == found
        assert own["teacher"] != own["student"]
        groups.append((own["teacher"] != own["label"]) + (own["label"] not in found[1:]))
    assert groups == sorted(groups)  # the teacher is right, then the student, then neither
    for dataset in (test, test.map(lambda *own: own)):  # in memory, and only to be read in order
        found = collecting.images_at(dataset, [17, 0, 5])
        assert sorted(found) == [0, 5, 17] and all((found[n] == images[n]).all() for n in found)
    lines = {line[0]: line for line in shown.table("Test accuracy by class")[1:]}
    right = (answers["student"] == labels)[labels == 7].mean()
    assert lines["7"][3] == f"{100 * right:.1f}"


def test_samples_are_what_the_students_saw(kept, small):
    splits, settings = data.load("digits", limit=200), small.resolved()
    originals = next(splits.train.batch(300).as_numpy_iterator())[0][..., 0]
    epochs = examples(splits.train, settings, 3, views=3)
    seen = [np.concatenate([x.numpy()[..., 0] for x, _ in epochs]) for _ in range(3)]
    assert len(kept["samples"]) == 6 and kept["views"] == 3
    assert len({own["label"] for own in kept["samples"]}) == 6
    for own in kept["samples"]:
        for among, picture in zip([originals, *seen], [own["picture"], *own["views"]], strict=True):
            assert (among == pixels(picture)).all((1, 2)).any()


def test_it_is_made_from_what_was_kept_without_tensorflow(finished, copied):
    shutil.rmtree(copied / "seeds")
    for path in [*copied.glob("*.keras"), copied / "report.html"]:
        path.unlink()
    code = "import sys; sys.modules['tensorflow'] = None; import tfkd.cli; tfkd.cli.main()"
    words = [sys.executable, "-c", code, "report", str(copied)]
    done = subprocess.run(words, capture_output=True, text=True)
    assert (done.returncode, done.stdout.strip()) == (0, str(copied / "report.html")), done.stderr
    assert (copied / "report.html").read_bytes() == (finished[0] / "report.html").read_bytes()


def test_names_with_markup_are_shown_as_they_are(copied):
    names = ['<script>alert("1")</script>', '"><img src=x onerror=alert(1)>', *"23456789"]
    record = json.loads((copied / "run.json").read_text())
    record["data"][0] |= {"label_names": names, "name": "<b>digits</b>"}
    record["notes"] = ["</ul><script>2</script>"]
    changed(copied / "run.json", data=record["data"], notes=record["notes"])
    found = Page(page.render(RunDirectory(copied))).check()
    assert found.headings[0][1] == "distill on <b>digits</b>"
    assert not found.all("b") and not [own for own in found.all("img") if own["src"] == "x"]
    assert [line[0] for line in found.table("teacher: rows are")[1:3]] == names[:2]
    assert "</ul><script>2</script>" in found.text


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "The answers of teacher and student were not kept"),
        ('{"format": 1', 'report.json" is damaged'),
        ('{"format": 1}', 'report.json" is no record of a run: '),
    ],
    ids=["older", "damaged", "foreign"],
)
def test_without_what_was_kept_the_page_says_so(copied, content, said):
    (copied / "report.json").unlink()
    if content:
        (copied / "report.json").write_text(content)
    found = Page(page.render(RunDirectory(copied))).check()
    assert said in found.text and len(found.table("Figures on")) == 15
    assert not found.all("img")


def test_what_is_of_another_run_or_of_no_class_is_not_shown(copied, kept):
    changed(copied / "report.json", seed=9)
    assert "is about distilled, seed 9" in Page(page.render(RunDirectory(copied))).text
    changed(copied / "report.json", student={**kept["student"], "wrong": [[0, 10, 1]]})
    assert "classes that are not among the 10" in Page(page.render(RunDirectory(copied))).text
    picture = {**kept["samples"][0]["picture"], "data": 'x" onerror="alert(1)'}
    changed(copied / "report.json", samples=[{**kept["samples"][0], "picture": picture}])
    assert "onerror" not in [
        name for _, own in Page(page.render(RunDirectory(copied))).tags for name in own
    ]


def test_an_unfinished_run_shows_what_is_there(finished, copied):
    for name in ("run.json", "seeds/3/distilled.json"):
        (copied / name).unlink()
    found = Page(report_run(copied).read_text("utf-8")).check()
    assert "Unfinished" in found.text and "2 trainings are done" in found.text
    assert "The command that began it goes on with --resume." in found.text
    lines = {line[0]: line[1:] for line in found.table("Trainings that are done")[1:]}
    trainings = finished[1]["trainings"]
    assert list(lines) == ["teacher", "3/alone"]
    assert lines["3/alone"][0] == f"{100 * trainings['3/alone']['figures']['accuracy']:.2f}"
    assert dict(found.table("Settings of the run")[1:])["epochs"] == "3"


def test_of_many_classes_the_most_confused_pairs_are_kept():
    labels = np.repeat(np.arange(40), 2)
    answers = np.where(labels < 30, 0, labels)  # the pairs (1, 0) to (29, 0), twice each
    answers[2] = 5
    logits = np.eye(40)[answers]
    own = collecting.answers_of("x", logits, labels, 1.0)
    assert own.wrong == [*([n, 0, 2] for n in range(2, 30)), [1, 0, 1], [1, 5, 1]]
    assert own.right == [2] + [0] * 29 + [2] * 10
    assert len(collecting.answers_of("x", np.eye(99), (np.arange(99) + 1) % 99, 1.0).wrong) == 30


def test_thousands_of_classes_are_cut_and_said_to_be(copied, kept):
    count = 4000
    own = kept["student"] | {"right": [1] * count, "wrong": [[7, 8, 3]] * 30}
    record = json.loads((copied / "run.json").read_text())
    record["data"][0]["label_names"] = [f"class number {n}" for n in range(count)]
    changed(copied / "run.json", data=record["data"])
    values = dict.fromkeys(("student", "teacher", "alone"), own)
    changed(copied / "report.json", images=[2] * count, **values)
    found = Page(page.render(RunDirectory(copied))).check()
    assert "3960 further classes left out" in found.text
    assert len(found.table("Test accuracy by class")) == 41
    line = found.table("The classes that the teacher confuses most")[1]
    assert line == ["class number 7", "class number 8", "3", "2"]
    assert "4000 classes are too many for a matrix" in found.text


def test_a_page_that_cannot_be_written_is_said_and_takes_no_run_with_it(copied, tmp_path, capsys):
    (copied / "report.html").unlink()
    (copied / "report.html").mkdir()
    with pytest.raises(OSError, match="cannot be written.*--out FILE"):
        report_run(copied)
    report.write_page(RunDirectory(copied))
    said = capsys.readouterr().out
    assert "The page was not written" in said and "The run itself is whole." in said
    path = report_run(copied, tmp_path / "elsewhere" / "page.html")
    assert path.read_bytes().startswith(b"<!DOCTYPE html>")


TASK = tasks.get("classification")


def test_a_gain_is_judged_by_students_t():
    # Mean 0.02, standard error 0.01/√3, and t of two degrees of freedom is 4.3027 at 97.5 %.
    gain = verdict.judged([0.01, 0.03, 0.02], 1000, TASK)
    assert (gain.mean, gain.error) == pytest.approx((0.02, 0.01 / math.sqrt(3)))
    half = 4.302653 * 0.01 / math.sqrt(3)
    assert (gain.low, gain.high) == pytest.approx((0.02 - half, 0.02 + half), rel=1e-6)
    assert gain.reading == "open"
    assert verdict.judged([0.02, 0.022, 0.021], 1000, TASK).reading == "better"
    assert verdict.judged([-0.02, -0.022, -0.021], 1000, TASK).reading == "worse"
    # Two seeds that happen to agree to one image of a hundred prove nothing.
    assert verdict.judged([0.02, 0.02], 100, TASK).error == pytest.approx(0.01 / math.sqrt(2))
    assert verdict.judged([0.02, 0.02], 100, TASK).reading == "open"
    assert verdict.judged([0.5], 100, TASK).reading == "one seed"


def test_a_verdict_says_gain_error_interval_and_whether_it_is_chance():
    gain = verdict.judged([0.02, 0.022, 0.021], 1000, TASK)
    said = verdict.sentence(gain, "distilled minus alone", 1000, TASK)
    assert said == (
        "distilled minus alone: +2.10 points of accuracy on 1,000 test images (mean over 3 seeds, "
        "standard error 0.06, 95 % interval +1.85 to +2.35). The gain is beyond what chance "
        "between seeds explains."
    )


def test_values_stand_where_the_axis_has_them():
    axis = charts.axis("x", [1, 100], 10, 110, log=True)
    # log10 from 0.8 to 125: 1 and 100 stand symmetrically about the middle.
    assert axis.place(10) == 60 and axis.place(1) + axis.place(100) == 120
    assert [text for _, text in axis.ticks] == ["1", "2", "5", "10", "20", "50", "100"]
    decades = charts.axis("x", [1, 1000], 10, 110, log=True)
    assert [text for _, text in decades.ticks] == ["1", "10", "100", "1000"]
    chart = charts.curves("t", "accuracy (%)", {"a": (0, [[0.1, 0.3], [0.3]])}, factor=100)
    (series,) = chart.series
    x, y = chart.x, chart.y
    assert series.line == f"{x.place(1)},{y.place(0.2)} {x.place(2)},{y.place(0.3)}"
    corners = [(1, 0.3), (2, 0.3), (2, 0.3), (1, 0.1)]
    assert series.band == " ".join(f"{x.place(a)},{y.place(b)}" for a, b in corners)
    assert {text for _, text in chart.y.ticks} >= {"10", "20", "30"}
