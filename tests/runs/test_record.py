"""run.json is read with suspicion: damaged, foreign and old ones are named, and nothing is run."""

import json

import pytest

from tfkd.runs import RunDirectory, evaluate_run, export_run
from tfkd.runs.record import Begun, Outcome, Record
from tfkd.settings import ExportSettings


@pytest.fixture
def content(finished):
    return json.loads(json.dumps(finished[1]))


def read(tmp_path, content):
    path = tmp_path / "run.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return Record.read(path)


def test_a_record_comes_back(finished, content, tmp_path):
    record = read(tmp_path, content)
    assert record.content() == content
    record.write(tmp_path / "again.json")
    assert (tmp_path / "again.json").read_bytes() == (finished[0] / "run.json").read_bytes()


@pytest.mark.parametrize("text", ["", '{"format": 2, "rows": [', "\x00\x00"])
def test_a_damaged_record_is_named(tmp_path, text):
    with pytest.raises(ValueError, match='run.json" is damaged: .*--resume'):
        read(tmp_path, text)


def test_a_record_in_which_lessons_were_called_tasks_is_read(content, tmp_path):
    expected = read(tmp_path, content).knowledge
    for own in content["knowledge"]:
        own["task"] = own.pop("lesson")
    assert expected and read(tmp_path, content).knowledge == expected


def test_a_run_of_another_version_is_named_and_not_misread(content, tmp_path):
    old = {"tfkd": "0.1.0", "settings": {}, "figures": {"teacher": []}, "kept_seed": 0}
    with pytest.raises(ValueError, match=r"is of format 1 \(tfkd 0.1.0\); this version reads"):
        read(tmp_path, old)
    with pytest.raises(ValueError, match=r"is of format 3 \(tfkd 9.9\)"):
        read(tmp_path, {**content, "format": 3, "tfkd": "9.9"})
    (tmp_path / "run.json").write_text(json.dumps(old))
    for command in (evaluate_run, lambda path: export_run(path, ExportSettings())):
        with pytest.raises(ValueError, match="of format 1"):
            command(tmp_path)


@pytest.mark.parametrize("name", ["../../victim", "/etc/passwd", "a/../../b", ""])
@pytest.mark.parametrize("where", ["rows", "teachers"])
def test_names_stay_inside_the_directory(content, tmp_path, where, name):
    content[where][0]["file"] = name
    with pytest.raises(ValueError, match=f"run.json.* is no record of a run: .*{name}.* leads out"):
        read(tmp_path, content)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seeds": []}, "seeds"),
        ({"rows": "alone"}, "rows is 'alone'"),
        ({"figures": {"alone": [{"accuracy": "high"}]}}, "figures.alone.0.accuracy"),
        ({"run_this": "os.system"}, 'No setting "run_this"'),
        ({"kind": "malware"}, "kind is 'malware'"),
    ],
)
def test_what_is_no_record_is_refused(content, tmp_path, change, message):
    with pytest.raises(ValueError, match=f"run.json.*{message}"):
        read(tmp_path, {**content, **change})


def test_a_recipe_that_a_record_names_is_one_of_ours_or_nothing(content, finished, tmp_path):
    import shutil

    out = tmp_path / "run"
    shutil.copytree(finished[0], out)
    content["rows"][1]["recipe"] = "os"
    (out / "run.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match="No recipe 'os'"):
        evaluate_run(out)


def test_rows_are_found_by_name(content, tmp_path):
    record = read(tmp_path, content)
    assert record.row().name == "distilled" and record.row("alone").name == "alone"
    with pytest.raises(ValueError, match='no row "alnoe". There are: alone, distilled'):
        record.row("alnoe")


def test_an_outcome_that_is_not_whole_is_none(finished, tmp_path):
    path = tmp_path / "alone.json"
    assert Outcome.read(path) is None
    whole = (finished[0] / "seeds/3/alone.json").read_text()
    for text in ("", whole[:100], "[]", '{"training": {}}'):
        path.write_text(text)
        assert Outcome.read(path) is None
    path.write_text(whole)
    assert Outcome.read(path).history["loss"]


def test_what_a_run_began_with_is_checked_too(tmp_path):
    path = tmp_path / "begun.json"
    path.write_text('{"inputs": {"data digits": 3}}')
    with pytest.raises(ValueError, match="begun.json.*inputs.data digits is 3"):
        Begun.read(path)
    assert not RunDirectory(tmp_path).finished
