"""Settings: kinds, bounds, TOML and back."""

from typing import get_args

import pytest

from tfkd import recipes
from tfkd.settings import (
    CompareSettings,
    DistillSettings,
    ExportSettings,
    SearchSettings,
    SettingsError,
)


def test_toml_gives_the_same_settings_back(tmp_path):
    settings = DistillSettings(
        teacher_options={"depth": 14},
        student_options={"width": 0.25, "head": "gap"},
        hints=("stage1_out:stage1_out", "a/b:c"),
        limit=100,
    )
    path = tmp_path / "run.toml"
    path.write_text(settings.to_toml())
    assert DistillSettings.from_toml(path) == settings
    path.write_text(DistillSettings().to_toml())
    assert DistillSettings.from_toml(path) == DistillSettings()


def test_flags_win_over_toml_key_by_key(tmp_path):
    path = tmp_path / "settings.toml"
    path.write_text('epochs = 5\nlearning_rate = 1\n[student_options]\nwidth = 1.0\nhead = "fc"\n')
    settings = DistillSettings.from_toml(path, epochs=7, student_options={"width": 0.5})
    assert settings.epochs == 7
    assert settings.student_options == {"width": 0.5, "head": "fc"}
    assert settings.learning_rate == 1.0 and isinstance(settings.learning_rate, float)


def test_a_recipe_s_default_options_are_of_the_models_that_it_names():
    """A file is built already, and a function has options of its own."""
    settings = recipes.get("tatarnikova2025").settings
    own = settings()
    given = settings(student="/x/student.keras", teacher="models:big")
    assert own.student_options and own.teacher_options
    assert given.student_options == {} == given.teacher_options
    assert settings(teacher="models:big", teacher_options={"a": 1}).teacher_options == {"a": 1}
    assert settings(student="decoder").student_options == own.student_options


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"epoch": 3}, 'No setting "epoch". Did you mean "epochs"'),
        ({"epochs": 0}, "epochs is 0; it should be greater than or equal to 1 .default: 30"),
        ({"epochs": 2.5}, "epochs is 2.5; it should be a valid integer"),
        ({"epochs": True}, "epochs is True; it should be a valid integer"),
        ({"batch_size": "64"}, "batch_size is '64'; it should be a valid integer"),
        ({"learning_rate": 0.0}, "learning_rate is 0.0; it should be greater than 0"),
        ({"learning_rate": float("nan")}, "learning_rate is nan"),
        ({"temperature": -1}, "temperature is -1; it should be greater than 0"),
        ({"student_loss_weight": 1.5}, "less than or equal to 1"),
        ({"logits_weight": -0.1}, "logits_weight is -0.1; it should be greater than or equal to 0"),
        ({"weight_decay": -1.0}, "weight_decay is -1.0"),
        ({"label_smoothing": 1.0}, "label_smoothing is 1.0; it should be less than 1"),
        ({"early_stopping": 0}, "early_stopping is 0"),
        ({"optimizer": "adma"}, 'Did you mean "adam"'),
        ({"class_weight": "even"}, "There are: none, balanced"),
        ({"callback": "my_callback"}, "expected package.module:object"),
        ({"cache_gb": -1.0}, "cache_gb is -1.0"),
        ({"student": "s.keras", "student_options": {"width": 1}}, "Leave them out"),
        ({"hint_weight": float("inf")}, "hint_weight is inf"),
        ({"augment": "shfit"}, 'Did you mean "shift"'),
        ({"student": "resnt"}, "student: Unknown model 'resnt'. Did you mean \"resnet\""),
        ({"teacher": "resnt"}, "teacher: Unknown model .* .keras file"),
        ({"hints": "deepest"}, "teacher_layer:student_layer"),
        ({"hints": []}, "empty list"),
        ({"logits_weight": 0, "hints": "none"}, "Nothing is distilled"),
        ({"teacher": "t.keras", "teacher_options": {"depth": 8}}, "Leave them out"),
        ({"student_options": [1]}, "a valid dictionary"),
        ({"calibrate": True}, "nothing is exported. Say .*--export saved_model,int8"),
        ({"data": ""}, "data is .*at least 1 character"),
    ],
)
def test_what_cannot_be_is_refused_with_its_reason(values, message):
    with pytest.raises(SettingsError, match=message):
        DistillSettings(**values)


def test_broken_or_missing_toml(tmp_path):
    path = tmp_path / "settings.toml"
    path.write_text("epochs = = 3")
    with pytest.raises(SettingsError, match="settings.toml is not valid TOML.*line 1"):
        DistillSettings.from_toml(path)
    with pytest.raises(FileNotFoundError, match="No settings file"):
        DistillSettings.from_toml(tmp_path / "other.toml")


@pytest.mark.parametrize("kind", [DistillSettings, SearchSettings, CompareSettings, ExportSettings])
def test_every_setting_says_what_it_is_for(kind):
    for name, field in kind.model_fields.items():
        assert field.description and field.description.endswith((".", "told.")), name


def test_names_are_those_of_the_rooms_that_know_them():
    import keras

    from tfkd import data
    from tfkd.data.resizing import RULES
    from tfkd.settings.training import Augmentation, Optimizer, Resize

    assert list(get_args(Augmentation)) == data.augmentation_names()
    assert get_args(Resize) == RULES
    for name in get_args(Optimizer):
        assert type(keras.optimizers.get(name)).__name__.lower() == name


def test_paths_become_absolute_and_names_stay(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    settings = DistillSettings(data="./photos", data_dir="./d", teacher="t.keras").resolved()
    assert settings.data == str(tmp_path / "photos")
    assert settings.data_dir == str(tmp_path / "d")
    assert settings.teacher == str(tmp_path / "t.keras")
    assert DistillSettings().resolved() == DistillSettings()
    compared = CompareSettings(
        data=("./a", "digits"), teacher=("t.keras",), student=("s.keras", "resnet depth=8")
    ).resolved()
    assert compared.data == (str(tmp_path / "a"), "digits")
    assert compared.teacher == (str(tmp_path / "t.keras"),)
    assert compared.student == (str(tmp_path / "s.keras"), "resnet depth=8")


def test_paths_in_a_file_start_at_the_file_wherever_one_is(tmp_path, monkeypatch):
    (tmp_path / "project").mkdir()
    path = tmp_path / "project" / "settings.toml"
    path.write_text('data = "./photos"\nteacher = "t.keras"\ncache = "../cache"\n')
    monkeypatch.chdir("/")
    settings = DistillSettings.from_toml(path)
    assert settings.data == str(tmp_path / "project" / "photos")
    assert settings.teacher == str(tmp_path / "project" / "t.keras")
    assert settings.cache == str(tmp_path / "cache")
    path.write_text('data = ["./a", "digits"]\nstudent = "s.keras"\n')
    assert CompareSettings.from_toml(path).data == (str(tmp_path / "project" / "a"), "digits")


@pytest.mark.parametrize(
    ("kind", "line"),
    [
        (DistillSettings, 'teacher = "foreign.code:teacher"'),
        (DistillSettings, 'student = "foreign:net"'),
        (DistillSettings, 'callback = ["foreign:Callback"]'),
        (CompareSettings, 'student = ["resnet depth=8", "foreign:net width=2"]'),
    ],
)
def test_code_that_a_file_names_needs_trust(tmp_path, kind, line):
    path = tmp_path / "run.toml"
    path.write_text(line + "\n")
    with pytest.raises(SettingsError, match="names code to run: .*foreign.* --trust"):
        kind.from_toml(path)
    assert "foreign" in kind.from_toml(path, trust=True).to_toml()
    name = line.split(" ")[0]
    given = kind.from_toml(path, trust=True).to_dict()[name]
    assert kind.from_toml(path, **{name: given}) == kind.from_toml(path, trust=True)


def test_a_list_of_one_may_be_a_text_and_names_take_commas():
    assert DistillSettings(hints="a:b").hints == ("a:b",)
    assert DistillSettings(callback="my.module:Callback").callback == ("my.module:Callback",)
    assert DistillSettings(export="int8,saved_model").exports == ("saved_model", "int8")
    assert DistillSettings(export=("none",)) == DistillSettings()
    assert DistillSettings().exports == ()


def test_rows_of_a_comparison():
    settings = CompareSettings(
        data=("digits", "./photos"),
        teacher=("resnet depth=8", "photos.keras"),
        student=("modified_alexnet width=0.25", "my.module:net"),
        setting=("temperature=2 hints=none",),
        recipe=("xu2022 temperature=3",),
        epochs=7,
    )
    plain, recipe = settings.distillations()
    own = settings.row("./photos", "modified_alexnet width=0.25", plain)
    assert own == DistillSettings(
        data="./photos",
        teacher="photos.keras",
        student_options={"width": 0.25},
        temperature=2,
        hints="none",
        epochs=7,
    )
    own = settings.row("digits", "my.module:net", recipe)
    assert (own.teacher, own.teacher_options, own.student) == (
        "resnet",
        {"depth": 8},
        "my.module:net",
    )
    assert (own.recipe, own.recipe_options) == ("xu2022", {"temperature": 3})
    assert CompareSettings().distillations() == [("distilled", {})]
    by_methods = CompareSettings(setting=("loss=dkd,review:0.6",))
    own = by_methods.row("digits", "alexnet", *by_methods.distillations())
    assert own.loss == ("dkd", "review:0.6")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"student": ("resnet", "resnet")}, "student holds resnet twice: rows of one name"),
        ({"fraction": (0.5, 0.0)}, "fraction is"),
        ({"fraction": (1.5,)}, "expected above 0 to 1"),
        ({"teacher": ("resnet", "alexnet")}, "2 teachers for 1 data sets"),
        ({"student": ()}, "student is an empty list"),
        ({"student": ("resnt",)}, 'Did you mean "resnet"'),
        ({"student": ("resnet depth",)}, "expects NAME=VALUE"),
        ({"setting": ("temperatur=2",)}, 'Did you mean "temperature"'),
        ({"setting": ("temperature=0",)}, "temperature is 0; it should be greater than 0"),
    ],
)
def test_comparisons_that_cannot_be(values, message):
    with pytest.raises(SettingsError, match=message):
        CompareSettings(**values)
