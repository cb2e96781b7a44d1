"""`tfkd layers`: of a name, a file and a function of one's own, and what it refuses at once."""

import pytest

from tfkd import runs
from tfkd.cli import main
from tfkd.settings import SettingsError


def test_a_name_is_built_and_its_stages_are_marked(capsys):
    options = ["--option", "depth=8", "--option", "width=0.25"]
    main(["layers", "resnet", "--input-shape", "8,8,1", "--classes", "4", *options])
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["stage3_out", "*", "ReLU", "(batch,", "4,", "4,", "16)"] in lines
    assert ["logits", "Dense", "(batch,", "4)", str(16 * 4 + 4)] in lines
    assert ["layer", "kind", "shape", "parameters"] in lines


def test_functions_and_files_are_listed(tmp_path, capsys):
    from small_runs import net

    listed = runs.layers("small_runs:net", (4, 4, 1), 3, {"units": 5})
    assert [own.shape for own in listed] == [None, (None, 16), (None, 5), (None, 3)]
    net((4, 4, 1), 3).save(tmp_path / "net.keras")
    assert [own.path for own in runs.layers(str(tmp_path / "net.keras"))] == [
        *("image", "flat", "hidden", "logits")
    ]
    said = capsys.readouterr().out
    assert 'the output of "net", (batch, 3)' in said and "hidden" in said


@pytest.mark.parametrize(
    ("model", "given", "error", "message"),
    [
        ("resnet", {}, SettingsError, "say for which, such as --input-shape 32,32,3"),
        ("resnett", {}, SettingsError, "resnett"),
        ("./no.keras", {}, FileNotFoundError, 'No model file "./no.keras"'),
        ("./no.keras", {"options": {"a": 1}}, SettingsError, "Leave them out"),
    ],
)
def test_what_cannot_be_listed_is_said_at_once(model, given, error, message):
    with pytest.raises(error, match=message):
        runs.layers(model, **given)


def test_a_shape_is_three_numbers(capsys):
    with pytest.raises(SystemExit):
        main(["layers", "resnet", "--input-shape", "8,8", "--classes", "4"])
    assert "expected HEIGHT,WIDTH,CHANNELS" in capsys.readouterr().err
