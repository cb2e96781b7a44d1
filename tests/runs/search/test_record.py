"""What a search keeps of itself: checked when read, and the same on any machine."""

import json
from types import SimpleNamespace

import pytest

from tfkd.runs import SearchSettings
from tfkd.runs.search.directory import SearchDirectory
from tfkd.runs.search.record import Inputs, inputs_of, portable, read_record

INFO = SimpleNamespace(name="/home/me/photos", fingerprint="sha256:data")
RECORD = {
    "inputs": {
        "settings": {},
        "data": {"name": "digits", "fingerprint": "sha256:data"},
        "teacher": {"name": "teacher.keras", "file": "sha256:file", "weights": "sha256:weights"},
    },
    "data": {"name": "digits", "fingerprint": "sha256:data", "sizes": {"test": 359}},
    "trials_asked_for": 3,
    "trials": [
        {
            "trial": "0000",
            "status": "COMPLETED",
            "score": 0.5,
            "values": {"temperature": 4.0},
            "mean": {"val_accuracy": 0.5},
            "std": {"val_accuracy": None},
            "executions": [{"seed": 0}],
            "parameters": 42,
            "seconds": 1.5,
            "message": None,
        }
    ],
    "best": {"trial": "0000", "values": {"temperature": 4.0}},
    "pareto": [],
    "final_seeds": [1, 2],
    "figures": {"teacher": [{"accuracy": 0.9, "parameters": 650}]},
    "searched_minus_defaults": {"accuracy": [0.1], "mean": 0.1},
}


def changed(path, value):
    """The text of `RECORD` with one entry changed, or left out where `value` is None."""
    content = json.loads(json.dumps(RECORD))
    *parents, last = path.split(".")
    place = content
    for name in parents:
        place = place[int(name)] if isinstance(place, list) else place[name]
    if value is None:
        del place[last]
    else:
        place[last] = value
    return json.dumps(content)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "EOF"),
        (json.dumps(RECORD)[:-30], "EOF"),
        ("\x00\x01\xff", "expected"),
        ("[]", "should be an object|valid dictionary|instance of SearchRecord"),
        ('{"run": 1}', "inputs: Field required"),
        (changed("inputs", {"data": "sha256:old"}), "inputs.settings: Field required"),
        (changed("trials_asked_for", 0), "trials_asked_for"),
        (changed("trials_asked_for", "3"), "trials_asked_for"),
        (changed("trials.0.trial", "../../etc"), "trials.0.trial"),
        (changed("trials.0.score", "high"), "trials.0.score"),
        (changed("best.trial", "a/b"), "best.trial"),
        (changed("pareto", ["../0"]), "pareto.0"),
        (changed("final_seeds", []), "final_seeds"),
        (changed("figures.teacher", {"accuracy": 1}), "figures.teacher"),
        (changed("searched_minus_defaults", None), "searched_minus_defaults"),
    ],
)
def test_a_record_that_is_damaged_foreign_or_older_is_named(text, words, tmp_path):
    path = tmp_path / "search.json"
    path.write_text(text, encoding="latin-1")
    with pytest.raises(ValueError, match=f'search.json" cannot be used: .*({words})'):
        read_record(path)
    with pytest.raises(ValueError, match="search.json"):
        SearchDirectory(tmp_path).record()


def test_a_whole_record_is_read_as_it_is(tmp_path):
    (tmp_path / "search.json").write_text(json.dumps({**RECORD, "more": 1}))
    assert read_record(tmp_path / "search.json") == {**RECORD, "more": 1}
    assert SearchDirectory(tmp_path / "nothing").record() is None


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"settings": {}}', '{"data": 1}', "\x00"])
def test_damaged_inputs_come_from_the_record_or_are_refused(damage, tmp_path):
    directory = SearchDirectory(tmp_path)
    assert directory.inputs() is None
    (tmp_path / "inputs.json").write_text(damage)
    with pytest.raises(ValueError, match='inputs.json" cannot be used.*--overwrite'):
        directory.inputs()
    (tmp_path / "search.json").write_text(json.dumps(RECORD))
    assert directory.inputs() == Inputs(**RECORD["inputs"])


def test_settings_name_data_and_teacher_and_no_place(tmp_path):
    teacher = tmp_path / "teacher.keras"
    teacher.write_bytes(b"weights")
    settings = SearchSettings(
        data="/home/me/photos", data_dir="/data", teacher=str(teacher), cache="/tmp/cache"
    )
    elsewhere = settings.replace(data="/mnt/photos", data_dir="/mnt", cache=None)
    assert portable(settings) == portable(elsewhere)
    assert (portable(settings)["data"], portable(settings)["teacher"]) == ("photos", teacher.name)
    inputs = inputs_of(settings, INFO, "sha256:file")
    text = inputs.model_dump_json()
    assert str(tmp_path) not in text and "/home" not in text and "/data" not in text
    assert Inputs.model_validate_json(text) == inputs
    assert inputs == inputs_of(elsewhere, INFO, "sha256:file")


def test_what_changed_is_named():
    settings = SearchSettings()
    begun = inputs_of(settings, INFO, "sha256:file")
    assert begun.changed(begun) == [] == begun.changed(inputs_of(settings, INFO))
    other_data = SimpleNamespace(name=INFO.name, fingerprint="sha256:other")
    assert begun.changed(inputs_of(settings, other_data, "sha256:file")) == ["data"]
    assert begun.changed(inputs_of(settings, INFO, "sha256:other")) == ["teacher"]
    assert begun.changed(inputs_of(settings, other_data, "sha256:other")) == ["data", "teacher"]
    known = begun.teacher.model_copy(update={"weights": "sha256:1"})
    other = begun.teacher.model_copy(update={"weights": "sha256:2"})
    known, other = (begun.model_copy(update={"teacher": own}) for own in (known, other))
    assert known.changed(other) == ["teacher"] and known.changed(begun) == []


def test_a_directory_goes_on_with_the_same_settings_only_wherever_it_lies(tmp_path):
    settings = SearchSettings(data_dir="/data")
    directory = SearchDirectory(tmp_path)
    (tmp_path / ".partial-inputs.json").write_text("{")  # of one killed before it began
    directory.check_free(settings)
    inputs = inputs_of(settings, SimpleNamespace(name="digits", fingerprint="sha256:data"))
    (tmp_path / "inputs.json").write_text(inputs.model_dump_json())
    (tmp_path / "search.toml").write_text("")  # written anew by whoever goes on
    directory.check_free(settings.replace(data_dir="/elsewhere", trials=99, workers=2))
    with pytest.raises(ValueError, match="another search: epochs: 5, not 6; seed: 0, not 1"):
        directory.check_free(settings.replace(epochs=6, seed=1))
    directory.check_free(settings.replace(epochs=6), overwrite=True)
