"""Several students on several data sets from one command."""

import shutil

import pytest
from page_reader import Page
from PIL import Image
from small_runs import exact, read_record

from tfkd import data
from tfkd.runs import CompareSettings, compare, evaluate_run, predict

STUDENTS = ("small_runs:net units=3", "small_runs:net units=5")


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """A folder of images of three classes."""
    root = tmp_path_factory.mktemp("data") / "photos"
    counts = dict.fromkeys((0, 1, 2), 0)
    for image, label in data.load("digits").train.as_numpy_iterator():
        if counts.get(int(label), 30) < 30:
            counts[int(label)] += 1
            path = root / "xyz"[int(label)] / f"{counts[int(label)]}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image[..., 0]).save(path)
    return root


@pytest.fixture(scope="module")
def compared(photos, finished, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "compared"
    settings = CompareSettings(
        data=("digits", str(photos)),
        teacher=(str(finished[0] / "teacher.keras"), "small_runs:net units=9"),
        student=STUDENTS,
        setting=("hints=none",),
        train_teacher=True,
        any_teacher=True,
        augment="none",
        limit=60,
        epochs=1,
        teacher_epochs=1,
        seeds=1,
    )
    return out, compare(settings, out), settings


def test_one_table_of_all_with_gains_over_the_same_student_alone(compared, capsys):
    out, record, settings = compared
    rows = [
        f"{name}, {student}, {way}"
        for name in ("digits", "photos")
        for student in STUDENTS
        for way in ("alone", "hints=none")
    ]
    assert [row["name"] for row in record["rows"]] == rows
    assert list(record["figures"]) == [
        *("teacher teacher.keras", *rows[:4], "teacher small_runs:net", *rows[4:])
    ]
    for alone, taught in zip(rows[::2], rows[1::2], strict=True):
        own, base = (record["figures"][row][0] for row in (taught, alone))
        assert own["gain"] == own["accuracy"] - base["accuracy"] and "gain" not in base
        assert own["parameters"] == base["parameters"]
        assert record["gains"][taught]["accuracy"] == [own["gain"]]
    assert [own["name"] for own in record["data"]] == ["digits", "photos"]
    assert record["data"][1]["label_names"] == ["x", "y", "z"]
    assert {path.name for path in out.glob("teacher*.keras")} == {"teacher.keras", "teacher2.keras"}
    table = (out / "table.md").read_text()
    assert all(f"| {row} " in table for row in rows) and "--data photos" in table


def test_the_student_of_the_run_is_the_best_on_the_first_data_set(compared):
    out, record, _ = compared
    taught = [row for row in record["rows"] if row.get("baseline") and row.get("data", 0) == 0]
    trained = record["trainings"]
    best = max(taught, key=lambda row: trained[f"0/{row['file']}"]["figures"]["accuracy"])
    assert record["main"] == best["name"]
    kept = out / f"seeds/0/{best['file']}.keras"
    assert (out / "student.keras").read_bytes() == kept.read_bytes()


def test_it_is_evaluated_where_its_data_has_moved(compared, photos, tmp_path):
    out, record, settings = compared
    moved = tmp_path / "elsewhere"
    shutil.move(photos, moved)
    try:
        with pytest.raises(FileNotFoundError, match="give --data"):
            evaluate_run(out)
        figures = evaluate_run(out, data=("digits", str(moved)))
        assert exact({**record, "figures": figures}) == exact(record)
    finally:
        shutil.move(moved, photos)


def test_each_row_answers_with_the_classes_of_its_data(compared, photos):
    lines = predict(compared[0], [photos / "x/1.png"], row=f"photos, {STUDENTS[0]}, alone", top=9)
    assert sorted(line["label"] for line in lines) == ["x", "y", "z"]
    lines = predict(compared[0], [photos / "x/1.png"], top=99)
    assert len(lines) == 10


def test_a_finished_comparison_stays_and_another_is_refused(compared):
    out, record, settings = compared
    assert compare(settings, out, resume=True) == record == read_record(out)
    with pytest.raises(ValueError, match="other settings: epochs"):
        compare(settings.replace(epochs=2), out, resume=True)


def test_its_page_has_a_matrix_of_all_gains(compared):
    out, record, _ = compared
    page = Page((out / "report.html").read_text("utf-8")).check()
    headings, line = page.table("Gain over the same student alone")
    assert headings[1:] == [f"{name}, {own}" for name in ("digits", "photos") for own in STUDENTS]
    assert line[0] == "hints=none"
    for where, cell in zip(headings[1:], line[1:], strict=True):
        row = f"{where}, hints=none"
        gain, accuracy = (100 * record["figures"][row][0][key] for key in ("gain", "accuracy"))
        assert cell == f"{gain:+.2f} {accuracy:.1f} %"
    assert page.headings[0] == (1, "compare on digits, photos")
    assert "4 gains over the same student alone, of one seed each" in page.text
    assert f"The student that the run kept is {record['main']}" in page.text
